"""Reads a film: what it is, and its frames one after the other.

Every frame has the time stamp that the file gives it, in the file's own time
base. What cannot be decoded is told and left out, and the rest goes on.
"""

import contextlib
import dataclasses
import math
import pathlib
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import logging

from semanir_jax.films import planes
from semanir_jax.films.library import (
  CONTAINERS,
  FilmError,
  explain,
  load_av,
)
from semanir_jax.machine import files

if TYPE_CHECKING:
  import av

_READ = ("matroska", "mov")  # of the names of FFmpeg's readers
_MOST_TOLD = 5  # lines about damage
_SLACK_SECONDS = 0.1  # by which streams may end before their container says
_TAGS = ("color_range", "colorspace", "color_primaries", "color_trc")
_HDR = (16, 18)  # transfers: PQ, HLG


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameFormat:
  """How frames are stored and shown.

  Attributes:
    width: px, as they are stored.
    height: the same.
    layout: of the planes.
    colours: what its integers mean.
    time_base: seconds that a time stamp counts.
    rate: frames a second, on the average.
    aspect: of a pixel; 0 unsaid.
    display_matrix: how players turn the frames: 9 integers, as FFmpeg has them;
      None for as they are.
  """

  width: int
  height: int
  layout: planes.PlaneFormat
  colours: planes.Colours
  time_base: Fraction
  rate: Fraction
  aspect: Fraction
  display_matrix: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Film(FrameFormat):
  """What a file says of its film.

  Attributes:
    path: of the file.
    stream: index of the stream that is restored.
    num_frames: that it seems to have; 0 if nothing says so.
    others: indices of the streams beside it, that are copied.
    left_out: what is not copied, in words.
  """

  path: pathlib.Path
  stream: int
  num_frames: int
  others: tuple[int, ...]
  left_out: tuple[str, ...]


class FilmFrame(NamedTuple):
  """A frame of a film.

  Attributes:
    image: its planes.
    pts: when it is shown, in `Film.time_base`; above those before it.
    duration: how long, the same; 0 if nothing says so.
  """

  image: "av.VideoFrame"
  pts: int
  duration: int


class Damage:
  """Tells what of a film could not be read, and counts it."""

  def __init__(self, path: pathlib.Path, *, quiet: bool = False) -> None:
    self.lines: list[str] = []
    self._path, self._quiet = path, quiet

  def tell(self, line: str) -> None:
    """Says the first few, and takes note of all."""
    self.lines.append(line)
    if self._quiet:
      return
    if len(self.lines) <= _MOST_TOLD:
      logging.warning("%s: %s", self._path, line)
    elif len(self.lines) == _MOST_TOLD + 1:
      logging.warning("%s: more such are counted, not told", self._path)

  def __bool__(self) -> bool:
    """Says whether there was any."""
    return bool(self.lines)


@contextlib.contextmanager
def open_film(path: pathlib.Path) -> Iterator[Any]:
  """Opens a film for reading.

  Raises:
    FilmError: it is none, is not read, or PyAV is missing.
  """
  av = load_av()
  with files.os_errors_named(path), open(path, "rb"):
    pass
  try:
    container = av.open(str(path))
  except (av.FFmpegError, ValueError) as error:
    raise FilmError(
      f"{path}: cannot be read as a film ({explain(error)}); it is damaged, cut"
      " off before its index, or of another kind"
    ) from error
  with container:
    if not any(name in container.format.name for name in _READ):
      raise FilmError(
        f"{path}: is {container.format.long_name or container.format.name}, no"
        f" film of the kinds {' '.join(CONTAINERS)}; name it by what it is, or"
        " convert it"
      )
    yield container


