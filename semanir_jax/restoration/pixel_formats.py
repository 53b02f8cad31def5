"""Turns pictures of people into what a network is given, and back.

  gray, 16 bits   stay gray and 16 bits; a colour network gets gray three times
                  over, and the BT.601 luma of its result is kept
  gray as RGB     where R = G = B everywhere, a gray network gets one of them,
                  and its result is written three times over
  10, 12, 14 bits in files of 16: `LevelRange` says which integers are black and
                  white; results have the same levels
  mosaics         of one channel, for a network that was trained on mosaics
                  alone: RGGB, filled in as in its training; become RGB
  colour          is refused by a gray network: channel by channel it would see
                  images it never learned, and leave fringes
  palette, 1 bit  become RGB and gray
  alpha           is kept; in super-resolution enlarged as MATLAB's bicubic does
  EXIF            its orientation is applied: networks learned upright images,
                  and readers that ignore the tag show the result as it is;
                  the rest is kept where it stays true
  ICC profile     kept: a network changes no colour space
  other colours   of PNG (cICP, sRGB, gAMA, cHRM): kept in PNG; elsewhere it is
                  said where that changes how a result is shown
  dots per inch   kept, times the scale of the network; in WebP EXIF's alone
  XMP, IPTC, text of PNG, comments, GeoTIFF: see `images.annotations`

A result has the format of its input where that is PNG, TIFF or WebP (lossless
then). All others become a PNG: JPEG would put back what a network removed.
"""

import pathlib
from typing import NamedTuple

import numpy as np
from absl import logging

from semanir_jax.degradations import bayer
from semanir_jax.images import color, decoder, image_file, kinds
from semanir_jax.images.level_range import (
  FULL_RANGE,
  LevelRange,
  unsaid_white_level,
)
from semanir_jax.images.lossy import lossy_coding
from semanir_jax.images.metadata import Metadata, read_metadata
from semanir_jax.machine import files
from semanir_jax.networks.learned import find_bundled
from semanir_jax.networks.loaded_network import LoadedNetwork

FORMATS = {
  "png": ".png",
  "tiff": ".tiff",
  "webp": ".webp",
  "jpeg": ".jpg",
  "bmp": ".bmp",
}
_LOSSLESS = (".png", ".tif", ".tiff", ".webp")
_DEEP = (".png", ".tif", ".tiff")
_PNG = "use --format=png, or name the output .png"
_NO_ALPHA = ("JPEG", "BMP")
_MOST_PX = {"WEBP": 16_383, "JPEG": 65_500}  # of a side
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


class Picture(NamedTuple):
  """An image file, upright.

  Attributes:
    name: for messages.
    pixels: `[H, W, 1 or 3]` uint8 or uint16.
    alpha: `[H, W, 1]` of the same dtype, or None for a file without.
    metadata: what the file says beside them.
    turned: whether the file lies on its side, or mirrored, and was turned.
    level_range: which of its integers are black and white.
    lossy: the coding of the file, see `lossy_coding`; "" for a lossless one.
  """

  name: str
  pixels: np.ndarray
  alpha: np.ndarray | None
  metadata: Metadata
  turned: bool = False
  level_range: LevelRange = FULL_RANGE
  lossy: str = ""

  def to_unit(self, pixels: np.ndarray) -> np.ndarray:
    """Maps integers to float32, see `LevelRange.to_unit`.

    Of the picture's type they have its levels, of another black at 0 and white
    at their largest.
    """
    if pixels.dtype != self.pixels.dtype:
      return color.to_unit(pixels)
    return self.level_range.to_unit(pixels)


def read_picture(path: pathlib.Path) -> Picture:
  """Reads all of an image file, alpha too; raises as `read_image` does."""
  return decode_picture(files.read_bytes(path), str(path))


def decode_picture(data: bytes, name: str) -> Picture:
  """Does `read_picture` for the bytes of a file; `name` is for messages."""
  pixels, alpha = decoder.decode(data, name)
  turned = decoder.is_turned(data)
  return Picture(
    name,
    pixels,
    alpha,
    read_metadata(data),
    turned,
    lossy=lossy_coding(data),
  )


def set_levels(picture: Picture, level_range: LevelRange) -> Picture:
  """Says which integers of a picture are black and white.

  It warns where none was said of a picture that seems to need it.

  Raises:
    ImageError: the picture contradicts them.
  """
  try:
    level_range.check(picture.pixels)
  except ValueError as error:
    raise image_file.ImageError(f"{picture.name}: {error}") from error
  if not level_range and (advice := level_advice(picture.pixels)):
    logging.warning("%s: %s", picture.name, advice)
  return picture._replace(level_range=level_range)


def level_advice(
  pixels: np.ndarray, option: str = "--white_level"
) -> str | None:
  """Says which option integers seem to need; None for none."""
  white = unsaid_white_level(pixels)
  if white is None:
    return None
  return (
    f"no value of its 16 bits needs more than {white.bit_length()} bits (the"
    f" largest is {pixels.max()}); if its white is {white}, give"
    f" {option}={white}"
  )


def result_suffix(suffix: str) -> str:
  """Returns a result's suffix, lower case: its input's where lossless."""
  suffix = suffix.lower()
  return suffix if suffix in _LOSSLESS else ".png"


