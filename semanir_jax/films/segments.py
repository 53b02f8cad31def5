"""Keeps what was encoded of a film, part by part, so that a run can go on.

A folder beside the result holds a file for each part of so many frames, and one
that says what made them. Parts are written atomically and can be decoded alone.
"""

import io
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from semanir_jax.films.library import FilmError, load_av
from semanir_jax.machine import files

NUM_FRAMES = 48  # of a part; most that a killed run loses
_MADE_BY = "made_by.json"


class Part(NamedTuple):
  """Packets in the order of decoding; all arrays have a value for each.

  Attributes:
    data: uint8, of all, one behind the other; None where only times matter.
    sizes: int64, bytes.
    pts: int64, when its frame is shown.
    durations: int64, for how long, as the input says; 0 where it does not.
    keyframes: bool.
  """

  data: np.ndarray | None
  sizes: np.ndarray
  pts: np.ndarray
  durations: np.ndarray
  keyframes: np.ndarray


class Parts:
  """The folder of the parts of one film."""

  def __init__(self, result: pathlib.Path, made_by: Mapping[str, Any]) -> None:
    """Opens or begins it; parts that something else made are thrown away.

    Args:
      result: the file that they will become.
      made_by: all that the parts depend on; plain JSON values.

    Raises:
      FilmError: the place cannot be written.
    """
    self.folder = result.with_name(f".{result.name}.parts")
    self.replaced = False
    text = json.dumps(made_by, sort_keys=True, indent=1).encode()
    described = self.folder / _MADE_BY
    try:
      if self.folder.exists():
        kept = described.is_file() and described.read_bytes() == text
        if not kept:
          self.replaced = any(self.folder.glob("*.npz"))
          shutil.rmtree(self.folder)
      self.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise FilmError(
        f"{self.folder}: cannot be written ({error.strerror}); choose another"
        " --output"
      ) from error
    files.write_bytes(described, text)

  def count(self) -> int:
    """Returns how many parts are done, without a gap, from the first."""
    done = 0
    while self._path(done).is_file():
      done += 1
    return done

  def write(self, index: int, packets: list[Any]) -> None:
    """Writes a part atomically; packets as `encoding.encode` yields them."""
    part = Part(
      np.frombuffer(b"".join(map(bytes, packets)), np.uint8),
      np.array([packet.size for packet in packets], np.int64),
      np.array([packet.pts for packet in packets], np.int64),
      np.array([packet.duration or 0 for packet in packets], np.int64),
      np.array([packet.is_keyframe for packet in packets], bool),
    )
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **part._asdict())
    files.write_bytes(self._path(index), data.getvalue())

  def packets(self, index: int) -> Iterator[Any]:
    """Yields the packets of a part as FFmpeg's, without dts."""
    av = load_av()
    part = self._read(index)
    assert part.data is not None  # it was read
    start = 0
    for size, pts, key in zip(
      part.sizes, part.pts, part.keyframes, strict=True
    ):
      packet = av.Packet(part.data[start : start + size].tobytes())
      packet.pts, packet.is_keyframe = int(pts), bool(key)
      start += int(size)
      yield packet

  def decode_times(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns dts and durations of all packets, in the order of decoding.

    Decoders want dts that ascend and lie not after pts. Parts were encoded
    apart, so theirs would overlap where frames last differently; these are the
    sorted pts, as many frames late as frames are out of order.

    A frame lasts until the next; the last as long as the input says, but not
    less than is usual: mp4 has steps of dts there, as short as they may be.

    Returns:
      Two int64 arrays.
    """
    # Without the data, which may be gigabytes.
    parts = [self._read(i)._replace(data=None) for i in range(self.count())]
    pts = np.concatenate([part.pts for part in parts])
    order = np.argsort(pts)
    shown = pts[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(pts))
    late = int((np.arange(len(pts)) - rank).max())
    steps = np.diff(shown)
    usual = int(np.median(steps)) if len(steps) else 1
    said = int(np.concatenate([part.durations for part in parts])[order[-1]])
    steps = np.append(steps, max(said, usual))
    before = shown[0] - steps[0] * np.arange(late, 0, -1)
    dts = np.concatenate([before, shown])[: len(pts)]
    return dts, steps[rank]

  def remove(self) -> None:
    """Removes the folder, once the result is there."""
    shutil.rmtree(self.folder, ignore_errors=True)

  def _path(self, index: int) -> pathlib.Path:
    return self.folder / f"{index:06d}.npz"

  def _read(self, index: int) -> Part:
    path = self._path(index)
    try:
      with np.load(io.BytesIO(files.read_bytes(path))) as arrays:
        return Part(**arrays)
    except (ValueError, OSError, KeyError, TypeError) as error:
      raise FilmError(
        f"{path}: is damaged; remove {self.folder}, and begin again"
      ) from error
