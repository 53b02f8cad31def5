"""Whether the pixels of a file went through a lossy codec."""

import contextlib
import io

from PIL import Image

_JPEG_START = b"\xff\xd8\xff"
_TIFF_STARTS = (b"II", b"MM")
_TIFF_JPEGS = ("jpeg", "tiff_jpeg")  # Pillow's names
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}  # others of `ftyp` are HEIC


def lossy_coding(data: bytes) -> str:
  """Names the lossy coding of an image file that can be decoded.

  Args:
    data: the bytes of the file.

  Returns:
    "JPEG", "lossy WebP", "HEIC", "AVIF"; "" where the file keeps its pixels.
  """
  if data.startswith(_JPEG_START):
    return "JPEG"
  if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
    return "lossy WebP" if _has_vp8(data) else ""
  if data[4:8] == b"ftyp":
    return _BRANDS.get(data[8:12], "HEIC")
  if data.startswith(_TIFF_STARTS):
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as image:
      if image.info.get("compression") in _TIFF_JPEGS:
        return "JPEG"
  return ""


def _has_vp8(data: bytes) -> bool:
  """Says whether a WebP holds a lossy picture: its chunk `VP8 `."""
  place = 12
  while place + 8 <= len(data):
    if data[place : place + 4] == b"VP8 ":
      return True
    length = int.from_bytes(data[place + 4 : place + 8], "little")
    place += 8 + length + length % 2
  return False
