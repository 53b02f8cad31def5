"""Joins encoded frames with the sound and the subtitles of a film.

Streams are copied: packets bit for bit, with their times, languages and titles.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from absl import logging

from semanir_jax.films import encoding
from semanir_jax.films.library import CONTAINERS, FilmError, explain, load_av
from semanir_jax.films.reading import Damage, Film, open_film
from semanir_jax.films.segments import Parts

# What a muxer writes itself, or what was true of the input's packets alone.
_OWN = {
  *("major_brand", "minor_version", "compatible_brands", "encoder"),
  *("duration", "bps", "number_of_frames", "number_of_bytes", "vendor_id"),
}


def check(film: Film, target: encoding.Target) -> None:
  """Makes sure that a container holds all streams, before the work.

  It warns of what is not copied, and of times that will be rounded.

  Raises:
    FilmError: it does not; names the stream.
  """
  if film.left_out:
    logging.warning(
      "%s: its result is without: %s", film.path, ", ".join(film.left_out)
    )
  if target.suffix in (".mkv", ".webm") and 1000 % film.time_base.denominator:
    logging.warning(
      "%s: %s holds times in whole milliseconds; those of this film are in"
      " units of %s s and are rounded",
      film.path,
      target.suffix,
      film.time_base,
    )
  av = load_av()
  with open_film(film.path) as source:
    container = av.open(io.BytesIO(), "w", format=CONTAINERS[target.suffix])
    with _explain_streams(film, target, ""):
      _add_streams(container, source, film, target)
      container.start_encoding()
    container.close()


def write(
  film: Film,
  target: encoding.Target,
  parts: Parts,
  result: pathlib.Path,
  damage: Damage,
) -> None:
  """Writes a film of all parts, atomically.

  Args:
    film: the input, for its other streams.
    target: how the parts were encoded.
    parts: at least one.
    result: the file.
    damage: is told where the other streams cannot be read further.

  Raises:
    FilmError: it cannot be written.
  """
  av = load_av()
  partial = parts.folder / "joined"
  try:
    with open_film(film.path) as source, _explain_streams(film, target, ""):
      container = av.open(
        str(partial),
        "w",
        format=CONTAINERS[target.suffix],
        container_options=_container_options(target),
      )
      with container:
        video, copies = _add_streams(container, source, film, target)
        encoded = _video_packets(parts, video, target)
        for packet in _in_order(
          encoded, _copied(source, copies, damage), target
        ):
          container.mux(packet)
    os.replace(partial, result)
  except OSError as error:
    raise FilmError(
      f"{result}: cannot be written ({error.strerror}); check that its folder"
      " may be written and has space; what was restored stays in"
      f" {parts.folder}"
    ) from error
  finally:
    with contextlib.suppress(OSError):
      partial.unlink()


def _container_options(target: encoding.Target) -> dict[str, str]:
  """Keeps the time base where the container can have any."""
  base = target.time_base
  if target.suffix in (".mp4", ".mov") and base.numerator == 1:
    return {"video_track_timescale": str(base.denominator)}
  return {}


def _add_streams(
  container: Any, source: Any, film: Film, target: encoding.Target
) -> tuple[Any, dict[int, Any]]:
  """Adds all streams in the order of the input, with what is said of them."""
  copies = {}
  video = None
  for stream in source.streams:
    if stream.index == film.stream:
      with _explain_streams(film, target, ""):
        video = container.add_stream(
          encoding.CODECS[target.codec].encoder, rate=target.rate
        )
      encoding.set_up(video, target)
      video.time_base = target.time_base
      if target.display_matrix is not None:
        video.set_display_matrix(target.display_matrix)
      made = video
    elif stream.index in film.others:
      codec = getattr(stream.codec_context, "codec", None)
      name = "unknown" if codec is None else codec.canonical_name
      told = f"its stream {stream.index} ({stream.type}, {name})"
      with _explain_streams(film, target, told):
        made = container.add_stream_from_template(stream, opaque=True)
        made.time_base = stream.time_base
      copies[stream.index] = made
    else:
      continue
    made.disposition = stream.disposition
    made.metadata.update(_true_still(stream.metadata))
  container.metadata.update(_true_still(source.metadata))
  if chapters := source.chapters():
    container.set_chapters(chapters)
  return video, copies


def _true_still(metadata: dict[str, str]) -> dict[str, str]:
  """Leaves out what was true of the input alone."""
  return {
    key: value
    for key, value in metadata.items()
    if key.lower().split("-")[0] not in _OWN
    and not key.lower().startswith("_statistics")
  }


@contextlib.contextmanager
def _explain_streams(
  film: Film, target: encoding.Target, told: str
) -> Iterator[None]:
  """Turns what FFmpeg says of a container inside into one line."""
  av = load_av()
  try:
    yield
  except FilmError:
    raise
  except (av.FFmpegError, ValueError) as error:
    if isinstance(error, OSError) and error.errno:
      raise
    what = told or "its streams together"
    raise FilmError(
      f"{film.path}: {target.suffix} does not hold {what}"
      f" ({explain(error)}); name a file .mkv as --output, or take the stream"
      " out of the film first"
    ) from error


def _video_packets(
  parts: Parts, video: Any, target: encoding.Target
) -> Iterator[Any]:
  """Yields the packets of all parts with their times, in decoding order."""
  dts, durations = parts.decode_times()
  number = 0
  for index in range(parts.count()):
    for packet in parts.packets(index):
      packet.stream, packet.time_base = video, target.time_base
      packet.dts = int(dts[number])
      packet.duration = int(durations[number])
      number += 1
      yield packet


def _copied(
  source: Any, copies: dict[int, Any], damage: Damage
) -> Iterator[Any]:
  """Yields the packets of the other streams, bit for bit."""
  if not copies:
    return
  av = load_av()
  try:
    for packet in source.demux([source.streams[i] for i in copies]):
      if packet.size == 0 and packet.dts is None and packet.pts is None:
        continue  # for decoders: it says that there are no more
      if packet.size == 2 and packet.stream.codec_context.name == "mov_text":
        continue  # an empty line: muxers write it where a line ends
      packet.stream = copies[packet.stream.index]
      yield packet
  except av.FFmpegError as error:
    damage.tell(f"its sound cannot be read further ({explain(error)})")


def _in_order(
  encoded: Iterator[Any], copied: Iterator[Any], target: encoding.Target
) -> Iterator[Any]:
  """Merges packets by time, so that little waits in the muxer's memory."""
  video = next(encoded, None)
  for packet in copied:
    seconds = _seconds(packet)
    while video is not None and (
      seconds is not None and video.dts * target.time_base <= seconds
    ):
      yield video
      video = next(encoded, None)
    yield packet
  if video is not None:
    yield video
    yield from encoded


def _seconds(packet: Any) -> Fraction | None:
  """Returns when a packet is decoded."""
  time = packet.pts if packet.dts is None else packet.dts
  if time is None:
    return None
  base = packet.time_base
  return time * Fraction(base.numerator, base.denominator)
