"""Bytes of an image file to an exact array, or a reason why not.

Pillow reads, except where it would change values without a word: 16-bit colour
becomes 8 bits there (here imagecodecs reads it in PNG, and tifffile in TIFF,
with imagecodecs for what is packed), inverted 16-bit TIFF comes not inverted,
CMYK becomes colours by a guess, an animation its first frame, more than 8 bits
of HEIC and AVIF are cut (the last four are refused here). What a TIFF file says
is checked before (`tiff_header`), as is the size that any file claims
(`claims`).
"""

import contextlib
import ctypes
import dataclasses
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin, features

from semanir_jax.images import claims, kinds, tiff_header
from semanir_jax.images.kinds import UnsupportedError
from semanir_jax.images.metadata import orientation_of, png_chunks
from semanir_jax.machine.files import FileError

# People give their own files: a panorama, or one with megabytes of XMP or of an
# ICC profile, is no attack. `claims` has the limit.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 1 << 26
# They tell what a decoder may ignore; what it may not, they raise.
for _library in ("imagecodecs", "PIL", "tifffile"):
  logging.getLogger(_library).setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# Pillow's libtiff prints what it thinks of a file, beside raising it. Where it
# lies inside of Pillow (Windows), it cannot be reached.
with contextlib.suppress(AttributeError, OSError, TypeError):
  ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)

