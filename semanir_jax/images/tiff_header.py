"""Refuses TIFF files that would be read wrongly, slowly or not at all.

Pillow drops samples beside the colours, takes signed samples of 8 bits for
unsigned ones, and allocates what a file claims; tifffile fills what is missing
with black. So the first directory of a file is read here before they do.
"""

import contextlib
import io
import math
import struct
from typing import BinaryIO, NamedTuple

from semanir_jax.images import claims
from semanir_jax.images.kinds import UnsupportedError

# TIFF 6.0, section 2; 16 to 18 are BigTIFF's.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8}
_TYPE_BYTES |= {11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
# Number of entries, an entry, and a place in the file; of BigTIFF or not.
_FORMATS = {False: ("H", "HHI4s", "I"), True: ("Q", "HHQ8s", "Q")}
_MOST_CLAIMED = 4  # times the bytes of a file, by all tags of a directory

_WIDTH, _HEIGHT, _BITS, _PACKING, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 277, 278, 279
_PLANES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = (
  284,
  322,
  323,
  324,
  325,
)
_EXTRA_SAMPLES, _SAMPLE_FORMAT = 338, 339
_BELOW = {34665, 34853, 40965}  # directories: EXIF, GPS, interoperability
_USED = _BELOW | {
  *(_WIDTH, _HEIGHT, _BITS, _PACKING, _PHOTOMETRIC, _STRIPS, _SAMPLES),
  *(_ROWS_PER_STRIP, _STRIP_BYTES, _PLANES, _TILE_WIDTH, _TILE_HEIGHT),
  *(_TILES, _TILE_BYTES, _EXTRA_SAMPLES, _SAMPLE_FORMAT),
}

_ALPHA = (1, 2)  # of extra samples: associated, or not
# By photometric interpretation: the colours, and how many.
_COLOURS = {
  **{0: ("gray", 1), 1: ("gray", 1), 2: ("RGB", 3), 3: ("palette", 1)},
  **{5: ("CMYK", 4), 6: ("YCbCr", 3), 8: ("Lab", 3)},
}
_SAMPLE_FORMATS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
# Bytes that one byte becomes. LZW: a code of 12 bits stands for up to 3838.
# LZMA: 1 GiB of zeros takes 150 KB. ZSTD: 128 KiB of a block of 4 bytes.
_MOST_PER_BYTE = {
  **{1: 1, 2: 256, 5: 4096, 6: 4096, 7: 4096, 32773: 64, 34925: 1 << 14},
  **{8: claims.DEFLATE, 32946: claims.DEFLATE, 50000: 1 << 15},
}
_FAX = (3, 4)  # a row like the one above it takes a bit
_OLD_JPEG = 6
_OTHER_PACKINGS = {
  **{33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000"},
  **{22610: "JPEG XR", 34934: "JPEG XR", 50002: "JPEG XL", 52546: "JPEG XL"},
  **{34676: "SGI's log", 34677: "SGI's log", 34887: "LERC"},
  **{32809: "ThunderScan", 34892: "lossy JPEG", 34933: "PNG", 50001: "WebP"},
}


class _Directory(NamedTuple):
  """Holds integers of a directory by tag, and where the next one lies."""

  tags: dict[int, tuple[int, ...]]
  following: int

  def first(self, tag: int, absent: int) -> int:
    """Returns the first value of a tag."""
    return (*self.tags.get(tag, ()), absent)[0]


def check(file: BinaryIO, num_bytes: int) -> None:
  """Checks the header of a TIFF file.

  Args:
    file: at its beginning.
    num_bytes: of the file.

  Raises:
    ValueError: it claims more than it can hold, or is cut short.
    UnsupportedError: of a kind that is not read, or several pages.
  """
  try:
    directory = _read(file, num_bytes)
  except struct.error as error:
    raise ValueError("TIFF that ends before its header does") from error
  if directory.following:
    raise UnsupportedError("TIFF of several pages: save each one alone")
  _check_kind(directory)
  _check_claims(directory, num_bytes)


def check_exif(exif: bytes) -> None:
  """Raises ValueError for EXIF whose tags claim more than it holds."""
  exif = exif.removeprefix(b"Exif\0\0")
  with contextlib.suppress(struct.error):  # readers take what they can
    _read(io.BytesIO(exif), len(exif))


def _read(file: BinaryIO, num_bytes: int) -> _Directory:
  """Reads the first directory; sizes in those below it are checked too.

  Raises:
    struct.error: it is cut short.
    ValueError: tags claim more than so many bytes can hold.
  """
  head = file.read(16)
  order = "<" if head[:2] == b"II" else ">"
  is_big = b"+" in head[2:4]
  place_format = order + _FORMATS[is_big][2]
  place = struct.unpack_from(place_format, head, 8 if is_big else 4)[0]
  directory = _read_directory(file, num_bytes, order, is_big, place)
  found = [directory]
  for upper in found:  # grows: EXIF's names another one
    for tag in _BELOW & upper.tags.keys():
      if len(found) <= len(_BELOW):
        below = upper.first(tag, 0)
        # Broken metadata is no reason to refuse a picture.
        with contextlib.suppress(struct.error):
          found.append(_read_directory(file, num_bytes, order, is_big, below))
  if directory.following == place:  # as readers do: no other page
    directory = directory._replace(following=0)
  return directory


def _read_directory(
  file: BinaryIO, num_bytes: int, order: str, is_big: bool, place: int
) -> _Directory:
  """Reads one directory; struct.error where it is cut short."""
  count, entry, offset = (struct.Struct(order + f) for f in _FORMATS[is_big])
  file.seek(min(place, num_bytes))
  num_entries = count.unpack(file.read(count.size))[0]
  if num_entries * entry.size > num_bytes:
    raise struct.error
  entries = file.read(num_entries * entry.size)
  rest = file.read(offset.size)
  tags: dict[int, tuple[int, ...]] = {}
  claimed = 0
  for tag, kind, number, value in entry.iter_unpack(entries):
    length = number * _TYPE_BYTES.get(kind, 0)
    if length > offset.size:
      # Readers skip what is longer than the file, once they have read it.
      claimed += min(length, num_bytes)
      if claimed > _MOST_CLAIMED * num_bytes:
        raise ValueError("has tags that claim more than its bytes can hold")
    if tag in _USED and kind in _INTEGERS and length <= num_bytes:
      if length > offset.size:
        file.seek(min(offset.unpack(value)[0], num_bytes))
        value = file.read(length)
      values = struct.Struct(f"{order}{number}{_INTEGERS[kind]}")
      tags[tag] = values.unpack(value[: values.size])
  # Some writers leave the end out.
  following = offset.unpack(rest)[0] if len(rest) == offset.size else 0
  return _Directory(tags, following)


def _check_kind(directory: _Directory) -> None:
  """Raises UnsupportedError for what is not read, or only in part."""
  formats = set(directory.tags.get(_SAMPLE_FORMAT, ()))
  for number, name in _SAMPLE_FORMATS.items():
    if number in formats:
      raise UnsupportedError(
        f"TIFF of {name} samples: save it with unsigned ones of 8 or 16 bits"
      )
  bits = set(directory.tags.get(_BITS, (1,)))
  if not bits <= {1, 2, 4, 8, 16} or len(bits) > 1:
    text = " and ".join(map(str, sorted(bits)))
    raise UnsupportedError(
      f"TIFF of {text} bits per sample: save it with 8 or 16"
    )
  packing = directory.first(_PACKING, 1)
  if packing not in _MOST_PER_BYTE and packing not in _FAX:
    name = _OTHER_PACKINGS.get(packing, f"method {packing}")
    raise UnsupportedError(
      f"TIFF packed by {name}, which is not read: save it packed by LZW or"
      " Deflate"
    )
  photometric = directory.first(_PHOTOMETRIC, 0)
  if photometric not in _COLOURS:
    raise UnsupportedError(
      f"TIFF whose samples are no colours (photometric {photometric}): save it"
      " as gray or sRGB"
    )
  _check_extra(directory, *_COLOURS[photometric], bits == {16})


def _check_extra(
  directory: _Directory, colours: str, num_colours: int, is_deep: bool
) -> None:
  """Refuses samples beside the colours, but for alpha of 8 bits."""
  kinds = directory.tags.get(_EXTRA_SAMPLES, ())
  samples = directory.first(_SAMPLES, num_colours)
  extra = max(samples - num_colours, len(kinds))
  # Some writers of alpha do not say that it is.
  if extra > 1 or (extra and kinds and kinds[0] not in _ALPHA):
    raise UnsupportedError(
      f"TIFF of {colours}+{extra} samples per pixel (near infrared, a spot"
      f" colour, ...), which would be lost: save a copy of the {colours} alone"
    )
  if extra and is_deep:
    raise UnsupportedError("16-bit TIFF with alpha: remove it, or save as PNG")


def _check_claims(directory: _Directory, num_bytes: int) -> None:
  """Raises ValueError where the file cannot hold what the header claims."""
  width, height = directory.first(_WIDTH, 0), directory.first(_HEIGHT, 0)
  claims.check_size(width, height)
  samples = directory.first(_SAMPLES, 1)
  planes = samples if directory.first(_PLANES, 1) == 2 else 1
  pixel_bits = samples // planes * directory.first(_BITS, 1)
  packing = directory.first(_PACKING, 1)
  most = max(width, 1) if packing in _FAX else _MOST_PER_BYTE[packing]
  row_bytes = math.ceil(width * pixel_bits / 8)
  claims.check_bytes(row_bytes * height * planes, most, num_bytes)
  if _TILES in directory.tags:
    tile = [directory.first(tag, 0) for tag in (_TILE_WIDTH, _TILE_HEIGHT)]
    if 0 in tile:
      raise ValueError("TIFF of tiles without a size")
    claims.check_bytes(math.prod(tile) * pixel_bits // 8, most, num_bytes)
    parts = math.ceil(width / tile[0]) * math.ceil(height / tile[1])
    places, lengths = _TILES, _TILE_BYTES
  else:
    rows = min(directory.first(_ROWS_PER_STRIP, height), height)
    parts = math.ceil(height / max(rows, 1))
    places, lengths = _STRIPS, _STRIP_BYTES
  parts *= planes
  found = directory.tags.get(places, ())
  counts = directory.tags.get(lengths, ())[:parts]
  # JPEG of old has another place for them; of pixels that are not packed, the
  # length is known without.
  missing = len(found) < parts or 0 in found[:parts]
  if packing != _OLD_JPEG and (missing or (packing != 1 and 0 in counts)):
    raise ValueError("lacks parts of its pixels")
