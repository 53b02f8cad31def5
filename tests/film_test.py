"""Films through a network and back: frames, times, sound, colours, whole."""

import csv
import itertools
import types
from fractions import Fraction

import av
import numpy as np
import pytest

from semanir_jax import api
from semanir_jax.films import muxing, planes, reading, segments
from semanir_jax.films.encoding import EncoderOptions
from semanir_jax.films.library import FilmError
from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine import progress
from semanir_jax.machine.files import FileError
from semanir_jax.restoration import film_frames, film_report, film_runner
from semanir_jax.restoration.planning import Job
from semanir_jax.restoration.restore import restore_files
from tests import film_cases, restoration_cases, small

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_networks")]
LOSSLESS = EncoderOptions("ffv1")
# Frames that last differently, in 1/30000 s.
VARIABLE = [0, 1001, 1700, 5000, 5100, 9000, 9001, 12000, 15000, 15500]


def _restored(source, tmp_path, run="1", **options):
  output = tmp_path / "out"
  restore_files(run, str(source), str(output), **options)
  (result,) = output.glob(f"{source.stem}*{source.suffix}")
  assert not list(output.glob(".*"))  # of its parts nothing stays
  return film_cases.read_film(result)


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("a.mp4", {"audio": "aac", "subtitles": "mov_text"}),
    ("a.mov", {"audio": "pcm_s16le", "subtitles": "mov_text"}),
    ("a.mkv", {"audio": "flac", "subtitles": "subrip"}),
    ("a.webm", {"audio": "libopus", "codec": "libvpx-vp9"}),
  ],
)
def test_frames_times_sound_and_subtitles_stay(tmp_path, name, options):
  milliseconds = name.endswith(("mkv", "webm"))
  times = [-(-t // 30) for t in VARIABLE] if milliseconds else VARIABLE
  base = Fraction(1, 1000 if milliseconds else 30_000)
  source = film_cases.write_film(
    tmp_path / name, times=times, time_base=base, **options
  )
  before = film_cases.read_film(source)
  after = _restored(source, tmp_path)
  assert after.times == before.times == [t * base for t in times]
  if options["audio"].startswith("pcm"):  # readers cut it anew
    for packets in (after.packets, before.packets):
      packets[1] = [b"".join(data for data, _ in packets[1])]
  assert after.packets == before.packets
  assert len(after.packets) == len(before.stream["types"]) - 1 > 0
  same = ("size", "pixels", "time_base", "types", "languages")
  for key in same:
    assert after.stream[key] == before.stream[key], key
  # Each frame is that of its input, darkened by 0.01.
  for new, old in zip(after.frames, before.frames, strict=True):
    change = new[0].astype(float) - old[0]
    assert change.mean() == pytest.approx(-0.01 * 219, abs=0.6)
    assert np.abs(change).mean() < 4


@pytest.mark.parametrize(
  ("name", "codec", "pixels", "expected"),
  [
    ("a.mp4", "libx264", "yuv420p", "h264"),
    ("a.mp4", "libx265", "yuv420p10le", "hevc"),
    ("a.mov", "libx265", "yuv422p10le", "hevc"),
    ("a.mkv", "libx264", "yuv444p", "h264"),
    ("a.webm", "libvpx-vp9", "yuv420p", "vp9"),
  ],
)
def test_bits_colours_and_samples_stay(tmp_path, name, codec, pixels, expected):
  colours = {"color_range": 1, "colorspace": 1}
  source = film_cases.write_film(
    tmp_path / name, codec=codec, pixels=pixels, colours=colours, size=(64, 64)
  )
  before = film_cases.read_film(source)
  after = _restored(source, tmp_path)
  for key in ("pixels", "color_range", "colorspace", "rotation", "size"):
    assert after.stream[key] == before.stream[key], key
  assert "hevc" in after.stream["codec"] or expected in after.stream["codec"]
  if expected == "hevc":
    assert after.stream["tag"] == "hvc1"
  unit = 4 if "10" in pixels else 1
  for new, old in zip(after.frames, before.frames, strict=True):
    for plane, darkening in zip(range(3), (0.01, 0, 0), strict=True):
      change = (new[plane].astype(float) - old[plane]) / unit
      assert change.mean() == pytest.approx(-darkening * 219, abs=0.6)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "gray", "bgr0"])