def fit_to_format(picture: Picture, suffix: str, scale: int) -> Picture:
  """Makes sure that a format holds the result, before it is computed.

  Args:
    picture: the input.
    suffix: of the result, lower case.
    scale: of the network.

  Returns:
    The picture, without alpha that is opaque and cannot be kept.

  Raises:
    ImageError: it is too large for the format, or transparent.
  """
  height, width = (scale * side for side in picture.pixels.shape[:2])
  most = _MOST_PX.get(kinds.WRITTEN[suffix])
  if most is not None and max(height, width) > most:
    raise image_file.ImageError(
      f"{picture.name}: its result of {height}x{width} px is too large for"
      f" {suffix} ({most} px a side); {_PNG}"
    )
  if picture.alpha is None:
    return picture
  if picture.pixels.dtype == np.uint16 and suffix in (".tif", ".tiff"):
    raise image_file.ImageError(
      f"{picture.name}: 16-bit TIFF with alpha is not written; {_PNG}"
    )
  if kinds.WRITTEN[suffix] not in _NO_ALPHA:
    return picture
  if picture.alpha.min() < np.iinfo(picture.alpha.dtype).max:
    raise image_file.ImageError(
      f"{picture.name}: has transparent pixels, which {suffix} does not hold;"
      f" {_PNG}"
    )
  return picture._replace(alpha=None)


def network_input(picture: Picture, network: LoadedNetwork) -> np.ndarray:
  """Makes of a picture what a network takes.

  Args:
    picture: after `fit_to_format`.
    network: that restores it.

  Returns:
    `[H, W, C]`; see `match_channels`, but of a mosaic, for a network that takes
    them, `bayer.fill_in`, float32 with black at 0 and white at 1.

  Raises:
    ImageError: a colour image for a gray network; a mosaic of odd sides, or
      that was turned, which puts other filters in its corner.
  """
  if not (network.takes_mosaics and picture.pixels.shape[2] == 1):
    return match_channels(picture, network.model.in_channels)
  if picture.turned:
    raise image_file.ImageError(
      f"{picture.name}: is a mosaic with an EXIF orientation, which turns its"
      " colour filters; remove the orientation, and turn the result"
    )
  try:
    sensor = picture.pixels[..., 0]
    if picture.level_range:
      sensor = picture.level_range.to_unit(sensor)
    return bayer.fill_in(sensor)
  except ValueError as error:
    raise image_file.ImageError(f"{picture.name}: {error}") from error


def match_channels(picture: Picture, channels: int) -> np.ndarray:
  """Returns the pixels with so many channels, as a view.

  Gray is repeated without a copy: `[H, W, channels]`, of the picture's type. Of
  three equal channels one is taken where one is asked for.

  Raises:
    ImageError: a colour image where one channel is asked for.
  """
  found = picture.pixels.shape[2]
  if found > channels == 1 and color.is_gray(picture.pixels):
    return picture.pixels[..., :1]
  if found > channels:
    wanted = {"jpeg": True} if picture.lossy else {"noise": True}
    name = find_bundled(colour=True, **wanted)
    raise image_file.ImageError(
      f"{picture.name}: is a colour image, but the network is of gray images;"
      " convert it to gray first, or use the checkpoint of a colour network"
      + (f", as --checkpoint={name}" if name else "")
    )
  if found == channels:
    return picture.pixels
  return np.broadcast_to(picture.pixels, (*picture.pixels.shape[:2], channels))


def result_shape(
  picture: Picture, network: LoadedNetwork
) -> tuple[int, int, int]:
  """Returns `(H, W, C)` of a result: gray stays gray, as RGB or alone.

  It does not where the network adds colour, or takes it for a mosaic.
  """
  model = network.model
  height, width, channels = picture.pixels.shape
  if network.takes_mosaics or model.in_channels != model.out_channels:
    channels = model.out_channels
  return height * model.scale, width * model.scale, channels


def result_type(picture: Picture, suffix: str) -> np.dtype:
  """Returns uint16 where input and format have 16 bits, else uint8.

  It warns where bits are lost.
  """
  if suffix in _DEEP or picture.pixels.dtype == np.uint8:
    return picture.pixels.dtype
  black, white = picture.level_range.ends(picture.pixels.dtype)
  logging.warning(
    "%s: of its 16 bits %s keeps 8%s; .png and .tiff would keep them",
    picture.name,
    suffix,
    f", {black} to {white} as 0 to 255" if picture.level_range else "",
  )
  return np.dtype(np.uint8)


def result_levels(
  picture: Picture, dtype: np.dtype
) -> tuple[LevelRange, tuple[int, int] | None]:
  """Returns the last arguments of `to_levels` for a picture's result.

  They are the picture's own, but of 8 bits that are made of 16: those are
  black at 0 and white at 255.
  """
  if not picture.level_range or dtype != picture.pixels.dtype:
    return FULL_RANGE, None
  return picture.level_range, picture.level_range.span(picture.pixels)


def to_levels(
  restored: np.ndarray,
  *,
  channels: int,
  dtype: np.dtype,
  level_range: LevelRange = FULL_RANGE,
  span: tuple[int, int] | None = None,
) -> np.ndarray:
  """Rounds what a network returned to the levels of a file.

  Args:
    restored: `[H, W, C]` float32, not clipped.
    channels: C; or 1 for the luma of C = 3; or 3 for C = 1, repeated.
    dtype: uint8 or uint16.
    level_range: of the file.
    span: see `LevelRange.from_unit`.

  Returns:
    `[H, W, channels]`.
  """
  if restored.shape[2] > channels:
    restored = (level_range.clip(restored, dtype, span) @ _LUMA)[..., None]
  result = level_range.from_unit(restored, dtype, span)
  if result.shape[2] < channels:
    return np.repeat(result, channels, axis=2)
  return result