def probe(path: pathlib.Path) -> Film:
  """Reads what a film is, with its first frame.

  Raises:
    FilmError: it cannot be read, or holds what cannot be restored.
  """
  av = load_av()
  with open_film(path) as container:
    stream, others, left_out = _choose_streams(container, path)
    first = None
    with contextlib.suppress(av.FFmpegError):
      for packet in container.demux(stream):
        with contextlib.suppress(av.FFmpegError):
          first = next(iter(packet.decode()), None)
        if first is not None:
          break
    if first is None:
      raise FilmError(
        f"{path}: not one frame of it can be decoded; it is damaged"
      )
    if first.interlaced_frame:
      raise FilmError(
        f"{path}: is interlaced, and networks learned whole pictures;"
        " deinterlace it first, as by FFmpeg's filter bwdif"
      )
    layout = planes.plane_format(first.format.name, str(path))
    colours = _colours(first, stream)
    planes.check_matrix(colours, layout, str(path))
    if colours.color_trc in _HDR:
      logging.warning(
        "%s: is HDR, which networks never saw; its colours are kept, its"
        " mastering display and light levels are not",
        path,
      )
    rate = _fraction(stream.average_rate or stream.base_rate) or Fraction(25)
    seconds = _stream_seconds(container, stream)
    return Film(
      path=path,
      stream=stream.index,
      width=first.width,
      height=first.height,
      layout=layout,
      colours=colours,
      time_base=_fraction(stream.time_base),
      rate=rate,
      aspect=_fraction(stream.sample_aspect_ratio),
      display_matrix=_display_matrix(first),
      num_frames=stream.frames or round(seconds * rate),
      others=tuple(other.index for other in others),
      left_out=tuple(left_out),
    )


def read_frames(film: Film, damage: Damage) -> Iterator[FilmFrame]:
  """Decodes the frames of a film in the order in which they are shown.

  Args:
    film: of `probe`.
    damage: is told what is damaged: frames that cannot be decoded are left out,
      and after the place where a file is cut off there is none.

  Yields:
    Frames of the film's size and layout.

  Raises:
    FilmError: frames change in size, or in how they lie in memory.
  """
  with open_film(film.path) as container:
    ends = _Ends(container)
    last = None
    for image in _decode(container, film, damage, ends):
      if image.is_corrupt:
        damage.tell(f"the frame at {_time(image, film)} s is damaged")
      _check_same(image, film)
      pts = image.pts if image.pts is not None else image.dts
      if last is not None and (pts is None or pts <= last.pts):
        told = "no time" if pts is None else "the time of one before it"
        pts = last.pts + (max(last.duration, 1) if pts is None else 1)
        damage.tell(
          f"a frame has {told}; it is shown at"
          f" {float(pts * film.time_base):.3f} s"
        )
      last = FilmFrame(
        planes.as_planes(image, film.layout), pts or 0, image.duration or 0
      )
      yield last
    if (missing := ends.missing()) is not None:
      damage.tell(
        f"is cut off: it ends at {missing[0]:.2f} s, and says that it lasts"
        f" {missing[1]:.2f} s"
      )


def _decode(
  container: Any, film: Film, damage: Damage, ends: "_Ends"
) -> Iterator[Any]:
  """Yields images as the decoder hands them out; takes note of packets' ends.

  The decoder holds back frames until it is given nothing: the last packets of
  `demux` are empty and have no times, and decoding them matters.
  """
  av = load_av()
  stream = container.streams[film.stream]
  packets = container.demux()
  while True:
    try:
      packet = next(packets, None)
    except av.FFmpegError as error:
      damage.tell(f"cannot be read further ({explain(error)})")
      packet = None
    if packet is not None and packet.stream.index != film.stream:
      ends.note(packet)
      continue
    try:
      images = stream.decode(packet)
    except av.EOFError:
      return  # it was emptied before
    except av.FFmpegError as error:
      where = "" if packet is None else f" at {_time(packet, film)} s"
      damage.tell(f"a frame{where} cannot be decoded ({explain(error)})")
      images = []
    yield from images
    if packet is None:
      return
    ends.note(packet)


