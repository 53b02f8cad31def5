"""Turns frames of a film into RGB, and results into frames.

A frame is Y'CbCr of 8 to 16 bits, its chroma often of fewer samples; or RGB, or
gray. Networks take RGB floats. All is computed in float32 from the frame's own
integers, so that 10 bits stay 10 bits.

Where a network keeps the size, only what it changed is brought back: the frame
plus the change, its chroma at the frame's own sampling. What a network leaves
alone stays bit for bit, though chroma was interpolated on the way. A larger
result is converted as a whole.

Source: ITU-T H.273 for matrices, ranges and where chroma samples lie.
"""

import dataclasses
import re
from typing import TYPE_CHECKING

import numpy as np

from semanir_jax.films.library import FilmError, load_av

if TYPE_CHECKING:
  import av

_NAME = re.compile(r"(?:(yuv)j?(4\d\d)p|(gray)|(gbrp))(\d*)(?:le)?")
# Luma samples for each of chroma, horizontally and vertically.
_SAMPLING = {
  "444": (1, 1),
  "440": (1, 2),
  "422": (2, 1),
  "420": (2, 2),
  "411": (4, 1),
  "410": (4, 4),
}
# Other ways to lay the same samples out in memory.
_SAME_SAMPLES = {
  "nv12": "yuv420p",
  "nv21": "yuv420p",
  "nv16": "yuv422p",
  "yuyv422": "yuv422p",
  "uyvy422": "yuv422p",
  "p010le": "yuv420p10le",
  "rgb24": "gbrp",
  "bgr24": "gbrp",
  "rgb0": "gbrp",
  "bgr0": "gbrp",
  "0rgb": "gbrp",
  "0bgr": "gbrp",
  "rgb48le": "gbrp16le",
}
# The shares of red and blue in luma, by the matrices of H.273.
_WEIGHTS = {
  1: (0.2126, 0.0722),  # BT.709
  4: (0.30, 0.11),
  5: (0.299, 0.114),  # BT.601
  6: (0.299, 0.114),
  7: (0.212, 0.087),
  9: (0.2627, 0.0593),  # BT.2020
}
UNSAID = 2  # matrix, primaries and transfer alike
_HD_LINES = 720
_FULL = 2
# Where chroma lies among its luma samples, by FFmpeg's numbers: 0 at the first,
# 1/2 in the middle, 1 at the last.
_HORIZONTAL = {2: 0.5, 4: 0.5, 6: 0.5}  # centre, top and bottom; else left
_VERTICAL = {3: 0.0, 4: 0.0, 5: 1.0, 6: 1.0}  # top, bottom; else between


@dataclasses.dataclass(frozen=True)
class PlaneFormat:
  """How samples lie in memory: each kind in a plane of its own.

  Attributes:
    name: FFmpeg's, as "yuv420p10le".
    kind: "yuv", "gray" or "gbrp".
    bits: of a sample.
    sampling: luma samples for each of chroma, horizontally and vertically.
  """

  name: str
  kind: str
  bits: int
  sampling: tuple[int, int]

  @property
  def dtype(self) -> np.dtype:
    """Returns the type of a sample in memory."""
    return np.dtype(np.uint8 if self.bits == 8 else "<u2")


@dataclasses.dataclass(frozen=True)
class Colours:
  """What the integers of a film mean, by the numbers of H.273.

  Attributes:
    color_range: 0 unsaid, 1 limited (16 to 235), 2 full.
    colorspace: the matrix; 2 unsaid.
    color_primaries: 2 unsaid.
    color_trc: the transfer; 2 unsaid.
    chroma_location: FFmpeg's number; 0 unsaid.
  """

  color_range: int = 0
  colorspace: int = UNSAID
  color_primaries: int = UNSAID
  color_trc: int = UNSAID
  chroma_location: int = 0

  def matrix(self, height: int) -> int:
    """Returns the matrix; where none is said, players' guess by the lines."""
    if self.colorspace != UNSAID:
      return self.colorspace
    return 1 if height >= _HD_LINES else 6

  def for_height(self, before: int, after: int) -> "Colours":
    """Returns them for another height: a matrix that would be guessed
    differently is said.
    """
    matrix = self.matrix(before)
    if self.matrix(after) == matrix:
      return self
    return dataclasses.replace(self, colorspace=matrix)


