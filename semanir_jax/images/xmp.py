"""XMP, the XML beside an image: what of it stays true in a restored one.

Source: ISO 16684-1 (XMP), Adobe's XMP Specification Part 2 and 3 (names and
places), Android's Ultra HDR and Motion Photo formats (what stands behind a
JPEG).
"""

import re

JPEG_START = b"http://ns.adobe.com/xap/1.0/\0"
PNG_KEYWORD = b"XML:com.adobe.xmp"

# In pixels, of the file as it lay, or a preview; as of EXIF (metadata.py). A
# result is upright, or as it was read where no reader turns it.
_STALE = (
  *(rb"tiff:Orientation", rb"tiff:ImageWidth", rb"tiff:ImageLength"),
  *(rb"tiff:XResolution", rb"tiff:YResolution", rb"tiff:ResolutionUnit"),
  *(rb"exif:PixelXDimension", rb"exif:PixelYDimension"),
  *(rb"exif:SubjectArea", rb"exif:SubjectLocation"),
  *(rb"exif:FocalPlane\w+", rb"xmp:Thumbnails"),
)
# What stood elsewhere in the file: a gain map, a video, the rest of the XMP.
_ELSEWHERE = (
  *(rb"hdrgm:\w+", rb"G?Container:Directory", rb"xmpNote:HasExtendedXMP"),
  *(rb"G?Camera:MotionPhoto\w*", rb"G?Camera:MicroVideo\w*"),
)
# Faces, of the file as it lay.
_PLACES = (rb"mwg-rs:Regions", rb"MP:RegionInfo")


def keep_what_is_true(packet: bytes, *, turned: bool) -> bytes:
  """Leaves out of XMP what is not true of a restored image.

  Args:
    packet: UTF-8.
    turned: whether the image was turned upright, or mirrored.
  """
  names = (*_STALE, *_ELSEWHERE, *(_PLACES if turned else ()))
  for name in names:
    element = rb"<(%b)(?:\s[^<>]*)?(?:/>|(?<!/)>.*?</\1\s*>)" % name
    packet = re.sub(element, b"", packet, flags=re.DOTALL)
    packet = re.sub(rb"\s%b\s*=\s*(?:\"[^\"]*\"|'[^']*')" % name, b"", packet)
  return packet


def names_a_gain_map(packet: bytes) -> bool:
  """Says whether XMP is of a picture with an HDR gain map."""
  return b"hdrgm:Version" in packet


def names_a_video(packet: bytes) -> bool:
  """Says whether XMP is of a picture with a video behind it."""
  return b"MotionPhoto" in packet or b"MicroVideo" in packet
