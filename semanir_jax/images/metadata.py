"""What an image file says beside its pixels: colours, EXIF, resolution, text.

Pixels are turned upright when they are read, so the EXIF orientation, the
embedded preview and what is in pixels (sizes, places, the sensor's resolution)
would be wrong beside them and are dropped. So are maker notes, whose absolute
offsets do not survive a move.
"""

import contextlib
import io
import struct
import zlib
from typing import IO, NamedTuple

from PIL import Image, ImageFile, TiffImagePlugin

from semanir_jax.images.annotations import (
  NO_ANNOTATIONS,
  Annotations,
  read_annotations,
)
from semanir_jax.images.png_chunks import Chunk, pack, png_chunks
from semanir_jax.images.tiff_header import check_exif

# Description, camera, resolution, software, date, artist, copyright.
_KEPT = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432)
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_DROPPED = (
  *(0x927C, 0xA002, 0xA003, 0xA005),  # maker note, width, height, interop
  *(0x9214, 0xA214),  # area and place of the subject
  *(0xA20E, 0xA20F, 0xA210),  # the sensor's resolution
)
_ORIENTATION = 274
_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION = 270, 282, 283
_RESOLUTION = {_X_RESOLUTION, _Y_RESOLUTION, 296}
# Of an image whose rows are the columns in the file.
_TURNED = {_X_RESOLUTION: _Y_RESOLUTION, _Y_RESOLUTION: _X_RESOLUTION}
# Descriptions for programs, with the size: of tifffile, ImageJ and OME.
_SIZED = ('{"shape"', "shape=(", "ImageJ=", "<?xml", "<OME")
_MOST_EXIF = 65_000  # bytes; a JPEG segment holds 65533
_MOST_DPI = 65_535  # of JFIF
_JFIF_UNITS = (1, 2)  # inch, cm
# Chunks of PNG and their lengths, first what stands above the next.
_PNG_COLOURS = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
# What they hold of an image in sRGB: PNG specification (third edition), 11.3.2.
# ITU-T H.273: its primaries and transfer function; no matrix, full range.
_SRGB_CODES = b"\x01\x0d\x00\x01"
_SRGB_GAMMA = 45_455
_SRGB_CORNERS = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
_NEAR_GAMMA, _NEAR_CORNERS = 2_300, 1_000  # not seen: as libpng


class Metadata(NamedTuple):
  """Goes from an image file to its result.

  Attributes:
    icc_profile: as embedded in the file, or None.
    exif: of an upright image, beginning with b"Exif", or None.
    dpi: pixels per inch in x and y, as JFIF, PNG, TIFF and BMP say it outside
      of EXIF, or None.
    png_colours: chunks of a PNG, kind and body, that say how it is shown; other
      formats have no place for them.
    annotations: XMP, IPTC, comments, text, GeoTIFF.
  """

  icc_profile: bytes | None = None
  exif: bytes | None = None
  dpi: tuple[float, float] | None = None
  png_colours: tuple[Chunk, ...] = ()
  annotations: Annotations = NO_ANNOTATIONS

  def for_channels(self, channels: int) -> "Metadata":
    """Leaves out an ICC profile that is not of 1 (gray) or 3 (RGB) channels."""
    # ICC.1:2022, 7.2: the colour space is bytes 16 to 19 of the header.
    space = b"GRAY" if channels == 1 else b"RGB "
    if self.icc_profile is None or self.icc_profile[16:20] == space:
      return self
    return self._replace(icc_profile=None)

  def enlarged(self, scale: int) -> "Metadata":
    """Returns that of an image whose sides are `scale` times as long."""
    if scale == 1:
      return self
    enlarged = self._replace(annotations=self.annotations.enlarged(scale))
    if self.dpi is not None:
      enlarged = enlarged._replace(dpi=_checked_dpi(*self.dpi, scale))
    if self.exif is None:
      return enlarged
    exif = self.load_exif()
    if str(exif.get(_DESCRIPTION)).startswith(_SIZED):
      del exif[_DESCRIPTION]
    for tag in {_X_RESOLUTION, _Y_RESOLUTION} & set(exif):
      exif[tag] = float(exif[tag]) * scale
      if not exif[tag] < 2**32:  # nor NaN: a fraction of 32-bit integers
        del exif[tag]
    return enlarged._replace(exif=_packed(exif))

  def colours_of_png_alone(self) -> list[str]:
    """Names the chunks without which the image is shown differently."""
    chunks = dict(self.png_colours)
    if b"cICP" in chunks:
      return [] if chunks[b"cICP"] == _SRGB_CODES else ["cICP"]
    if self.icc_profile is not None or b"sRGB" in chunks:
      return []
    lost = []
    for kind, srgb, near in (
      (b"gAMA", (_SRGB_GAMMA,), _NEAR_GAMMA),
      (b"cHRM", _SRGB_CORNERS, _NEAR_CORNERS),
    ):
      if kind in chunks:
        values = struct.unpack(f">{len(srgb)}I", chunks[kind])
        if any(abs(a - b) > near for a, b in zip(values, srgb, strict=True)):
          lost.append(kind.decode())
    return lost

  def load_exif(self) -> Image.Exif:
    """Unpacks EXIF; empty for none."""
    exif = Image.Exif()
    exif.load(self.exif or b"")
    return exif

  def to_png_chunks(self) -> bytes:
    """Returns the chunks of a PNG that hold it, to stand before the pixels.

    Source: PNG specification (third edition), 5.3 and 11.3.
    """
    chunks = []
    if self.icc_profile is not None:
      profile = zlib.compress(self.icc_profile)
      chunks.append((b"iCCP", b"ICC profile\0\0" + profile))
    for kind, body in self.png_colours:
      if kind != b"sRGB" or self.icc_profile is None:  # one or the other
        chunks.append((kind, body))
    if self.dpi is not None:
      per_metre = (round(dpi / 0.0254) for dpi in self.dpi)
      chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if self.exif is not None:
      chunks.append((b"eXIf", self.exif.removeprefix(b"Exif\0\0")))
    return pack(chunks + self.annotations.to_png_chunks())

  def lost_in(self, kind: str, *, deep_colour: bool = False) -> list[str]:
    """Names what a result does not hold, colours of PNG apart.

    Args:
      kind: "PNG", "TIFF", "JPEG", "WEBP" or "BMP".
      deep_colour: whether it has 16 bits and colours.
    """
    lost = self.annotations.lost_in(kind)
    exif = self.load_exif()
    if kind == "BMP" and set(exif) - _RESOLUTION:
      lost.insert(0, "EXIF")
    if kind == "TIFF" and deep_colour and {_EXIF_IFD, _GPS_IFD} & set(exif):
      lost.insert(0, "what EXIF says of camera and place")
    if self.icc_profile is not None and kind == "BMP":
      lost.insert(0, "its colour profile")
    return lost + list(self.annotations.unheld)