def plane_format(name: str, film: str) -> PlaneFormat:
  """Finds a format of planes that holds the samples of FFmpeg's format `name`.

  Raises:
    FilmError: there is none, as for alpha and floats; `film` is for the line.
  """
  found = _NAME.fullmatch(_SAME_SAMPLES.get(name, name))
  sampling = "444" if found is None else found[2] or "444"
  if found is None or sampling not in _SAMPLING:
    raise FilmError(
      f"{film}: has pixels of the kind {name}, which is not read; convert it"
      " to yuv420p, yuv422p, yuv444p, gbrp or gray, of 8 to 16 bits, without"
      " alpha"
    )
  kind = found[1] or found[3] or found[4]
  plain = found[0].replace("yuvj", "yuv")
  bits = int(found[5] or 8)
  return PlaneFormat(plain, kind, bits, _SAMPLING[sampling])


def check_matrix(colours: Colours, layout: PlaneFormat, film: str) -> None:
  """Refuses matrices that are none of luma and two differences."""
  if layout.kind == "yuv" and colours.matrix(0) not in _WEIGHTS:
    raise FilmError(
      f"{film}: has the colour matrix {colours.colorspace} of H.273, which is"
      " not read; convert it to BT.709"
    )


def as_planes(frame: "av.VideoFrame", layout: PlaneFormat) -> "av.VideoFrame":
  """Returns a frame in a format of planes; the samples stay what they are."""
  name = frame.format.name.replace("yuvj", "yuv")
  if name == layout.name:
    return frame
  # Of several threads, libswscale loses rows of p010 now and then.
  return frame.reformat(format=layout.name, threads=1)


def read_planes(
  frame: "av.VideoFrame", layout: PlaneFormat
) -> list[np.ndarray]:
  """Returns views of the planes, `[H, W]` integers; chroma may be smaller."""
  return [
    np.frombuffer(memoryview(plane), layout.dtype).reshape(plane.height, -1)[
      :, : plane.width
    ]
    for plane in frame.planes
  ]


def is_gray(frame: "av.VideoFrame", layout: PlaneFormat) -> bool:
  """Says whether a frame has no colours: R = G = B in every pixel."""
  first, *others = read_planes(frame, layout)
  if layout.kind == "gbrp":
    return all((plane == first).all() for plane in others)
  middle = 1 << (layout.bits - 1)
  return all((plane == middle).all() for plane in others)


def to_unit(
  frame: "av.VideoFrame", layout: PlaneFormat, colours: Colours
) -> np.ndarray:
  """Turns a frame into what a network takes.

  Args:
    frame: of `layout`.
    layout: of its planes.
    colours: what its integers mean.

  Returns:
    `[H, W, 3]` RGB, or `[H, W, 1]` for gray planes; float32, black at 0 and
    white at 1; values beyond are kept.
  """
  planes = read_planes(frame, layout)
  black, span = _luma_range(layout, colours)
  first = (planes[0].astype(np.float32) - black) / span
  if layout.kind == "gray":
    return first[..., None]
  if layout.kind == "gbrp":
    others = [(p.astype(np.float32) - black) / span for p in planes[1:]]
    return np.stack([others[1], first, others[0]], axis=-1)
  middle, chroma_span = _chroma_range(layout, colours)
  phases = _phases(layout, colours)
  blue, red = (
    _enlarge((p.astype(np.float32) - middle) / chroma_span, first.shape, phases)
    for p in planes[1:]
  )
  kr, kb = _WEIGHTS[colours.matrix(frame.height)]
  kg = 1 - kr - kb
  rgb = np.empty((*first.shape, 3), np.float32)
  rgb[..., 0] = first + np.float32(2 * (1 - kr)) * red
  rgb[..., 1] = (
    first
    - np.float32(2 * kb * (1 - kb) / kg) * blue
    - np.float32(2 * kr * (1 - kr) / kg) * red
  )
  rgb[..., 2] = first + np.float32(2 * (1 - kb)) * blue
  return rgb


def from_unit(
  result: np.ndarray,
  layout: PlaneFormat,
  colours: Colours,
  *,
  frame: "av.VideoFrame | None" = None,
  before: np.ndarray | None = None,
) -> "av.VideoFrame":
  """Makes a frame of what a network returned.

  Args:
    result: `[H, W, 3]` RGB or `[H, W, 1]` float32, not clipped.
    layout: of the frame.
    colours: what its integers mean.
    frame: the frame that was restored, of the same size and layout; then only
      what changed since `before` is added to it.
    before: `to_unit` of `frame`.

  Returns:
    A frame without times, its samples rounded and clipped to their bits.
  """
  height, width, channels = result.shape
  made = load_av().VideoFrame(width, height, layout.name)
  black, span = _luma_range(layout, colours)
  middle, chroma_span = _chroma_range(layout, colours)
  if before is not None:
    result = result - before
  if layout.kind == "gray":
    parts = [(result.mean(axis=2), span, black)]
  elif layout.kind == "gbrp":
    rgb = np.broadcast_to(result, (height, width, 3))
    parts = [(rgb[..., i], span, black) for i in (1, 2, 0)]
  else:
    kr, kb = _WEIGHTS[colours.matrix(height)]
    rgb = np.broadcast_to(result, (height, width, 3))
    luma = rgb @ np.array([kr, 1 - kr - kb, kb], np.float32)
    phases = _phases(layout, colours)
    blue = _shrink((rgb[..., 2] - luma) / np.float32(2 * (1 - kb)), phases)
    red = _shrink((rgb[..., 0] - luma) / np.float32(2 * (1 - kr)), phases)
    parts = [(luma, span, black)]
    parts += [(part, chroma_span, middle) for part in (blue, red)]
  # Of a change, the offset is the frame's own.
  old = None if frame is None else read_planes(frame, layout)
  top = (1 << layout.bits) - 1
  for i, (part, gain, offset) in enumerate(parts):
    base = np.float32(offset) if old is None else old[i]
    samples = np.clip(np.rint(part * np.float32(gain) + base), 0, top)
    read_planes(made, layout)[i][...] = samples
  return made


