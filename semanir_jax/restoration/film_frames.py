"""Restores the frames of a film, one after the other."""

from collections.abc import Iterable, Iterator

import numpy as np
from absl import logging

from semanir_jax.films import planes
from semanir_jax.films.library import FilmError
from semanir_jax.films.reading import Film, FilmFrame
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.networks.learned import find_bundled, learned_by
from semanir_jax.networks.loaded_network import LoadedNetwork


def check_channels(film: Film, network: LoadedNetwork) -> None:
  """Refuses films that a network cannot take, as far as their format tells.

  Raises:
    FilmError: gray ones for a network of mosaics.
  """
  if network.takes_mosaics and film.layout.kind == "gray":
    raise FilmError(
      f"{film.path}: is gray, which this network takes for a sensor's mosaic;"
      " of films it takes colours alone"
    )


def tell_hint(film: Film, network: LoadedNetwork) -> None:
  """Warns where a network never saw noise like that of a film.

  Chroma of fewer samples has coarser noise than luma, and noise of luma is the
  same in red, green and blue. JPEG files alone are like that.
  """
  learned = learned_by(network)
  name = find_bundled(jpeg=True, noise=True)
  if learned is None or learned.jpeg or name is None:
    return
  if film.layout.sampling == (1, 1) or not (learned.noise or learned.scale > 1):
    return
  first = " first" if learned.scale > 1 else ""
  logging.warning(
    "%s: has less chroma than luma, and this network never saw noise of that"
    " kind; if there is some, restore it with --checkpoint=%s%s",
    film.path,
    name,
    first,
  )


def restore_frames(
  restorer: TiledRestorer, film: Film, frames: Iterable[FilmFrame]
) -> Iterator[FilmFrame]:
  """Restores frames; holds one of them.

  Args:
    restorer: the network.
    film: whose frames they are.
    frames: of `reading.read_frames`.

  Yields:
    Frames of the film's layout and times, of the network's size; what players
    would guess of their colours otherwise is said by `Colours.for_height`.

  Raises:
    FilmError: a frame in colour for a gray network, or it returns NaN.
  """
  scale = restorer.model.scale
  for frame in frames:
    before = planes.to_unit(frame.image, film.layout, film.colours)
    result = _restore(restorer, film, frame, before)
    if scale == 1:
      image = planes.from_unit(
        result, film.layout, film.colours, frame=frame.image, before=before
      )
    else:
      colours = film.colours.for_height(film.height, scale * film.height)
      image = planes.from_unit(result, film.layout, colours)
    yield frame._replace(image=image)


def restore_arrays(
  restorer: TiledRestorer, film: Film, frames: Iterable[FilmFrame]
) -> Iterator[tuple[int, np.ndarray]]:
  """Restores frames as arrays, for Python.

  Yields:
    The time stamp, and `[H * S, W * S, C]` uint8 RGB (or gray), or uint16 where
    the film has more than 8 bits; black at 0 and white at the largest.
  """
  dtype = np.dtype(np.uint8 if film.layout.bits == 8 else np.uint16)
  for frame in frames:
    before = planes.to_unit(frame.image, film.layout, film.colours)
    result = _restore(restorer, film, frame, before)
    if result.shape[2] > before.shape[2]:
      result = result.mean(axis=2, keepdims=True)
    elif result.shape[2] < before.shape[2]:
      result = np.repeat(result, before.shape[2], axis=2)
    levels = np.rint(np.clip(result, 0, 1) * np.iinfo(dtype).max)
    yield frame.pts, levels.astype(dtype)


def _restore(
  restorer: TiledRestorer, film: Film, frame: FilmFrame, pixels: np.ndarray
) -> np.ndarray:
  """Runs the network: `[H, W, C]` to `[H * S, W * S, C']` float32.

  Gray is taken as pictures are (`restoration.pixel_formats`): by a colour
  network three times over, by a gray one where R = G = B.
  """
  model = restorer.model
  seconds = float(frame.pts * film.time_base)
  if pixels.shape[2] > model.in_channels:
    if not planes.is_gray(frame.image, film.layout):
      name = find_bundled(colour=True, noise=True)
      raise FilmError(
        f"{film.path}: has colours at {seconds:.3f} s, but the network is of"
        f" gray images; take one of colours, as --checkpoint={name}"
      )
    pixels = pixels[..., :1]
  elif pixels.shape[2] < model.in_channels:
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], model.in_channels))
  height, width = (model.scale * side for side in pixels.shape[:2])
  result = np.empty((height, width, model.out_channels), np.float32)
  top = 0
  try:
    for band in restorer.bands(pixels):
      result[top : top + len(band)] = band
      top += len(band)
  except ValueError as error:
    raise FilmError(f"{film.path}: at {seconds:.3f} s, {error}") from error
  return result
