"""Image files in and out: one exact reader and one atomic writer.

Every array is HWC, 1 or 3 channels (RGB), uint8 or uint16 as in the file:
nothing is scaled and no colour profile is applied. What such an array cannot
show is refused by name, never approximated:

  read      1-bit (as 0 and 255), gray, palette (expanded), RGB, each also with
            16 bits in PNG and TIFF; the EXIF orientation is applied
  alpha     dropped where the whole image is opaque, else refused, since what
            shows through is not known; `pixel_formats` keeps it
  refused   CMYK, YCbCr, Lab, 32-bit integer and float, 12-bit and inverted
            16-bit TIFF, signed samples, samples beside the colours and alpha,
            kinds of TIFF that Pillow does not know, 16 bits with a transparent
            colour, AVIF and HEIC of more than 8 bits, several images in a file
            (of a JPEG with previews or a second eye the first is read), and
            what claims to be larger than its bytes can hold
HEIC      is read with pillow-heif, where that is installed
"""

import dataclasses

import numpy as np

from semanir_jax.images import color, decoder, encoder, kinds
from semanir_jax.images.decoder import ImageError, ImageInfo
from semanir_jax.machine.files import (
  Path,
  as_path,
  os_errors_named,
  read_bytes,
  write_bytes,
)

__all__ = [
  "AS_IN_FILE",
  "ImageError",
  "ImageInfo",
  "PixelOptions",
  "convert_channels",
  "decode_image",
  "probe_image",
  "read_image",
  "write_image",
]

SUFFIXES = kinds.READ
WRITTEN_SUFFIXES = tuple(kinds.WRITTEN)
_TO_GRAY = {"y": color.gray_y, "rgb2gray": color.rgb2gray}


@dataclasses.dataclass(frozen=True)
class PixelOptions:
  """Says which channels the array of an image file gets.

  Attributes:
    channels: None as in the file; 3 repeats gray three times; 1 refuses a
      colour file unless `gray` says how to convert it.
    gray: with `channels=1`: "y" is MATLAB's rounded BT.601 luma, 16 to 235,
      "rgb2gray" MATLAB's rgb2gray; 8 bits only. Gray files stay as they are.

  Raises:
    ValueError: an option that is not one of these.

  Source: protocols.md 0.7 and 3.2 (which gray belongs to which test set).
  """

  channels: int | None = None
  gray: str | None = None

  def __post_init__(self) -> None:
    channels, gray = self.channels, self.gray
    if channels not in (None, 1, 3):
      raise ValueError(f"{channels=} must be None, 1 or 3")
    if gray not in (None, *_TO_GRAY) or (gray and channels != 1):
      raise ValueError(
        f"{gray=} with {channels=}: use one of {[*_TO_GRAY]} with channels=1"
      )


AS_IN_FILE = PixelOptions()


def probe_image(path: Path) -> ImageInfo:
  """Reads the header only; raises `FileError` for what cannot be read."""
  with os_errors_named(path), as_path(path).open("rb") as file:
    return decoder.inspect(file, str(path))


def read_image(path: Path, pixels: PixelOptions = AS_IN_FILE) -> np.ndarray:
  """Reads an image file.

  Args:
    path: a PNG, JPEG, WebP, TIFF, BMP, AVIF or HEIC file, told by its first
      bytes, not by its name.
    pixels: which channels to give.

  Returns:
    `[H, W, C]` uint8 or uint16, the depth of the file.

  Raises:
    FileError: missing file, or one that may not be read.
    ImageError: damaged or unsupported file, transparent pixels, or a colour
      file where gray is asked.
  """
  return decode_image(read_bytes(path), str(path), pixels)


def decode_image(
  data: bytes, name: str, pixels: PixelOptions = AS_IN_FILE
) -> np.ndarray:
  """Does `read_image` for the bytes of a file; `name` is for messages."""
  image, alpha = decoder.decode(data, name)
  if alpha is not None and alpha.min() < np.iinfo(alpha.dtype).max:
    raise ImageError(
      f"{name}: has transparent pixels; flatten it on a background first"
    )
  return convert_channels(image, name, pixels)


def convert_channels(
  image: np.ndarray, name: str, pixels: PixelOptions
) -> np.ndarray:
  """Gives an image the channels asked.

  Args:
    image: `[H, W, 1 or 3]` uint8 or uint16.
    name: of the image, for messages.
    pixels: which channels to give.

  Raises:
    ImageError: a colour image where gray is asked, and not how, or of 16 bits.
  """
  if pixels.channels in (None, image.shape[2]):
    return image
  if pixels.channels == 3:
    return np.repeat(image, 3, axis=2)
  if pixels.gray is None:
    raise ImageError(
      f"{name}: is a colour image but channels=1; choose the conversion "
      'gray="y" or gray="rgb2gray", or use channels=3'
    )
  if image.dtype != np.uint8:
    raise ImageError(
      f"{name}: is 16-bit colour; save it as gray, or with 8 bits, first"
    )
  return _TO_GRAY[pixels.gray](image)


def write_image(path: Path, image: np.ndarray) -> None:
  """Writes an image file atomically, in the format of the suffix.

  PNG, TIFF, BMP and WebP are lossless; JPEG is written at quality 95, 4:4:4.

  Args:
    path: with a suffix of `WRITTEN_SUFFIXES`, in an existing folder.
    image: `[H, W, C]` uint8 with C = 1 or 3, or 2 or 4 (alpha last), or uint16
      with C = 1, 3 (PNG, TIFF), 2 or 4 (PNG).

  Raises:
    ImageError: an array or suffix that cannot be written.
    FileError: an unwritable place.
  """
  path = as_path(path)
  if image.dtype not in (np.uint8, np.uint16) or image.ndim != 3:
    raise ImageError(
      f"{path}: cannot write {image.dtype} {image.shape}; pass [H, W, C] uint8 "
      "or uint16 (clip, scale and round floats first)"
    )
  suffix = path.suffix.lower()
  if suffix not in WRITTEN_SUFFIXES:
    raise ImageError(
      f"{path}: not a suffix that is written; use one of"
      f" {' '.join(WRITTEN_SUFFIXES)}"
    )
  write_bytes(path, encoder.encode(image, suffix, str(path)))