def luma_255(
  frame: "av.VideoFrame", layout: PlaneFormat, colours: Colours
) -> np.ndarray:
  """Returns the luma of a frame, `[H, W]` float32, black 0 and white 255."""
  planes = read_planes(frame, layout)
  black, span = _luma_range(layout, colours)
  luma = planes[0].astype(np.float32)
  if layout.kind == "gbrp":  # BT.709
    luma = 0.7152 * luma + 0.0722 * planes[1] + 0.2126 * planes[2]
  return (luma - np.float32(black)) * np.float32(255 / span)


def _luma_range(layout: PlaneFormat, colours: Colours) -> tuple[int, int]:
  """Returns black, and white less black, of luma or of R, G and B."""
  unsaid_is_full = layout.kind == "gbrp" and colours.color_range == 0
  if colours.color_range == _FULL or unsaid_is_full:
    return 0, (1 << layout.bits) - 1
  return 16 << (layout.bits - 8), 219 << (layout.bits - 8)


def _chroma_range(layout: PlaneFormat, colours: Colours) -> tuple[int, int]:
  """Returns the integer of no colour, and what 1 is."""
  full = colours.color_range == _FULL
  span = (1 << layout.bits) - 1 if full else 224 << (layout.bits - 8)
  return 1 << (layout.bits - 1), span


def _phases(
  layout: PlaneFormat, colours: Colours
) -> tuple[tuple[int, float], tuple[int, float]]:
  """Returns, for rows and columns, luma samples a chroma sample, and where the
  first of chroma lies, in luma samples.
  """
  across, down = layout.sampling
  place = colours.chroma_location
  vertical = _VERTICAL.get(place, 0.5) * (down - 1)
  horizontal = _HORIZONTAL.get(place, 0.0) * (across - 1)
  return (down, vertical), (across, horizontal)


def _enlarge(
  plane: np.ndarray,
  shape: tuple[int, ...],
  phases: tuple[tuple[int, float], tuple[int, float]],
) -> np.ndarray:
  """Interpolates chroma linearly at the places of luma; borders are repeated.

  Args:
    plane: `[h, w]` float32.
    shape: of luma, (H, W).
    phases: see `_phases`.
  """
  for axis, (factor, first) in enumerate(phases):
    if factor == 1:
      continue
    place = (np.arange(shape[axis], dtype=np.float32) - first) / factor
    left = np.floor(place)
    share = (place - left).reshape((-1, 1) if axis == 0 else (1, -1))
    most = plane.shape[axis] - 1
    near, far = (
      np.take(plane, np.clip(left + step, 0, most).astype(int), axis)
      for step in (0, 1)
    )
    plane = near + share * (far - near)
  return plane


def _shrink(
  plane: np.ndarray, phases: tuple[tuple[int, float], tuple[int, float]]
) -> np.ndarray:
  """Takes chroma at its own places: a triangle's mean, as wide as `_enlarge`'s.

  Args:
    plane: `[H, W]` float32; borders are repeated.
    phases: see `_phases`.
  """
  for axis, (factor, first) in enumerate(phases):
    if factor == 1:
      continue
    count = -(-plane.shape[axis] // factor)
    steps = np.arange(np.ceil(first - factor), first + factor).astype(int)
    weights = 1 - np.abs(steps - first) / factor
    weights = (weights / weights.sum()).astype(np.float32)
    most, total = plane.shape[axis] - 1, np.float32(0)
    for step, weight in zip(steps, weights, strict=True):
      taken = np.clip(factor * np.arange(count) + step, 0, most)
      total = total + weight * np.take(plane, taken, axis)
    plane = np.asarray(total)
  return plane
