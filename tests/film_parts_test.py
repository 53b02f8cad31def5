"""Parts of a film: what is kept between runs, and the times of the whole."""

import types

import numpy as np
import pytest

from semanir_jax.films import segments
from semanir_jax.films.library import FilmError
from semanir_jax.films.segments import Parts


class _Packet(bytes):
  """As FFmpeg's."""

  pts: int
  duration: int
  is_keyframe: bool

  @property
  def size(self) -> int:
    return len(self)


def _packets(*times: int) -> list[_Packet]:
  made = []
  for i, pts in enumerate(times):
    packet = _Packet(f"{pts}".encode() * (i + 1))
    packet.pts, packet.duration, packet.is_keyframe = pts, 7, i == 0
    made.append(packet)
  return made


def test_packets_come_back_as_they_were(tmp_path):
  parts = Parts(tmp_path / "a.mp4", {})
  assert parts.count() == 0
  parts.write(0, _packets(0, 30, 10))
  parts.write(1, _packets(40))
  parts.write(3, _packets(99))  # after a gap
  assert parts.count() == 2
  back = [*parts.packets(0)]
  assert [bytes(p) for p in back] == [b"0", b"3030", b"101010"]
  assert [p.pts for p in back] == [0, 30, 10]
  assert [p.is_keyframe for p in back] == [True, False, False]


@pytest.mark.parametrize(
  "parts_pts",
  [
    [[0, 30, 10, 20, 60, 40]],
    # The next part begins with long frames: encoders put its dts far back.
    [[0, 1, 2, 3], [4, 1000, 500], [2000]],
    [[5]],
    [[0, 3000, 1000, 2000], [4000, 7000, 6000, 5000]],
  ],
)
def test_times_of_decoding_ascend_and_frames_last_until_the_next(
  tmp_path, parts_pts
):
  parts = Parts(tmp_path / "a.mp4", {})
  for i, times in enumerate(parts_pts):
    parts.write(i, _packets(*times))
  dts, durations = parts.decode_times()
  pts = np.concatenate(parts_pts)
  assert len(dts) == len(durations) == len(pts)
  assert (np.diff(dts) > 0).all()
  assert (dts <= pts).all()
  by_time = dict(zip(pts, durations, strict=True))
  shown = sorted(pts)
  for now, following in zip(shown, shown[1:], strict=False):
    assert by_time[now] == following - now
  # As the input says, or as is usual.
  usual = np.median(np.diff(shown)) if len(shown) > 1 else 0
  assert by_time[shown[-1]] == max(7, int(usual))


def test_what_made_them_decides_whether_they_stay(tmp_path):
  result = tmp_path / "a.mp4"
  Parts(result, {"crf": 16, "b": [1]}).write(0, _packets(0))
  again = Parts(result, {"b": [1], "crf": 16})
  assert again.count() == 1 and not again.replaced
  other = Parts(result, {"crf": 17, "b": [1]})
  assert other.count() == 0 and other.replaced
  other.remove()
  assert not list(tmp_path.iterdir())


def test_damaged_parts_and_places_that_cannot_be_written_are_named(
  tmp_path, monkeypatch
):
  parts = Parts(tmp_path / "a.mp4", {})
  parts.write(0, _packets(0))
  (parts.folder / "000000.npz").write_bytes(b"half")
  with pytest.raises(FilmError, match="000000.npz: is damaged; remove .*a.mp4"):
    parts.decode_times()
  (tmp_path / "file").touch()
  with pytest.raises(FilmError, match="cannot be written .*another --output"):
    Parts(tmp_path / "file" / "a.mp4", {})
  monkeypatch.setattr(
    segments, "files", types.SimpleNamespace(write_bytes=lambda *_: None)
  )
  parts = Parts(tmp_path / "b.mp4", {})
  assert parts.count() == 0
