"""Where on Earth the pixels of a GeoTIFF lie.

Source: OGC 19-008r4 (GeoTIFF 1.1), 7.1 and 7.2; GDAL's GTiff driver (nodata and
metadata).
"""

from typing import Any, NamedTuple

import numpy as np

SCALE, TIEPOINTS, MATRIX = 33550, 33922, 34264
KEYS, DOUBLES, TEXTS = 34735, 34736, 34737
METADATA, NODATA = 42112, 42113  # of GDAL
_SHORT, _ASCII, _DOUBLE = 3, 2, 12  # types of TIFF
TYPES = {
  **dict.fromkeys((SCALE, TIEPOINTS, MATRIX, DOUBLES), _DOUBLE),
  KEYS: _SHORT,
  **dict.fromkeys((TEXTS, METADATA, NODATA), _ASCII),
}
_RASTER_TYPE, _IS_POINT = 1025, 2  # a key, and its value


class Tag(NamedTuple):
  """A tag of a TIFF file.

  Attributes:
    number: of it.
    kind: its type, a key of the TIFF specification.
    value: numbers, or a text as bytes without its last zero.
  """

  number: int
  kind: int
  value: tuple[Any, ...] | bytes


def read_tags(found: dict[int, Any]) -> tuple[Tag, ...]:
  """Returns the tags of `TYPES` that are there, as Pillow reads them.

  Raises:
    ValueError: one has the wrong type or number of values.
  """
  tags = []
  for number in TYPES.keys() & found.keys():
    kind, value = TYPES[number], found[number]
    if kind == _ASCII:
      if not isinstance(value, str):
        raise ValueError(f"tag {number} is no text")
      tags.append(Tag(number, kind, value.encode("latin-1")))
      continue
    numbers = np.ravel(value)
    least = {SCALE: 3, TIEPOINTS: 6, MATRIX: 16}.get(number, 1)
    size = numbers.size
    if numbers.dtype.kind not in "iuf" or not size or size % least:
      raise ValueError(f"tag {number} has {size} values")
    convert = int if kind == _SHORT else float
    tags.append(Tag(number, kind, tuple(map(convert, numbers))))
  return tuple(sorted(tags))


def enlarge(tags: tuple[Tag, ...], scale: int) -> tuple[Tag, ...]:
  """Returns the tags of an image whose sides are `scale` times as long.

  Places of pixels are those of their upper left corners, or of their centres
  where the keys say that pixels are points.
  """
  if scale == 1:
    return tags
  keys = next((tag.value for tag in tags if tag.number == KEYS), ())
  rows = np.reshape(keys[: len(keys) // 4 * 4], (-1, 4)).tolist()
  is_point = any(
    key == _RASTER_TYPE and v == _IS_POINT for key, _, _, v in rows
  )
  corner = 0.5 if is_point else 0.0
  enlarged = []
  for tag in tags:
    if tag.number in (SCALE, TIEPOINTS, MATRIX):
      values = np.array(tag.value, np.float64)
      if tag.number == SCALE:
        values[:2] /= scale
      elif tag.number == TIEPOINTS:
        points = values.reshape(-1, 6)
        points[:, :2] = (points[:, :2] + corner) * scale - corner
      else:
        matrix = values.reshape(4, 4)
        # (row, column) of the input = (that of the result + c) / scale - c.
        columns = matrix[:3, :2].copy()
        matrix[:3, 3] += columns.sum(axis=1) * (corner / scale - corner)
        matrix[:3, :2] = columns / scale
      tag = tag._replace(value=tuple(values.tolist()))
    enlarged.append(tag)
  return tuple(enlarged)