# Pillow's names of what `kinds.kind_of` names.
_FORMATS = {
  **{name: name for name in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB")},
  **{"AVIF": "AVIF", "HEIC": "HEIF"},
}
_NAMED = "PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC"
_GRAY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA")
# Raw data of 2 and 4 bits: the most levels, and what Pillow makes of one.
_SHALLOW_PNG = {"L;2": (4, 85), "L;4": (16, 17)}
# 16-bit PNG that Pillow cuts to 8: its names of the raw data, samples per px.
_DEEP_PNG = {"RGB;16B": 3, "LA;16B": 2, "RGBA;16B": 4}
_PNG_PIXELS = (b"IHDR", b"IDAT", b"IEND")  # chunks that hold the picture
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_MOST_PNG_SIDE = 1_000_000  # px; libpng reads no longer one
_APP1, _SCAN = b"\xe1", b"\xda"  # markers of JPEG
_MOST_SEGMENTS = 1 << 16  # of JPEG, and fill between them
_AV1_SETUP = b"av1C"  # of AVIF: what its decoder must know
_AV1_DEEP = 0x40  # AV1 in ISO base media, 2.3.3: high_bitdepth, of its 3rd byte
# TIFF and EXIF.
_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262
_YCBCR, _TIFF_JPEGS = 6, ([6], [7])


class ImageError(FileError):
  """An image that cannot be read or written: names the file and the remedy."""


@dataclasses.dataclass(frozen=True)
class ImageInfo:
  """What the header of an image file says.

  Attributes:
    height: px, after the EXIF orientation.
    width: px, after the EXIF orientation.
    channels: 1 or 3, alpha not counted.
    bits: 8 or 16 per sample.
  """

  height: int
  width: int
  channels: int
  bits: int


def inspect(file: BinaryIO, name: str) -> ImageInfo:
  """Reads the header of an image; `ImageError` if it is not supported.

  But not what lies behind the pixels of a PNG: `decode` may turn them for it.
  """
  with explained(name), _open(file) as image:
    _check_supported(image)
    height, width = image.height, image.width
    # Pillow gives the upright size for TIFF already.
    seen = image.format != "PNG" or "exif" in image.info
    if seen and image.format != "TIFF" and orientation_of(image) >= 5:
      height, width = width, height
    return ImageInfo(
      height=height,
      width=width,
      channels=1 if _is_gray(image) else 3,
      bits=16 if image.mode.startswith("I;16") or _is_deep(image) else 8,
    )


def decode(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray | None]:
  """Decodes the bytes of an image file.

  Returns:
    `[H, W, C]` with C = 1 or 3, and `[H, W, 1]` alpha or None where the file
    has none; both uint8, or both uint16. The EXIF orientation is applied.

  Raises:
    ImageError: damaged or unsupported; `name` is the file named in it.
  """
  with explained(name), _open(io.BytesIO(data)) as image:
    _check_supported(image)
    orientation = orientation_of(image)
    deep = _is_deep(image)
    pixels = _decode_deep(image, data) if deep else _decode_plain(image)
    if deep or image.format != "TIFF":  # which Pillow turns
      pixels = _orient(pixels, orientation)
  if pixels.shape[2] in (2, 4):
    return pixels[..., :-1], pixels[..., -1:]
  return pixels, None


def is_turned(data: bytes) -> bool:
  """Says whether `decode` turns a file that it can decode."""
  with _open(io.BytesIO(data)) as image:
    return orientation_of(image) != 1


@contextlib.contextmanager
def explained(
  name: str, remedy: str = "replace or remove the file"
) -> Iterator[None]:
  """Turns whatever a codec raises into one line, with one remedy."""
  try:
    yield
  except UnsupportedError as error:
    raise ImageError(f"{name}: {error}") from error
  except Image.UnidentifiedImageError as error:
    raise ImageError(
      f"{name}: not an image ({_NAMED}), or its start is damaged; {remedy}"
    ) from error
  except MemoryError as error:
    raise ImageError(
      f"{name}: does not fit the memory; free some, or cut it into parts"
    ) from error
  # Plug-ins raise OSError, SyntaxError, struct.error, IndexError, ... at will.
  except Exception as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise ImageError(f"{name}: {reason}; {remedy}") from error


def import_codec(name: Literal["imagecodecs", "tifffile"]) -> ModuleType:
  """Imports what reads and writes 16-bit colour: PNG, or TIFF.

  Only where a file needs it: each takes a good part of a second to import.

  Raises:
    UnsupportedError: it is not installed.
  """
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise UnsupportedError(f"16-bit colour: pip install {name}") from error


def _open(file: BinaryIO) -> ImageFile.ImageFile:
  """Opens a file whose header claims no more than it can hold."""
  num_bytes = file.seek(0, io.SEEK_END)
  file.seek(0)
  kind = kinds.kind_of(file.read(kinds.NUM_FIRST))
  if kind is None:
    raise Image.UnidentifiedImageError
  if kind not in _FORMATS:
    remedy = kinds.REMEDIES.get(kind, "save it as PNG")
    raise UnsupportedError(f"is {kind}, which is not read: {remedy}")
  file.seek(0)
  if kind == "TIFF":
    tiff_header.check(file, num_bytes)
  elif kind == "JPEG":
    tiff_header.check_exif(_exif_of_jpeg(file))
  elif kind in ("AVIF", "HEIC"):
    _import_plugin(kind)
  file.seek(0)
  try:
    image = Image.open(file, formats=[_FORMATS[kind]])
  except Image.UnidentifiedImageError as error:
    if kind == "TIFF":
      raise UnsupportedError(
        "a kind of TIFF that is not read, or damaged: save it as PNG of 8 or"
        " 16 bits"
      ) from error
    raise
  if kind != "TIFF":
    # Of a palette or gray, samples may have a single bit.
    bands = len(image.getbands())
    bits = 1 if bands == 1 and not _is_deep(image) else 8 * bands
    claims.check(kind, *image.size, bits, num_bytes)
  if kind in ("AVIF", "HEIC"):
    _check_depth(image, file)
  return image


def _exif_of_jpeg(file: BinaryIO) -> bytes:
  """Returns EXIF as Pillow puts it together, and reads when it opens a file."""
  found, place = [], 2
  for _ in range(_MOST_SEGMENTS):
    file.seek(place)
    head = file.read(10)
    marker, length = head[1:2], int.from_bytes(head[2:4])
    if len(head) < 10 or head[:1] != b"\xff" or marker == _SCAN:
      return b"".join(found)
    if marker == b"\xff":  # between segments there may be more of them
      place += 1
      continue
    if marker == _APP1 and head[4:] == b"Exif\0\0":
      found.append(file.read(max(length - 8, 0)))
    place += 2 + length
  raise ValueError("JPEG of more segments than any writer makes")


def _import_plugin(kind: Literal["AVIF", "HEIC"]) -> None:
  """Makes Pillow read a kind of file; `UnsupportedError` where it cannot."""
  if kind == "AVIF":
    if not features.check("avif"):
      raise UnsupportedError(
        "is AVIF, which this Pillow does not read: save it as PNG"
      )
    return
  try:
    importlib.import_module("pillow_heif").register_heif_opener()
  except ImportError as error:
    raise UnsupportedError(
      "is HEIC, which is read with pillow-heif: pip install pillow-heif"
    ) from error


def _check_depth(image: ImageFile.ImageFile, file: BinaryIO) -> None:
  """Refuses AVIF and HEIC of more than 8 bits, which Pillow would cut."""
  if image.format == "HEIF":
    is_deep = image.info["bit_depth"] > 8
  else:
    place = file.tell()
    file.seek(0)
    _, *setups = file.read().split(_AV1_SETUP)
    file.seek(place)
    is_deep = any(setup[2] & _AV1_DEEP for setup in setups if len(setup) > 2)
  if is_deep:
    name = "HEIC" if image.format == "HEIF" else "AVIF"
    raise UnsupportedError(
      f"{name} of more than 8 bits per sample: save it as 16-bit PNG"
    )


def _is_gray(image: ImageFile.ImageFile) -> bool:
  # Gray with alpha at 16 bits has mode RGBA in Pillow.
  return image.mode in _GRAY_MODES or _raw_mode(image) == "LA;16B"


def _raw_mode(image: ImageFile.ImageFile) -> str:
  """Returns Pillow's name of the data in a PNG file, before loading it."""
  return str(image.tile[0].args) if image.format == "PNG" else ""


def _tiff_tag(image: ImageFile.ImageFile, tag: int) -> list[int]:
  """Returns the values of a tag; none of what is no TIFF, or has it not."""
  if not isinstance(image, TiffImagePlugin.TiffImageFile):
    return []
  return np.ravel(image.tag_v2.get(tag, ())).tolist()


def _is_deep(image: ImageFile.ImageFile) -> bool:
  """Says whether the file holds 16-bit colour, which Pillow would cut to 8."""
  if image.format == "TIFF" and image.mode in _COLOUR_MODES:
    return max(_tiff_tag(image, _BITS_PER_SAMPLE), default=1) > 8
  return _raw_mode(image) in _DEEP_PNG


def _check_supported(image: ImageFile.ImageFile) -> None:
  """Raises UnsupportedError for what would change; reads the header only."""
  if image.mode not in _GRAY_MODES + _COLOUR_MODES:
    raise UnsupportedError(
      f"{image.format} in mode {image.mode} is not supported: convert it to "
      "gray or sRGB, 8 or 16 bits"
    )
  # MPO: a JPEG photograph first, then its preview or other eye.
  several = image.format not in ("MPO", "TIFF")
  frames = getattr(image, "n_frames", 1) if several else 1
  if frames > 1:
    raise UnsupportedError(f"holds {frames} images: save each one alone")
  if "transparency" in image.info:
    if image.mode.startswith("I;16"):
      raise UnsupportedError("16-bit gray with a transparent level: remove it")
    if _raw_mode(image) in _DEEP_PNG:
      raise UnsupportedError(
        "16-bit PNG with a colour key: save it with alpha instead"
      )
  if image.format == "TIFF":
    bits = set(_tiff_tag(image, _BITS_PER_SAMPLE))
    photometric = _tiff_tag(image, _PHOTOMETRIC)
    # JPEG's codec makes it RGB; Pillow 12 calls the others RGB too.
    jpeg = _tiff_tag(image, _COMPRESSION) in _TIFF_JPEGS
    if photometric == [_YCBCR] and not jpeg:
      raise UnsupportedError(
        "TIFF in YCbCr is not supported: convert it to sRGB"
      )
    if bits == {16} and photometric == [0]:
      raise UnsupportedError("inverted 16-bit TIFF: save it with black as zero")


def _decode_plain(image: ImageFile.ImageFile) -> np.ndarray:
  """Returns `[H, W, 1 to 4]` of what Pillow decodes exactly."""
  levels, step = _SHALLOW_PNG.get(_raw_mode(image), (0, 1))
  image.load()
  # Pillow 12 scales the samples, but not the one that is transparent.
  transparent = image.info.get("transparency")
  if isinstance(transparent, int) and transparent < levels:
    image.info["transparency"] = transparent * step
  if image.mode.startswith("I;16"):
    return np.asarray(image).astype(np.uint16)[..., None]
  mode = "L" if image.mode in _GRAY_MODES else "RGB"
  if image.has_transparency_data:
    mode = {"L": "LA", "RGB": "RGBA"}[mode]
  pixels = np.asarray(image.convert(mode))
  return pixels[..., None] if mode == "L" else pixels


def _decode_deep(image: ImageFile.ImageFile, data: bytes) -> np.ndarray:
  """Returns `[H, W, 2 to 4]` uint16 of a file with 16-bit colour."""
  if image.format == "PNG":
    return _decode_deep_png(image, data)
  tifffile = import_codec("tifffile")
  with tifffile.TiffFile(io.BytesIO(data)) as file:
    page = file.pages[0]
    pixels = page.asarray()
    planar = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
  pixels = np.moveaxis(pixels, 0, -1) if planar else pixels
  if pixels.ndim != 3 or pixels.shape[2] != 3:
    raise ValueError(f"16-bit TIFF of shape {pixels.shape}: save it as RGB")
  return pixels.astype(np.uint16)


def _decode_deep_png(image: ImageFile.ImageFile, data: bytes) -> np.ndarray:
  """Returns `[H, W, 2 to 4]` uint16 of a 16-bit PNG with colour or alpha.

  libpng gets the picture without what else the file holds, as chunks that it
  does not know, which it would refuse.
  """
  if max(image.size) > _MOST_PNG_SIDE:
    raise UnsupportedError(
      f"has a side of {max(image.size)} px, more than {_MOST_PNG_SIDE}: cut it"
    )
  parts, file = [data[:8]], io.BytesIO(data)
  for kind, length in png_chunks(file):
    if kind in _PNG_PIXELS:
      start = file.tell() - 8
      parts.append(data[start : start + 12 + length])
    if kind == b"IEND":
      break
  if parts[-1] != _PNG_END:
    raise ValueError("PNG ends before its IEND chunk")
  return import_codec("imagecodecs").png_decode(b"".join(parts))


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """Turns `[H, W, C]` upright: EXIF 2.32, tag 274."""
  if orientation >= 5:
    pixels = pixels.transpose(1, 0, 2)
  if orientation in (3, 4, 7, 8):
    pixels = pixels[::-1]
  if orientation in (2, 3, 6, 7):
    pixels = pixels[:, ::-1]
  return np.ascontiguousarray(pixels)