NO_METADATA = Metadata()


def read_metadata(data: bytes) -> Metadata:
  """Reads the metadata of an image file that can be decoded.

  Broken metadata is no reason to refuse a picture: it is left out.

  Args:
    data: the bytes of the file.
  """
  with Image.open(io.BytesIO(data)) as image:
    found = Metadata(image.info.get("icc_profile") or None)
    # Whatever a damaged directory makes Pillow raise.
    with contextlib.suppress(Exception):
      found = found._replace(exif=_packed(_upright_exif(image)))
    with contextlib.suppress(Exception):
      found = found._replace(dpi=_upright_dpi(image))
    turned = orientation_of(image) != 1
    annotations = read_annotations(image, data, turned=turned)
    found = found._replace(annotations=annotations)
  if image.format == "PNG":
    found = found._replace(png_colours=_png_colours(io.BytesIO(data)))
  return found


def _upright_dpi(image: ImageFile.ImageFile) -> tuple[float, float] | None:
  """Returns pixels per inch, where the file says it outside of EXIF."""
  # Without them Pillow takes EXIF's, which is kept by itself, or makes one up.
  if image.format in ("JPEG", "MPO"):
    told = image.info.get("jfif_unit") in _JFIF_UNITS
  else:
    told = not isinstance(image, TiffImagePlugin.TiffImageFile) or {
      _X_RESOLUTION,
      _Y_RESOLUTION,
    } <= set(image.tag_v2)
  if not told or "dpi" not in image.info:
    return None
  dpi = image.info["dpi"]
  return _checked_dpi(*(dpi[::-1] if orientation_of(image) >= 5 else dpi))


def _checked_dpi(
  x: float, y: float, scale: int = 1
) -> tuple[float, float] | None:
  """Multiplies by `scale`; None for what is none, or not held everywhere."""
  x, y = float(x) * scale, float(y) * scale
  return (x, y) if all(1 <= side <= _MOST_DPI for side in (x, y)) else None


def read_exif(image: ImageFile.ImageFile) -> Image.Exif:
  """Reads EXIF of an image that was opened, not loaded; empty for none.

  It is the same whether pixels are read after it or not: that of a PNG may lie
  behind them, where Pillow finds it only once it has decoded all of them.

  Raises:
    ValueError: its tags claim more than it holds.
  """
  if image.format != "PNG" or "exif" in image.info:
    check_exif(image.info.get("exif") or b"")
    return image.getexif()
  file = image.fp
  assert file is not None  # it is closed by loading
  start, packed = file.tell(), b""
  for kind, length in png_chunks(file):
    if kind == b"eXIf":
      packed = file.read(length)
      break
  file.seek(start)  # Pillow goes on where it was.
  exif = Image.Exif()
  check_exif(packed)
  exif.load(packed)
  return exif


def orientation_of(image: ImageFile.ImageFile) -> int:
  """Returns the EXIF orientation, 1 to 8; 1 where it is absent or broken."""
  try:
    orientation = int(read_exif(image).get(_ORIENTATION, 1))
    return orientation if 1 <= orientation <= 8 else 1
  except Exception:  # As viewers do: broken metadata does not hide a picture.
    return 1


def _png_colours(file: IO[bytes]) -> tuple[Chunk, ...]:
  """Reads `Metadata.png_colours`; behind the pixels they say nothing."""
  found = {}
  for kind, length in png_chunks(file):
    if kind == b"IDAT":
      break
    if _PNG_COLOURS.get(kind) == length:
      found[kind] = file.read(length)
  return tuple(found.items())


def _upright_exif(image: ImageFile.ImageFile) -> Image.Exif:
  """Returns EXIF of the image after it was turned upright."""
  found, kept = read_exif(image), Image.Exif()
  turned = _TURNED if orientation_of(image) >= 5 else {}
  for tag in _KEPT:
    if tag in found:
      kept[turned.get(tag, tag)] = found[tag]
  for ifd in (_EXIF_IFD, _GPS_IFD):
    values = found.get_ifd(ifd) if ifd in found else {}
    values = {tag: v for tag, v in values.items() if tag not in _DROPPED}
    if values:
      kept[ifd] = values
  return kept


def _packed(exif: Image.Exif) -> bytes | None:
  """Packs EXIF; None where it is empty or too long."""
  for tag, value in list(exif.items()):
    if isinstance(value, str) and not value.isascii():
      exif[tag] = value.encode("latin-1")  # as it was read; Pillow writes ASCII
  packed = exif.tobytes() if len(exif) else b""
  return packed if 0 < len(packed) <= _MOST_EXIF else None