def test_without_loss_every_frame_is_what_the_network_made(tmp_path, pixels):
  """Its samples are the input's less 0.01: chroma is not touched at all."""
  source = film_cases.write_film(
    tmp_path / "a.mkv",
    codec="ffv1",
    pixels=pixels,
    size=(35, 27),
    colours={"color_range": 2 if pixels == "bgr0" else 1},
    time_base=Fraction(1, 1000),
    times=range(0, 400, 40),
  )
  before = film_cases.read_film(source)
  after = _restored(source, tmp_path, film=LOSSLESS)
  span = 255 if pixels == "bgr0" else 876 if "10" in pixels else 219
  assert after.stream["pixels"] == pixels and len(after.frames) == 10
  for new, old in zip(after.frames, before.frames, strict=True):
    expected = np.rint(old[0] - np.float32(0.01 * span))
    np.testing.assert_array_equal(new[0], expected)
    for plane in range(1, len(old)):
      expected = old[plane] if pixels != "bgr0" else np.rint(old[plane] - 2.55)
      np.testing.assert_array_equal(new[plane], expected)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_a_film_that_is_turned_stays_turned(tmp_path, name):
  base = Fraction(1, 1000)
  source = film_cases.write_film(
    tmp_path / name, rotation=90, time_base=base, times=range(0, 400, 40)
  )
  after = _restored(source, tmp_path, run="2")
  assert after.stream["time_base"] == base
  assert after.stream["rotation"] == 90
  assert after.stream["size"] == (96, 64)


def test_enlarging_doubles_the_sides_and_says_the_matrix(tmp_path):
  source = film_cases.write_film(
    tmp_path / "a.mp4", size=(32, 400), audio="aac", times=range(0, 3003, 1001)
  )
  before = film_cases.read_film(source)
  after = _restored(source, tmp_path, run="2")
  assert after.stream["size"] == (64, 800)
  # 400 lines without a word are taken for BT.601, 800 would be for BT.709.
  assert before.stream["colorspace"] == planes.UNSAID
  assert after.stream["colorspace"] == 6
  assert after.times == before.times and after.packets == before.packets
  for new, old in zip(after.frames, before.frames, strict=True):
    large = old[0].repeat(2, axis=0).repeat(2, axis=1).astype(float)
    assert np.abs(new[0] - large + 2.19).mean() < 3


@pytest.mark.parametrize(
  ("name", "expected"), [("a.mp4", "av1"), ("a.mkv", "av1"), ("a.webm", "vp9")]
)
def test_odd_sides_stay_odd(tmp_path, name, expected):
  source = film_cases.write_film(
    tmp_path / name,
    codec="libvpx-vp9",
    size=(35, 27),
    time_base=Fraction(1, 1000),
    times=range(0, 200, 40),
  )
  after = _restored(source, tmp_path)
  assert after.stream["size"] == (35, 27)
  assert expected in after.stream["codec"] or "dav1d" in after.stream["codec"]
  assert len(after.frames) == 5


