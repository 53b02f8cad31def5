"""What people and programs wrote into an image file, and what holds it.

  XMP            PNG, TIFF, WebP, and JPEG up to 65502 bytes
  IPTC           TIFF and JPEG: captions and keywords of the press
  comment        JPEG, and PNG as its text "Comment"
  text of PNG    PNG
  GeoTIFF        TIFF: where on Earth the pixels lie, enlarged with them

Nothing is changed but what would no longer be true. What a result cannot hold
is named, and so is what is held nowhere: second images, unknown segments.
"""

import io
import struct
from typing import Any, NamedTuple

from PIL import ImageFile, TiffImagePlugin

from semanir_jax.images import geotiff, png_chunks, xmp
from semanir_jax.images.png_chunks import Chunk

XMP_TAG, IPTC_TAG = 700, 33723  # of TIFF
_BYTE, _UNDEFINED = 1, 7
_MOST_XMP, _MOST_SEGMENT = 65_502, 65_533  # bytes, of JPEG
_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC_RESOURCE = 0x0404
# Resolution (kept elsewhere), preview, checksums, and what they were made with.
_STALE_RESOURCES = (0x03ED, 0x0409, 0x040C, 0x0421, 0x0425, 0x0426)
# Segments of JPEG that are read here or elsewhere, or of no use later.
_KNOWN_SEGMENTS = (
  *(b"JFIF\0", b"JFXX\0", b"Exif\0", b"ICC_PROFILE\0", b"MPF\0", b"Adobe"),
  *(b"Ducky", xmp.JPEG_START, _PHOTOSHOP),
)
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"  # ISO 21496-1
_NUMBER_OF_IMAGES = 45057  # CIPA DC-007, multi-picture format
# Text of PNG that is EXIF, which is read elsewhere, or says where pixels were.
_STALE_TEXTS = (b"Raw profile type exif", b"Raw profile type APP1", b"exif:")
_XMP_TEXT = b"Raw profile type xmp"
# Tags of TIFF that say how pixels are stored, or that metadata.py reads.
_KNOWN_TAGS = {
  *(254, 255, 256, 257, 258, 259, 262, 263, 266, 270, 271, 272, 273, 274),
  *(277, 278, 279, 280, 281, 282, 283, 284, 288, 289, 290, 291, 292, 293, 296),
  *(305, 306, 315, 317, 320, 322, 323, 324, 325, 327, 328, 338, 339, 340, 341),
  *(347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532, 559, 33432),
  *(34665, 34675, 34853, XMP_TAG, IPTC_TAG, *geotiff.TYPES),
}


class Annotations(NamedTuple):
  """Goes from an image file to its result.

  Attributes:
    xmp: a packet, UTF-8, or None.
    iptc: IIM records, or None.
    comments: of a JPEG.
    texts: chunks of a PNG.
    places: tags of GeoTIFF.
    unheld: names of what no result holds.
  """

  xmp: bytes | None = None
  iptc: bytes | None = None
  comments: tuple[bytes, ...] = ()
  texts: tuple[Chunk, ...] = ()
  places: tuple[geotiff.Tag, ...] = ()
  unheld: tuple[str, ...] = ()

  def enlarged(self, scale: int) -> "Annotations":
    """Returns that of an image whose sides are `scale` times as long."""
    return self._replace(places=geotiff.enlarge(self.places, scale))

  def lost_in(self, kind: str) -> list[str]:
    """Names what a result does not hold.

    Args:
      kind: "PNG", "TIFF", "JPEG", "WEBP" or "BMP".
    """
    holds = {
      "XMP": self.xmp is None
      or kind in ("PNG", "TIFF", "WEBP")
      or (kind == "JPEG" and len(self.xmp) <= _MOST_XMP),
      "IPTC": self.iptc is None
      or kind == "TIFF"
      or (kind == "JPEG" and len(self._iptc_segment()) <= _MOST_SEGMENT),
      "the comment": not self.comments or kind in ("PNG", "JPEG"),
      "the text of its PNG": not self.texts or kind == "PNG",
      "GeoTIFF": not self.places or kind == "TIFF",
    }
    return [name for name, held in holds.items() if not held]

  def to_png_chunks(self) -> list[Chunk]:
    """Returns the chunks of a PNG that hold it."""
    chunks = list(self.texts)
    chunks += [png_chunks.text_chunk("Comment", text) for text in self.comments]
    if self.xmp is not None:
      packet = xmp.PNG_KEYWORD + b"\0\0\0\0\0" + self.xmp
      chunks.append((b"iTXt", packet))
    return chunks

  def to_tiff_tags(self) -> list[geotiff.Tag]:
    """Returns the tags of a TIFF that hold it."""
    tags = list(self.places)
    for number, kind, value in (
      (XMP_TAG, _BYTE, self.xmp),
      (IPTC_TAG, _UNDEFINED, self.iptc),
    ):
      if value is not None:
        tags.append(geotiff.Tag(number, kind, value))
    return tags

  def to_jpeg_options(self) -> dict[str, Any]:
    """Returns the options of Pillow that write it into a JPEG."""
    options, lost = {}, self.lost_in("JPEG")
    if self.xmp is not None and "XMP" not in lost:
      options["xmp"] = self.xmp
    segments = [(b"\xff\xfe", text) for text in self.comments]
    if self.iptc is not None and "IPTC" not in lost:
      segments.append((b"\xff\xed", self._iptc_segment()))
    options["extra"] = b"".join(
      marker + struct.pack(">H", len(body) + 2) + body
      for marker, body in segments
    )
    return options

  def _iptc_segment(self) -> bytes:
    """Returns the body of JPEG's APP13."""
    assert self.iptc is not None
    head = struct.pack(">4sHHI", b"8BIM", _IPTC_RESOURCE, 0, len(self.iptc))
    return _PHOTOSHOP + head + self.iptc + b"\0" * (len(self.iptc) % 2)