class _Ends:
  """Finds out whether a file ends before it says."""

  def __init__(self, container: Any) -> None:
    self._total = (container.duration or 0) / 1e6
    self._start = (container.start_time or 0) / 1e6
    self._end = self._longest = 0.0
    self._before: dict[int, int] = {}

  def note(self, packet: Any) -> None:
    """Takes note of when a packet ends, and of how long one lasts."""
    if packet.pts is None:
      return
    base = float(packet.time_base)
    length = (packet.duration or 0) * base
    self._end = max(self._end, packet.pts * base - self._start + length)
    if packet.dts is not None:  # pts jump where frames are out of order
      before = self._before.get(packet.stream.index, packet.dts)
      self._before[packet.stream.index] = packet.dts
      length = max(length, (packet.dts - before) * base)
    self._longest = max(self._longest, length)

  def missing(self) -> tuple[float, float] | None:
    """Returns where it ends and where it should, in seconds, if it matters."""
    slack = max(_SLACK_SECONDS, self._longest)
    if self._end + slack >= self._total:
      return None
    return self._end, self._total


def _choose_streams(
  container: Any, path: pathlib.Path
) -> tuple[Any, list[Any], list[str]]:
  """Chooses the stream to restore, those to copy, and says what is left out."""
  films = [s for s in container.streams.video if not _is_cover(s)]
  if not films:
    raise FilmError(
      f"{path}: has no pictures, only sound or other data; or its index is cut"
      " off"
    )
  stream = container.streams.best("video") or films[0]
  if _is_cover(stream):
    stream = films[0]
  others, left_out = [], []
  for other in container.streams:
    if other.index == stream.index:
      continue
    if other.type in ("audio", "subtitle", "attachment") or _is_cover(other):
      others.append(other)
    else:
      left_out.append(f"stream {other.index} ({other.type})")
  return stream, others, left_out


def _is_cover(stream: Any) -> bool:
  """Says whether a stream is one picture about the film, as of its cover."""
  return "attached_pic" in str(stream.disposition)


def _colours(first: Any, stream: Any) -> planes.Colours:
  """Takes what the first frame says of colours, or else the stream."""
  values = {}
  for name in _TAGS:
    unsaid = 0 if name == "color_range" else planes.UNSAID
    value = int(getattr(first, name))
    if value == unsaid:
      value = int(getattr(stream.codec_context, name))
    values[name] = value
  if "yuvj" in first.format.name:
    values["color_range"] = 2
  location = int(getattr(first, "chroma_location", 0))
  if not location:
    location = int(getattr(stream.codec_context, "chroma_sample_location", 0))
  return planes.Colours(**values, chroma_location=location)


def _display_matrix(first: Any) -> tuple[int, ...] | None:
  """Returns the 9 integers that turn a frame, where they do."""
  said = first.side_data.get("DISPLAYMATRIX")
  return None if said is None else struct.unpack("=9i", bytes(said)[:36])


def _stream_seconds(container: Any, stream: Any) -> float:
  """Returns how long a stream lasts; 0 if nothing says so."""
  if stream.duration:
    return float(stream.duration * _fraction(stream.time_base))
  seconds = (container.duration or 0) / 1e6
  return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _check_same(image: Any, film: Film) -> None:
  """Refuses frames that are not like the first."""
  name = image.format.name.replace("yuvj", "yuv")
  found = planes.plane_format(name, str(film.path))
  if (image.width, image.height, found) != (
    film.width,
    film.height,
    film.layout,
  ):
    raise FilmError(
      f"{film.path}: its frames change at {_time(image, film)} s, from"
      f" {film.width}x{film.height} {film.layout.name} to"
      f" {image.width}x{image.height} {name}; cut it there into two films"
    )


def _time(timed: Any, film: Film) -> str:
  """Writes when a frame or packet is shown, in seconds."""
  pts = timed.pts if timed.pts is not None else timed.dts
  return "?" if pts is None else f"{float(pts * film.time_base):.3f}"


def _fraction(value: Any) -> Fraction:
  """Makes a Python fraction of FFmpeg's; 0 for none."""
  if not value or not value.denominator:
    return Fraction(0)
  return Fraction(value.numerator, value.denominator)