def test_a_run_that_was_killed_goes_on_and_gives_the_same_film(
  tmp_path, monkeypatch, caplog
):
  caplog.set_level("INFO")
  monkeypatch.setattr(segments, "NUM_FRAMES", 4)
  source = film_cases.write_film(
    tmp_path / "a.mp4", times=VARIABLE, audio="aac", rotation=90
  )
  whole = tmp_path / "whole"
  restore_files("1", str(source), str(whole))
  restore, calls = Restorer.__call__, []

  def killed(self, batch, **options):
    calls.append(1)
    if len(calls) == 7:
      raise KeyboardInterrupt
    return restore(self, batch, **options)

  monkeypatch.setattr(Restorer, "__call__", killed)
  output = tmp_path / "out"
  with pytest.raises(KeyboardInterrupt):
    restore_files("1", str(source), str(output))
  assert restoration_cases.files(output) == [
    ".a.mp4.parts",
    ".a.mp4.parts/000000.npz",
    ".a.mp4.parts/made_by.json",
  ]
  restore_files("1", str(source), str(output))
  assert "a.mp4: goes on after 4 frames that are done" in caplog.text
  assert len(calls) == 7 + 6
  assert restoration_cases.files(output) == ["a.mp4"]
  assert (output / "a.mp4").read_bytes() == (whole / "a.mp4").read_bytes()
  # As if it had been encoded in one go.
  assert len(film_cases.read_film(output / "a.mp4").frames) == len(VARIABLE)


def test_parts_of_other_settings_are_not_gone_on_with(
  tmp_path, monkeypatch, caplog
):
  caplog.set_level("INFO")
  monkeypatch.setattr(segments, "NUM_FRAMES", 4)
  source = film_cases.write_film(tmp_path / "a.mp4")
  arguments = "1", str(source), str(tmp_path / "out")
  write = muxing.write

  def full(*_):
    raise FilmError("the disk is full")

  monkeypatch.setattr(muxing, "write", full)
  for crf in (20, 20, 30):
    with pytest.raises(FilmError, match="the disk is full"):
      restore_files(*arguments, film=EncoderOptions(crf=crf))
  assert caplog.text.count("goes on after 10 frames") == 1
  assert caplog.text.count("other settings made are thrown away") == 1
  monkeypatch.setattr(muxing, "write", write)
  restore_files(*arguments, film=EncoderOptions(crf=30))
  assert restoration_cases.files(tmp_path / "out") == ["a.mp4"]


def test_frames_are_read_as_they_are_restored(tmp_path, monkeypatch):
  """However long a film is, few of its frames are held."""
  source = film_cases.write_film(
    tmp_path / "a.mp4", times=range(0, 60 * 1001, 1001)
  )
  read, most = [0, 0], []
  whole = reading.read_frames

  def counted(*arguments):
    for frame in whole(*arguments):
      read[0] += 1
      yield frame

  def restored(self, batch, **_):
    read[1] += 1
    most.append(read[0] - read[1])
    return batch

  monkeypatch.setattr(reading, "read_frames", counted)
  monkeypatch.setattr(Restorer, "__call__", restored)
  monkeypatch.setattr(film_runner.film_report, "report", lambda *_: None)
  restore_files("1", str(source), str(tmp_path / "out"))
  assert read == [60, 60]
  assert max(most) == 0


