"""Restores arrays from Python: `semanir_jax.load`."""

import os
import pathlib
import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from semanir_jax.degradations import bayer
from semanir_jax.films import reading
from semanir_jax.images import color
from semanir_jax.images.level_range import LevelRange
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.networks.load import load_network
from semanir_jax.networks.loaded_network import LoadedNetwork
from semanir_jax.restoration import film_frames, pixel_formats

_DTYPES = (np.uint8, np.uint16, np.float32)


class Frame(NamedTuple):
  """A restored frame of a film.

  Attributes:
    seconds: when it is shown, exactly.
    pixels: `[H * S, W * S, C]` RGB, or C = 1 for a gray film; uint8, or uint16
      where the film has more than 8 bits, black at 0 and white at the largest.
  """

  seconds: Fraction
  pixels: np.ndarray


class Network:
  """A trained network that restores arrays.

  Attributes:
    model: the Flax module.
    params: its parameters.
    config: what it was trained with, as nested dicts.
    scale: sides of the result over those of the input.
    channels: of its input; 1 gray, 3 RGB. A network for mosaics takes an RGGB
      mosaic of 1 channel too.
  """

  def __init__(
    self, network: LoadedNetwork, *, num_keys: int | None, **options: Any
  ) -> None:
    """Prepares a network; `load` calls it and has the options."""
    self.model, self.params = network.model, network.params
    self.config = network.config
    self.scale, self.channels = self.model.scale, self.model.in_channels
    self._network, self._num_keys = network, num_keys
    self._restorer = TiledRestorer(network, num_keys=num_keys, **options)

  def __repr__(self) -> str:
    return f"<Network: {self._network.describe(self._num_keys)}>"

  def __call__(
    self,
    image: np.ndarray,
    *,
    black_level: int | None = None,
    white_level: int | None = None,
  ) -> np.ndarray:
    """Restores one image of any size.

    Args:
      image: `[H, W, C]`, or `[H, W]` for C = 1; uint8, uint16, or float from
        black at 0 to white at 1. Noise may exceed a float's range by up to 1,
        because benchmarks do not clip it. A network that was trained on mosaics
        alone takes C = 1 as an RGGB mosaic, whose sides must be even, and C = 3
        as one that is filled in already. A gray network takes R = G = B too.
      black_level: the integer that is black; None for 0.
      white_level: the integer that is white, for example 1023 for 10 bits in
        uint16; None for the largest of the type. The result has the same
        levels.

    Returns:
      `[H * S, W * S, C']` of the input's type and range, rounded and clipped;
      float32 for float64. It has two axes where the input has two, except that
      mosaics become RGB.

    Raises:
      ValueError: shape, type, range, levels or channels do not fit, or the
        network returns NaN or infinity.
    """
    image = _checked(image)
    level_range = LevelRange(black_level, white_level)
    if image.dtype != np.float32:
      level_range.check(image)
      if not level_range and (
        advice := pixel_formats.level_advice(image, "white_level")
      ):
        warnings.warn(f"image: {advice}", stacklevel=2)
    elif level_range:
      raise ValueError("levels are of integers; of floats black is 0, white 1")
    pixels = image[..., None] if image.ndim == 2 else image
    mosaic = self._network.takes_mosaics and pixels.shape[2] == 1
    gray = pixels.shape[2] == 3 > self.channels and color.is_gray(pixels)
    if mosaic:
      sensor = pixels[..., 0]
      pixels = bayer.fill_in(
        level_range.to_unit(sensor) if level_range else sensor
      )
    elif gray:
      pixels = pixels[..., :1]
    elif pixels.shape[2] != self.channels:
      raise ValueError(self._explain_channels(image))
    bands = self._restorer.bands(pixels, level_range)
    result = np.concatenate(list(map(np.copy, bands)))
    if image.dtype == np.float32:
      result = np.clip(result, 0, 1)
    else:
      result = level_range.from_unit(
        result, image.dtype, level_range.span(image)
      )
    if gray and result.shape[2] == 1:
      result = np.repeat(result, 3, axis=2)
    return result[..., 0] if image.ndim == 2 and not mosaic else result

  def frames(self, path: str | os.PathLike[str]) -> Iterator[Frame]:
    """Restores the frames of a film one by one, as they are asked for.

    Frames come as they are stored: a film that players turn is not turned.
    Damaged frames are logged and left out. This needs the extra `video`.

    Args:
      path: of an mp4, mov, mkv or webm file.

    Raises:
      FileError: the film cannot be read, it has colours where the network takes
        gray, or PyAV is missing.
    """
    film = reading.probe(pathlib.Path(path))
    film_frames.check_channels(film, self._network)
    read = reading.read_frames(film, reading.Damage(film.path))
    restored = film_frames.restore_arrays(self._restorer, film, read)
    return (Frame(pts * film.time_base, pixels) for pts, pixels in restored)

  def _explain_channels(self, image: np.ndarray) -> str:
    """Says in a line why an image has the wrong channels, and what to do."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    remedy = "channels are the last axis"
    if channels == 4 < image.shape[0]:
      remedy = "leave out alpha: image[..., :3]"
    elif channels == 3 > self.channels:
      remedy = "it has colours: take a colour network, or make it gray"
    elif channels == 1:
      gray = "image" if image.ndim == 3 else "image[..., None]"
      remedy = f"repeat a gray one: np.repeat({gray}, 3, axis=2)"
    return (
      f"image of shape {image.shape}: this network takes {self.channels}"
      f" channels; {remedy}"
    )


def _checked(image: np.ndarray) -> np.ndarray:
  """Returns an image in a type of `_DTYPES`.

  Raises:
    ValueError: it has another shape, type or range.
  """
  image = np.asarray(image)
  image = image.astype(image.dtype.newbyteorder("="), copy=False)
  if image.dtype == np.float64:
    image = image.astype(np.float32)
  if image.dtype not in _DTYPES or image.ndim not in (2, 3) or not image.size:
    raise ValueError(
      f"image of {image.dtype}, shape {image.shape}: give [height, width] or"
      " [height, width, channels], one image at a time, uint8, uint16 or"
      " float32"
    )
  if np.isnan(image.min()):
    raise ValueError("the image has NaN: mend what made it")
  if image.dtype == np.float32 and not (image.min() >= -1 and image.max() <= 2):
    raise ValueError(
      f"float32 image with values from {image.min()} to {image.max()}: white"
      " is 1, and noise exceeds it by no more than 1; divide by 255"
    )
  return image


def load(
  name: str | os.PathLike[str],
  *,
  num_keys: int | None = None,
  tile: int | None = None,
  self_ensemble: bool = False,
) -> Network:
  """Loads a trained network.

  A network that was trained on mosaics alone takes RGGB mosaics of one channel,
  and RGB that Malvar's filters made of them (see `Network.__call__`).

  Args:
    name: of a bundled network, a `.safetensors` file or a training run, see
      `networks.load.load_network`.
    num_keys: k, keys per token; None for the network's own.
    tile: side of overlapping tiles, px; None for what fits the memory.
    self_ensemble: mean over 8 flips and turns, in 8 times the time; not for
      demosaicking.

  Raises:
    CheckpointError: the network is not there, or it is damaged.
    ValueError: an option does not fit the network.
  """
  return Network(
    load_network(os.fspath(name)),
    num_keys=num_keys,
    tile=tile,
    self_ensemble=self_ensemble,
  )
