"""What cannot be restored of films is said in a line, before the work."""

import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from semanir_jax import api
from semanir_jax.films import encoding, planes, reading
from semanir_jax.films.encoding import EncoderOptions
from semanir_jax.films.library import FilmError
from semanir_jax.images.level_range import LevelRange
from semanir_jax.inference.restorer import Restorer
from semanir_jax.restoration.restore import restore_files
from tests import film_cases, restoration_cases, small

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_networks")]
SHORT = {"times": range(0, 120, 40), "time_base": Fraction(1, 1000)}


@pytest.fixture(autouse=True)
def no_work(monkeypatch) -> None:
  """Nothing of this is found only by restoring."""

  def fail(*_, **__):
    raise AssertionError("a frame was restored")

  monkeypatch.setattr(Restorer, "__call__", fail)


def _refused(source, tmp_path, kind=FilmError, **options) -> str:
  before = restoration_cases.files(tmp_path)
  output = str(options.pop("output", tmp_path / "out"))
  with pytest.raises(kind) as error:
    restore_files("1", str(source), output, **options)
  assert "\n" not in str(error.value)
  assert restoration_cases.files(tmp_path) == before
  return str(error.value)


def test_without_pyav_a_line_names_the_remedy(tmp_path, monkeypatch):
  source = film_cases.write_film(tmp_path / "a.mp4", **SHORT)
  monkeypatch.setitem(sys.modules, "av", None)
  message = _refused(source, tmp_path)
  assert message == "films need PyAV, which is not installed; pip install av"
  network = api.Network(small.network(small.USHAPE, {}), num_keys=None)
  with pytest.raises(FilmError, match="films need PyAV"):
    network.frames(source)


@pytest.mark.parametrize(
  ("audio", "subtitles", "output", "told"),
  [
    ("flac", "subrip", "b.mp4", "its stream 2 (subtitle, subrip)"),
    ("aac", None, "b.webm", "its stream"),
    ("libopus", "subrip", "b.webm", "its stream 2 (subtitle, subrip)"),
  ],
)
def test_a_stream_that_a_container_does_not_hold_is_named(
  tmp_path, audio, subtitles, output, told
):
  source = film_cases.write_film(
    tmp_path / "a.mkv", audio=audio, subtitles=subtitles, **SHORT
  )
  message = _refused(source, tmp_path, output=tmp_path / output)
  suffix = output[1:]
  assert f"a.mkv: {suffix} does not hold its stream" in message
  assert told in message
  assert "; name a file .mkv as --output, or take the stream out" in message


def test_what_is_no_film_is_said(tmp_path):
  (tmp_path / "a.mp4").write_bytes(b"no film" * 100)
  message = _refused(tmp_path / "a.mp4", tmp_path)
  assert "a.mp4: cannot be read as a film (" in message
  restoration_cases.write_random(tmp_path / "b.png", 8, 8, 3)
  (tmp_path / "b.png").rename(tmp_path / "b.mkv")
  message = _refused(tmp_path / "b.mkv", tmp_path)
  assert "no film of the kinds .mp4 .mov .mkv .webm" in message
  with av.open(str(tmp_path / "c.mp4"), "w") as container:
    stream = container.add_stream("aac", rate=48_000)
    tone = np.zeros((1, 1024), np.float32)
    frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
    frame.sample_rate = 48_000
    stream.layout = "mono"
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  message = _refused(tmp_path / "c.mp4", tmp_path)
  assert "c.mp4: has no pictures, only sound" in message
  # Its index is at the end.
  source = film_cases.write_film(tmp_path / "d.mp4", **SHORT)
  source.write_bytes(source.read_bytes()[:-600])
  assert "or its index is cut off" in _refused(source, tmp_path)