def test_a_damaged_frame_is_told_and_the_others_restored(tmp_path, caplog):
  source = film_cases.write_film(tmp_path / "a.mp4", audio="aac")
  with av.open(str(source)) as container:
    packets = [p for p in container.demux(video=0) if p.size]
    place, size = packets[5].pos, packets[5].size
    seconds = packets[5].pts / 30_000
  data = bytearray(source.read_bytes())
  data[place : place + size] = b"\xff" * size
  source.write_bytes(data)
  before = film_cases.read_packets(source)
  with pytest.raises(FilmError, match="1 of 1 films are damaged, and restored"):
    restore_files("1", str(source), str(tmp_path / "out"))
  assert f"a.mp4: a frame at {seconds:.3f} s cannot be decoded" in caplog.text
  after = film_cases.read_film(tmp_path / "out" / "a.mp4")
  assert len(after.frames) == 9 and after.packets == before


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_film_that_is_cut_off_is_restored_up_to_there(tmp_path, caplog, name):
  source = film_cases.write_film(
    tmp_path / name,
    times=range(0, 1000, 40),
    time_base=Fraction(1, 1000),
    audio="aac",
    options={"movflags": "faststart"} if name == "a.mp4" else None,
  )
  data = source.read_bytes()
  source.write_bytes(data[: len(data) * 7 // 10])
  with pytest.raises(FilmError, match="1 of 1 films are damaged, and restored"):
    restore_files("1", str(source), str(tmp_path / "out"))
  assert f"{name}: is cut off: it ends at 0." in caplog.text
  assert "and says that it lasts 0.99 s" in caplog.text
  after = film_cases.read_film(tmp_path / "out" / name)
  assert 10 < len(after.frames) < 22
  # Of the last, those that were coded after later ones are missing.
  assert after.times[:12] == [Fraction(t, 1000) for t in range(0, 480, 40)]
  assert after.times == sorted(set(after.times))
  assert after.packets


def test_films_beside_pictures_are_restored_with_them(tmp_path, caplog):
  caplog.set_level("INFO")
  folder, output = tmp_path / "in", tmp_path / "out"
  film_cases.write_film(folder / "sub" / "a.MP4")
  film_cases.write_film(folder / "b.mkv")
  (folder / "c.webm").write_bytes(b"no film at all" * 9)
  restoration_cases.write_random(folder / "d.png", 8, 8, 3)
  (folder / "e.png").write_bytes(b"no picture")
  with pytest.raises(FileError, match="1 of 3 films were not restored: c.webm"):
    restore_files("1", str(folder), str(output))
  assert "1 of 2 images were not restored: e.png" in caplog.text
  assert "c.webm: cannot be read as a film" in caplog.text
  assert restoration_cases.files(output) == [
    "b.mkv",
    "d.png",
    "sub",
    "sub/a.mp4",
  ]
  assert "b.mkv: all 10 frames, " in caplog.text


def test_a_long_film_tells_its_speed_and_the_time_left(
  tmp_path, monkeypatch, caplog
):
  caplog.set_level("INFO")
  clock = itertools.count(step=4)
  fake = types.SimpleNamespace(monotonic=lambda: next(clock))
  monkeypatch.setattr(progress, "time", fake)
  source = film_cases.write_film(tmp_path / "a.mp4")
  restore_files("1", str(source), str(tmp_path / "out"))
  lines = [line for line in caplog.messages if "frames/s" in line]
  assert lines == [
    "a.mp4: 3 of 10 frames, 0.25 frames/s, 28 s left",
    "a.mp4: 6 of 10 frames, 0.25 frames/s, 16 s left",
    "a.mp4: 9 of 10 frames, 0.25 frames/s, 4 s left",
    "a.mp4: all 10 frames, 0.25 frames/s",
  ]


def test_a_clean_film_is_compared_frame_by_frame(tmp_path, caplog):
  caplog.set_level("INFO")
  rng = np.random.default_rng(0)
  clean = np.full((32, 48, 3), 0.5, np.float32)
  clean[8:20, 10:30] = (0.7, 0.4, 0.3)
  noisy = [clean + rng.normal(0, 0.1, clean.shape) for _ in range(6)]
  options = {
    "codec": "ffv1",
    "pixels": "yuv444p",
    "time_base": Fraction(1, 1000),
    "times": range(0, 240, 40),
    "colours": {"color_range": 2, "colorspace": 1},
  }
  source = film_cases.write_film(tmp_path / "a.mkv", images=noisy, **options)
  film_cases.write_film(
    tmp_path / "clean" / "a.mkv", images=[clean] * 6, **options
  )
  output = tmp_path / "out"
  restore_files(
    "1",
    str(source),
    str(output),
    reference=str(tmp_path / "clean"),
    film=LOSSLESS,
  )
  assert restoration_cases.files(output) == ["a.mkv", "a_comparison.csv"]
  rows = list(
    csv.DictReader((output / "a_comparison.csv").read_text().splitlines())
  )
  assert [float(row["seconds"]) for row in rows] == [i * 0.04 for i in range(6)]
  for row, image in zip(rows, noisy, strict=True):
    # Less 2.55 levels, rounded.
    for column, darker in (("input_psnr", 0), ("psnr", 3 / 255)):
      error = np.clip(image, 0, 1) - darker - clean
      decibel = -10 * np.log10((error**2).mean())
      assert float(row[column]) == pytest.approx(decibel, abs=0.03)
    assert row["reference_flicker"] in ("", "0.0000")
  mean = np.mean([float(row["psnr"]) for row in rows])
  assert f"a.mkv: PSNR {mean:.2f} dB (input " in caplog.text
  assert ", mean of 6 frames; the least " in caplog.text
  expected = 2 * 0.1 / np.sqrt(np.pi) * 255 * np.sqrt(0.2126**2 + 0.7152**2)
  (line,) = [m for m in caplog.messages if "flicker" in m]
  found = float(line.split("flicker ")[1].split()[0])
  assert found == pytest.approx(expected, rel=0.1)
  assert "reference 0.00) where nothing moves, 100 % of the" in line


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
def test_python_gets_one_frame_after_the_other(tmp_path, pixels):
  source = film_cases.write_film(
    tmp_path / "a.mkv",
    codec="ffv1",
    pixels=pixels,
    time_base=Fraction(1, 1000),
    times=[0, 40, 100],
  )
  network = api.Network(small.network(small.COLUMNAR, {}), num_keys=None)
  frames = network.frames(source)
  assert next(frames).seconds == 0
  frames = [*frames]
  assert [frame.seconds for frame in frames] == [
    Fraction(1, 25),
    Fraction(1, 10),
  ]
  film = reading.probe(source)
  whole = [*reading.read_frames(film, reading.Damage(source))]
  for frame, read in zip(frames, whole[1:], strict=True):
    peak = 255 if pixels == "yuv420p" else 65_535
    assert frame.pixels.dtype == (np.uint8 if peak == 255 else np.uint16)
    rgb = planes.to_unit(read.image, film.layout, film.colours)
    expected = rgb.repeat(2, axis=0).repeat(2, axis=1) - 0.01
    assert np.abs(frame.pixels / peak - expected).max() < 0.51 / peak + 1e-6


def test_a_gray_film_goes_through_networks_of_gray_and_of_colours(
  tmp_path, monkeypatch
):
  restore = Restorer.__call__

  def exact(self, batch, **options):
    assert batch.shape[-1] == self.model.in_channels
    return restore(self, batch, **options)

  monkeypatch.setattr(Restorer, "__call__", exact)
  gray = np.random.default_rng(0).uniform(0.1, 0.9, (16, 16, 1))
  options = {
    "codec": "ffv1",
    "size": (16, 16),
    "time_base": Fraction(1, 1000),
    "times": [0, 40],
    "images": [gray.astype(np.float32)] * 2,
  }
  one_channel = small.USHAPE.clone(in_channels=1, out_channels=1)
  for pixels in ("gray", "yuv420p", "yuv444p"):
    source = film_cases.write_film(
      tmp_path / f"{pixels}.mkv", pixels=pixels, **options
    )
    for model in (one_channel, small.USHAPE):
      network = api.Network(small.network(model, {}), num_keys=None)
      for frame in network.frames(source):
        assert (frame.pixels == frame.pixels[..., :1]).all()
        assert frame.pixels.shape[2] == (1 if pixels == "gray" else 3)
        np.testing.assert_allclose(
          frame.pixels[..., 0] / 255, gray[..., 0] - 0.01, atol=1.5 / 219
        )


@pytest.mark.parametrize(
  ("pixels", "degradation", "scale", "told"),
  [
    ("yuv420p", {"name": "noise"}, 1, "--checkpoint=photo_light"),
    ("yuv420p", {"name": "bicubic"}, 2, "--checkpoint=photo_light first"),
    ("yuv444p", {"name": "noise"}, 1, None),
    ("yuv420p", {"name": "photo", "jpeg": 1.0}, 1, None),
    ("yuv420p", {}, 1, None),
  ],
)
def test_noise_that_a_network_never_saw_is_told(
  tmp_path, warnings, pixels, degradation, scale, told
):
  source = film_cases.write_film(
    tmp_path / "a.mkv", codec="ffv1", pixels=pixels, times=[0]
  )
  model = small.USHAPE if scale == 1 else small.COLUMNAR
  network = small.network(model, {}, degradation=degradation)
  film_frames.tell_hint(reading.probe(source), network)
  if told is None:
    assert not warnings
  else:
    (line,) = warnings
    assert "a.mkv: has less chroma than luma" in line and line.endswith(told)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_film_may_begin_late_and_change_its_container(
  tmp_path, suffix, caplog
):
  """Sound is in time with it, also where a container moves both."""
  caplog.set_level("INFO")
  source = film_cases.write_film(
    tmp_path / "a.mp4", times=[t + 15_000 for t in VARIABLE], audio="aac"
  )
  before = film_cases.read_film(source)
  result = tmp_path / "out" / f"b{suffix}"
  restore_files("1", str(source), str(result))
  after = film_cases.read_film(result)
  sounds = [each.packets[1] for each in (before, after)]
  assert [d for d, _ in sounds[0]] == [d for d, _ in sounds[1]]
  exact = Fraction(1, 1000) if suffix == ".mkv" else 0
  shift = after.times[0] - before.times[0]
  assert before.times[0] == Fraction(1, 2)
  assert shift == 0 if suffix == ".mp4" else 0 <= shift < 0.1
  pairs = [*zip(before.times, after.times, strict=True)]
  pairs += [(old, new) for (_, old), (_, new) in zip(*sounds, strict=True)]
  for old, new in pairs:
    assert abs(new - old - shift) <= exact
  assert ("are rounded" in caplog.text) == (suffix == ".mkv")


@pytest.mark.parametrize(
  ("times", "told"),
  [
    ([0, 40, 80], None),
    ([20, 60, 100], None),  # all later
    ([0, 40, 90], "b.mkv: shows the frame of 0.080 s at 0.090 s"),
    ([0, 40], "b.mkv: has fewer frames than"),
    ([0, 40, 80, 120], "b.mkv: has more frames than"),
  ],
)
def test_a_result_of_other_frames_or_times_is_an_error(tmp_path, times, told):
  options = {"codec": "ffv1", "time_base": Fraction(1, 1000)}
  source = film_cases.write_film(
    tmp_path / "a.mkv", times=[0, 40, 80], **options
  )
  result = film_cases.write_film(tmp_path / "b.mkv", times=times, **options)
  job = Job("a.mkv", source, result, None, None)
  film = reading.probe(source)
  if told is None:
    film_report.report(job, film, None, 1)
  else:
    with pytest.raises(FilmError, match=told):
      film_report.report(job, film, None, 1)


def test_a_wrong_result_is_not_kept_as_done(tmp_path, monkeypatch):
  source = film_cases.write_film(tmp_path / "a.mkv", times=[0, 40, 80])
  with monkeypatch.context() as patch:

    def differ(job, *_):
      raise film_report.WrongResultError(f"{job.result}: has fewer frames")

    patch.setattr(film_report, "report", differ)
    with pytest.raises(FilmError, match="has fewer frames"):
      restore_files("1", str(source), str(tmp_path / "out"))
  assert not (tmp_path / "out" / "a.mkv").exists()
  assert (tmp_path / "out" / ".a.mkv.parts" / "000000.npz").exists()
  # What is done stays done, and is joined and looked at again.
  assert len(_restored(source, tmp_path).frames) == 3