NO_ANNOTATIONS = Annotations()


def read_annotations(
  image: ImageFile.ImageFile, data: bytes, *, turned: bool
) -> Annotations:
  """Reads what was written into a file; damaged parts are named as unheld.

  Args:
    image: opened, not loaded.
    data: bytes of the file.
    turned: whether the image is turned upright, or mirrored.
  """
  found, unheld = NO_ANNOTATIONS, []
  packet = image.info.get("xmp")
  try:
    if image.format == "PNG":
      found, packet, unheld = _read_png(data)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
      found, unheld = _read_tiff(image.tag_v2, turned=turned)
    else:
      found, unheld = _read_jpeg(image)
  except Exception:  # Whatever a damaged part makes Pillow or struct raise.
    unheld = [*unheld, "a part that is damaged"]
  if isinstance(
    packet, str
  ):  # as text of a TIFF, which Pillow reads as Latin-1
    packet = packet.encode("latin-1")
  if isinstance(packet, bytes):
    if xmp.names_a_video(packet):
      unheld.append("the video behind it")
    try:
      packet.decode()
      kept = xmp.keep_what_is_true(packet, turned=turned)
      found = found._replace(xmp=kept)
    except UnicodeDecodeError:
      unheld.append("XMP that is no UTF-8")
  return found._replace(unheld=tuple(dict.fromkeys(unheld)))


def _read_jpeg(image: ImageFile.ImageFile) -> tuple[Annotations, list[str]]:
  """Reads the segments of a JPEG; nothing of WebP and BMP."""
  segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
  comments = tuple(body for name, body in segments if name == "COM" and body)
  resources = image.info.get("photoshop", {})
  unheld = []
  maps = (_GAIN_MAP, b"hdrgm:Version")
  if any(mark in body for _, body in segments for mark in maps):
    unheld.append("its HDR gain map")
  elif _number_of_images(image.info.get("mp")) > 1:
    unheld.append("the image behind it (a gain map, a preview, a view)")
  for name, body in segments:
    if body.startswith(_MORE_XMP):
      unheld.append("the second part of its XMP")
    elif name != "COM" and not body.startswith((*_KNOWN_SEGMENTS, _GAIN_MAP)):
      unheld.append(f"its {name} segment")
  others = resources.keys() - {_IPTC_RESOURCE, *_STALE_RESOURCES}
  if others:
    unheld.append("Photoshop's resources")
  iptc = resources.get(_IPTC_RESOURCE) or None
  return Annotations(iptc=iptc, comments=comments), unheld


def _number_of_images(header: bytes | None) -> int:
  """Returns how many images a multi-picture header lists."""
  if header is None:
    return 1
  directory = TiffImagePlugin.ImageFileDirectory_v2(header[:8])
  file = io.BytesIO(header)
  file.seek(directory.next)
  directory.load(file)
  return int(directory.get(_NUMBER_OF_IMAGES, 1))


def _read_png(data: bytes) -> tuple[Annotations, bytes | None, list[str]]:
  """Reads the text of a PNG, of which XMP is one, and what it cannot keep."""
  texts, packet, unheld = [], None, []
  file = io.BytesIO(data)
  for kind, length in png_chunks.png_chunks(file):
    if kind not in png_chunks.TEXT:
      continue
    body = file.read(length)
    name = png_chunks.keyword(body)
    if kind == b"iTXt" and name == xmp.PNG_KEYWORD:
      try:
        packet = png_chunks.read_international(body)
      except ValueError:
        unheld.append("XMP that is damaged")
    elif name == _XMP_TEXT:
      unheld.append("XMP in a form of ImageMagick's")
    elif not name.startswith(_STALE_TEXTS):
      texts.append((kind, body))
  return Annotations(texts=tuple(texts)), packet, unheld


def _read_tiff(
  directory: TiffImagePlugin.ImageFileDirectory_v2, *, turned: bool
) -> tuple[Annotations, list[str]]:
  """Reads the tags of a TIFF."""
  unheld, tags = [], ()
  numbers = set(directory)
  places = {
    number: directory[number] for number in numbers & set(geotiff.TYPES)
  }
  if places and turned:
    unheld.append("GeoTIFF, since the image was turned")
  elif places:
    try:
      tags = geotiff.read_tags(places)
    except ValueError:
      unheld.append("GeoTIFF that is damaged")
  # Photoshop writes it as integers of 32 bits, of which Pillow would read one.
  iptc = directory._tagdata.get(IPTC_TAG)
  if unknown := sorted(numbers - _KNOWN_TAGS):
    unheld.append(f"its tags {', '.join(map(str, unknown))}")
  return Annotations(iptc=iptc or None, places=tags), unheld