@pytest.mark.parametrize(
  ("options", "kind", "message"),
  [
    ({"film": EncoderOptions("vp9")}, FilmError, ".mov is not written with"),
    ({"film": EncoderOptions(crf=60)}, ValueError, "crf=60 must lie in [0, 51"),
    (
      {"film": EncoderOptions(preset="7")},
      ValueError,
      "preset=7 is none of codec h264: ultrafast",
    ),
    ({"quality": 90}, ValueError, "films have --codec, --crf and --preset"),
    ({"output_format": "png"}, ValueError, "are of images; films have"),
    ({"level_range": LevelRange(0, 9)}, ValueError, "are of images; films"),
    ({"output": "b.png"}, ValueError, "b.png: is no name of a film; use one"),
  ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, kind, message):
  source = film_cases.write_film(tmp_path / "a.mov", **SHORT)
  if "output" in options:
    options = options | {"output": tmp_path / options["output"]}
  assert message in _refused(source, tmp_path, kind=kind, **options)


def test_options_and_names_of_films_are_refused_for_images(tmp_path):
  restoration_cases.write_random(tmp_path / "a.png", 8, 8, 3)
  source = tmp_path / "a.png"
  options = {"film": EncoderOptions(crf=3)}
  message = _refused(source, tmp_path, kind=ValueError, **options)
  assert message == "codec, crf and preset are of films; leave them out"
  output = tmp_path / "b.mp4"
  message = _refused(source, tmp_path, kind=ValueError, output=output)
  assert "b.mp4: .mp4 is not written; use one of .png" in message


def test_lossless_takes_no_quality(tmp_path):
  source = film_cases.write_film(tmp_path / "a.mkv", **SHORT)
  film = EncoderOptions("ffv1", crf=3)
  message = _refused(source, tmp_path, kind=ValueError, film=film)
  assert message == "codec ffv1 is lossless: leave out --crf and --preset"


def test_a_clean_film_of_another_size_is_refused(tmp_path):
  source = film_cases.write_film(tmp_path / "a.mkv", **SHORT)
  clean = film_cases.write_film(tmp_path / "c.mkv", size=(64, 32), **SHORT)
  message = _refused(source, tmp_path, reference=str(clean))
  assert "c.mkv: is 64x32, the result 48x32; give the clean film" in message


def test_frames_that_no_codec_of_a_container_holds(tmp_path):
  source = film_cases.write_film(
    tmp_path / "a.mkv", codec="ffv1", pixels="yuv411p", **SHORT
  )
  message = _refused(source, tmp_path, output=tmp_path / "b.mp4")
  assert "no codec of .mp4 holds its frames, yuv411p of 48x32; name" in message
  film = EncoderOptions("h264")
  message = _refused(source, tmp_path, film=film)
  assert "--codec=h264 does not hold its frames, yuv411p" in message
  assert "of ffv1 choose one" in message


def test_interlaced_and_transparent_films_and_odd_matrices(
  tmp_path, monkeypatch
):
  source = film_cases.write_film(
    tmp_path / "a.mkv", codec="ffv1", colours={"colorspace": 8}, **SHORT
  )
  assert "has the colour matrix 8 of H.273" in _refused(source, tmp_path)
  with av.open(str(tmp_path / "b.mkv"), "w") as container:
    stream = container.add_stream("ffv1", rate=25)
    stream.width, stream.height, stream.pix_fmt = 16, 16, "yuva420p"
    frame = av.VideoFrame(16, 16, "yuva420p")
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  message = _refused(tmp_path / "b.mkv", tmp_path)
  assert "has pixels of the kind yuva420p, which is not read" in message
  with av.open(str(tmp_path / "c.mkv"), "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
    stream.codec_context.options = {"x264-params": "interlaced=1:tff=1"}
    for i in range(3):
      frame = av.VideoFrame(32, 32, "yuv420p")
      frame.pts = i
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  assert "is interlaced, and networks" in _refused(tmp_path / "c.mkv", tmp_path)


def test_colours_for_a_gray_network_are_refused_by_their_time(tmp_path):
  source = film_cases.write_film(tmp_path / "a.mkv", **SHORT)
  model = small.USHAPE.clone(in_channels=1, out_channels=1)
  network = api.Network(small.network(model, {}), num_keys=None)
  with pytest.raises(FilmError, match="a.mkv: has colours at 0.000 s, but the"):
    next(network.frames(source))
  gray = film_cases.write_film(
    tmp_path / "b.mkv", codec="ffv1", pixels="gray", **SHORT
  )
  mosaics = small.network(small.USHAPE, {}, degradation={"name": "demosaic"})
  with pytest.raises(FilmError, match="b.mkv: is gray, which this network"):
    api.Network(mosaics, num_keys=None).frames(gray)


def test_every_default_is_held_by_its_container(tmp_path):
  source = film_cases.write_film(tmp_path / "a.mkv", **SHORT)
  film = reading.probe(source)
  chosen = {
    suffix: [
      encoding.make_target(
        film.__class__(
          **vars(film)
          | {
            "layout": planes.plane_format(name, "a"),
            "width": side,
            "height": side,
          }
        ),
        suffix,
        1,
        encoding.AS_SUITS,
      ).codec
      for name, side in (("yuv420p", 64), ("yuv420p10le", 64), ("yuv420p", 65))
    ]
    for suffix in (".mp4", ".mkv", ".webm")
  }
  assert chosen == {
    ".mp4": ["h264", "h265", "av1"],
    ".mkv": ["h264", "h265", "av1"],
    ".webm": ["vp9", "av1", "vp9"],
  }
