"""Image files through a network and back, whole or not at all."""

import errno
import itertools
import pathlib
import re
import threading
import time
import types
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from semanir_jax.evaluation import metrics
from semanir_jax.images.image_file import ImageError, read_image, write_image
from semanir_jax.images.metadata import NO_METADATA
from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine import progress
from semanir_jax.networks.checkpoint import load_for_inference
from semanir_jax.restoration import pixel_formats, result_files, runner
from semanir_jax.restoration.restore import restore_files
from tests import restoration_cases as cases

pytestmark = pytest.mark.slow


def _expected(run: str, pixels: np.ndarray) -> np.ndarray:
  """What the network makes of an image, rounded to the depth of the file."""
  network = load_for_inference(run)
  model, params = network.model, network.params
  peak = np.iinfo(pixels.dtype).max
  restored = Restorer(model, params)(pixels[None].astype(np.float32) / peak)[0]
  rounded = np.rint(np.clip(restored, 0, 1) * peak)
  return rounded.astype(pixels.dtype)


def test_a_file_is_restored_into_a_folder_that_is_made(runs, tmp_path):
  pixels = cases.write_random(tmp_path / "a.png", 9, 6, 3)
  output = tmp_path / "out" / "deep"
  restore_files(runs["color"], str(tmp_path / "a.png"), str(output))
  assert cases.files(output) == ["a.png"]
  result = read_image(output / "a.png")
  assert result.shape == pixels.shape
  np.testing.assert_array_equal(result, _expected(runs["color"], pixels))


def test_a_file_is_restored_to_a_file_of_any_name(runs, tmp_path):
  pixels = cases.write_random(tmp_path / "a.bmp", 4, 5, 3)
  output = tmp_path / "b.tiff"
  restore_files(runs["color"], str(tmp_path / "a.bmp"), str(output))
  result = read_image(output)
  np.testing.assert_array_equal(result, _expected(runs["color"], pixels))


def test_super_resolution_writes_twice_the_size(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 5, 7, 3)
  restore_files(runs["x2"], str(tmp_path / "a.png"), str(tmp_path / "out"))
  assert read_image(tmp_path / "out" / "a.png").shape == (10, 14, 3)


@pytest.mark.parametrize(("run", "channels"), [("color", 3), ("gray", 1)])
def test_16_bits_stay_16_bits(runs, tmp_path, run, channels):
  pixels = cases.write_random(
    tmp_path / "a.png", 6, 5, channels, dtype=np.uint16
  )
  restore_files(runs[run], str(tmp_path / "a.png"), str(tmp_path / "out"))
  result = read_image(tmp_path / "out" / "a.png")
  assert result.dtype == np.uint16 and result.shape == pixels.shape
  np.testing.assert_array_equal(result, _expected(runs[run], pixels))
  assert (result % 257 != 0).any()  # no 8-bit image in 16 bits


def test_16_bits_that_a_format_does_not_hold_are_told(runs, tmp_path, caplog):
  cases.write_random(tmp_path / "a.png", 6, 5, 3, dtype=np.uint16)
  cases.write_random(tmp_path / "b.png", 6, 5, 3)
  for name in "ab":
    output = tmp_path / f"{name}.webp"
    restore_files(runs["color"], str(tmp_path / f"{name}.png"), str(output))
    assert read_image(output).dtype == np.uint8
  (line,) = [line for line in caplog.messages if "16 bits" in line]
  assert line.endswith(
    "a.png: of its 16 bits .webp keeps 8; .png and .tiff would keep them"
  )


def test_a_gray_file_goes_through_a_colour_network(runs, tmp_path):
  """It comes out as the same picture does that is stored as RGB."""
  pixels = cases.write_random(tmp_path / "a.png", 6, 5, 1)
  write_image(tmp_path / "b.png", np.repeat(pixels, 3, axis=2))
  for name in ("a.png", "b.png"):
    restore_files(runs["color"], str(tmp_path / name), str(tmp_path / "out"))
  gray, stored = (read_image(tmp_path / "out" / n) for n in ("a.png", "b.png"))
  assert gray.shape == (6, 5, 1)
  np.testing.assert_array_equal(stored, np.repeat(stored[..., :1], 3, axis=2))
  assert np.abs(gray[..., 0] - stored[..., 0].astype(float)).max() <= 1


def test_k_changes_the_result(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 16, 16, 3)
  for k in (1, 16):
    restore_files(
      runs["color"],
      str(tmp_path / "a.png"),
      str(tmp_path / f"{k}.png"),
      num_keys=k,
    )
  one, all_keys = (read_image(tmp_path / f"{k}.png") for k in (1, 16))
  assert (one != all_keys).any()


def test_a_real_photograph_keeps_its_size(runs, shared_data, tmp_path):
  source = shared_data / "set5" / "hr" / "butterfly.png"
  restore_files(runs["color"], str(source), str(tmp_path))
  result = read_image(tmp_path / "butterfly.png")
  assert result.shape == read_image(source).shape


def test_a_reference_adds_one_picture_of_three(runs, tmp_path):
  pixels = cases.write_random(tmp_path / "a.png", 12, 20, 3)
  clean = cases.write_random(tmp_path / "clean.png", 12, 20, 3, seed=1)
  output = tmp_path / "out"
  restore_files(
    runs["color"],
    str(tmp_path / "a.png"),
    str(output),
    reference=str(tmp_path / "clean.png"),
  )
  assert cases.files(output) == ["a.png", "a_comparison.png"]
  picture = read_image(output / "a_comparison.png")
  # Three panels of 20 px with gaps of 6; a caption bar of 26 above.
  assert picture.shape == (12 + 26, 3 * 20 + 2 * 6, 3)
  panels = [picture[26:, left : left + 20] for left in (0, 26, 52)]
  result = read_image(output / "a.png")
  for panel, image in zip(panels, (pixels, result, clean), strict=True):
    np.testing.assert_array_equal(panel, image)


def test_figures_against_a_reference_come_with_their_protocol(
  runs, tmp_path, caplog
):
  caplog.set_level("INFO")
  before = cases.write_random(tmp_path / "a.png", 12, 20, 3)
  clean = cases.write_random(tmp_path / "clean.png", 12, 20, 3, seed=1)
  arguments = runs["color"], str(tmp_path / "a.png"), str(tmp_path / "out")
  restore_files(*arguments)
  assert "protocol" not in caplog.text
  restore_files(*arguments, reference=str(tmp_path / "clean.png"))
  assert (
    "protocol: 8 bits; PSNR in dB on all channels, crop 0 px; SSIM valid"
  ) in caplog.text
  after = read_image(tmp_path / "out" / "a.png")
  decibel = [metrics.psnr(image, clean) for image in (after, before)]
  ssim = [metrics.ssim(image, clean) for image in (after, before)]
  assert (
    f"a.png: PSNR {decibel[0]:.2f} dB (input {decibel[1]:.2f}), SSIM"
    f" {ssim[0]:.4f} ({ssim[1]:.4f})"
  ) in caplog.text


def test_a_folder_against_a_folder_ends_with_its_mean(runs, tmp_path, caplog):
  caplog.set_level("INFO")
  for i in range(3):
    cases.write_random(tmp_path / "in" / f"{i}x4.png", 12, 20, 3, seed=i)
    cases.write_random(tmp_path / "clean" / f"{i}.png", 12, 20, 3, seed=9 + i)
  arguments = runs["color"], str(tmp_path / "in"), str(tmp_path / "out")
  restore_files(*arguments, reference=str(tmp_path / "clean"))
  rows = [
    [float(x) for x in re.findall(r"-?\d+\.\d+", line)]
    for line in caplog.messages
    if "dB (input" in line
  ]
  assert "mean of 3 images: PSNR" in caplog.text
  # Of figures that are rounded to two places.
  np.testing.assert_allclose(rows[3], np.mean(rows[:3], axis=0), atol=0.01)


def test_enlarged_images_are_measured_as_super_resolution_is(
  runs, tmp_path, caplog
):
  caplog.set_level("INFO")
  cases.write_random(tmp_path / "a.png", 12, 20, 3)
  # The clean image that was cut to 24x40 before it was made small.
  clean = cases.write_random(tmp_path / "clean.png", 25, 41, 3, seed=1)
  output = tmp_path / "out"
  restore_files(
    runs["x2"],
    str(tmp_path / "a.png"),
    str(output),
    reference=str(tmp_path / "clean.png"),
  )
  assert "dB on BT.601 Y (not rounded), crop 2 px; SSIM valid" in caplog.text
  result = read_image(output / "a.png")
  options = {"channel": "y", "crop_px": 2}
  decibel = metrics.psnr(result, clean[:24, :40], **options)
  assert f"a.png: PSNR {decibel:.2f} dB (input " in caplog.text


@pytest.mark.parametrize(
  ("channels", "output_format"), [(3, "jpeg"), (1, "jpeg"), (1, "webp")]
)
def test_figures_and_picture_are_of_the_file_that_is_written(
  runs, tmp_path, caplog, channels, output_format
):
  caplog.set_level("INFO")
  cases.write_random(tmp_path / "a.png", 12, 20, channels)
  clean = cases.write_random(tmp_path / "clean.png", 12, 20, channels, seed=1)
  output = tmp_path / "out"
  restore_files(
    runs["color"],
    str(tmp_path / "a.png"),
    str(output),
    reference=str(tmp_path / "clean.png"),
    output_format=output_format,
    quality=5,
  )
  (file,) = output.glob("a.*")
  result = read_image(file)
  decibel = metrics.psnr(result, np.broadcast_to(clean, result.shape))
  (line,) = [line for line in caplog.messages if "a.png: PSNR" in line]
  found = float(line.split()[2])
  assert found == pytest.approx(decibel, abs=0.006 if channels == 3 else 0.05)
  panel = read_image(output / "a_comparison.png")[26:, 26 : 26 + 20]
  assert np.abs(panel.astype(int) - result).max() <= (output_format == "webp")


def test_a_folder_tells_its_speed_and_the_time_left(
  runs, tmp_path, monkeypatch, caplog
):
  caplog.set_level("INFO")
  for i in range(4):
    cases.write_random(tmp_path / "in" / f"{i}.png", 5, 5, 3)
  nothing = types.SimpleNamespace(num_bytes=0)
  monkeypatch.setattr(runner, "_restore", lambda *_: nothing)
  monkeypatch.setattr(runner, "_write", lambda *_: None)
  _let_time_pass(monkeypatch, seconds=4)
  restore_files(runs["color"], str(tmp_path / "in"), str(tmp_path / "out"))
  lines = [line for line in caplog.messages if "images/s" in line]
  assert [line.split(", ", 2)[2] for line in lines] == [
    "0.25 images/s, 12 s left",
    "0.25 images/s, 8 s left",
    "0.25 images/s, 4 s left",
    "0.25 images/s, 0 s left",
  ]


def test_results_are_written_while_others_are_restored(
  runs, tmp_path, monkeypatch, caplog
):
  caplog.set_level("INFO")
  for name in "abcd":
    cases.write_random(tmp_path / "in" / f"{name}.png", 5, 5, 3)
  last_read, together = threading.Event(), threading.Barrier(4, timeout=60)
  read, encode = pixel_formats.read_picture, result_files.encode

  def reading(path: pathlib.Path) -> Any:
    if path.name == "d.png":
      last_read.set()
    return read(path)

  def encoding(path: pathlib.Path, *rest: Any, **options: Any) -> bytes:
    assert last_read.wait(60)
    together.wait()
    return encode(path, *rest, **options)

  monkeypatch.setattr(pixel_formats, "read_picture", reading)
  monkeypatch.setattr(result_files, "encode", encoding)
  monkeypatch.setattr(runner, "_THREADS", 4)
  output = tmp_path / "out"
  restore_files(runs["color"], str(tmp_path / "in"), str(output))
  assert cases.files(output) == [f"{name}.png" for name in "abcd"]
  lines = [line for line in caplog.messages if "images/s" in line]
  assert [pathlib.Path(line.split(", ")[1]).name for line in lines] == [
    f"{name}.png" for name in "abcd"
  ]


def test_results_that_wait_hold_little_memory(runs, tmp_path, monkeypatch):
  for name in "abc":
    cases.write_random(tmp_path / "in" / f"{name}.png", 5, 5, 3)
  events = []
  read, write = pixel_formats.read_picture, result_files.write

  def reading(path: pathlib.Path) -> Any:
    events.append(f"read {path.name}")
    return read(path)

  def writing(path: pathlib.Path, data: bytes) -> None:
    time.sleep(0.1)  # were it not waited for, the next would be read now
    write(path, data)
    events.append(f"wrote {path.name}")

  monkeypatch.setattr(pixel_formats, "read_picture", reading)
  monkeypatch.setattr(result_files, "write", writing)
  monkeypatch.setattr(runner, "_MOST_BYTES", 100)
  restore_files(runs["color"], str(tmp_path / "in"), str(tmp_path / "out"))
  assert events == [
    f"{what} {name}.png" for name in "abc" for what in ("read", "wrote")
  ]


def test_an_image_of_many_tiles_tells_its_progress_now_and_then(
  monkeypatch, caplog
):
  caplog.set_level("INFO")
  bands = [np.zeros((1, 5, 3), np.float32)] * 40
  restorer = types.SimpleNamespace(
    tile_px=lambda height, width: (8, 8, 40), bands=lambda *_: iter(bands)
  )
  _let_time_pass(monkeypatch, seconds=4)
  levels = np.empty((40, 5, 3), np.uint8)
  picture = pixel_formats.Picture("a.png", levels, None, NO_METADATA)
  runner.restore_into(levels, restorer, levels, picture)
  lines = [line for line in caplog.messages if " %, " in line]
  assert len(lines) == 13  # every 10 seconds at most, of 160
  assert lines[0] == "a.png: 7 %, 2 min 28 s left"
  assert lines[-1] == "a.png: 97 %, 4 s left"


def _let_time_pass(monkeypatch, *, seconds: float) -> None:
  """Whenever the restoration looks at the clock, so much later is it."""
  clock = itertools.count(step=seconds)
  fake = types.SimpleNamespace(monotonic=lambda: next(clock))
  monkeypatch.setattr(progress, "time", fake)


def test_a_folder_of_references_is_matched_by_name(runs, tmp_path):
  for name in ("a.png", "b.bmp"):
    cases.write_random(tmp_path / "in" / name, 12, 12, 3)
  for name in ("b.png", "a.tif", "c.png"):
    cases.write_random(tmp_path / "clean" / name, 24, 24, 3)
  restore_files(
    runs["x2"],
    str(tmp_path / "in"),
    str(tmp_path / "out"),
    reference=str(tmp_path / "clean"),
  )
  assert cases.files(tmp_path / "out") == [
    "a.png",
    "a_comparison.png",
    "b.png",
    "b_comparison.png",
  ]


def test_a_bad_file_of_a_folder_is_named_and_the_others_restored(
  runs, tmp_path, caplog
):
  folder = tmp_path / "in"
  for name in ("a.png", "c.png"):
    cases.write_random(folder / name, 5, 5, 3)
  (folder / "b.png").write_bytes(b"no image")
  (folder / "notes.txt").touch()
  output = tmp_path / "out"
  with pytest.raises(
    ImageError, match=r"1 of 3 .*not restored: b.png; the mes"
  ):
    restore_files(runs["color"], str(folder), str(output))
  assert cases.files(output) == ["a.png", "c.png"]
  assert f"{folder / 'b.png'}: " in caplog.text


def test_a_folder_is_mirrored_with_its_subfolders(runs, tmp_path):
  folder = tmp_path / "in"
  for name in ("a.png", "sub/a.png", "sub/deep/b.webp", "c.TIF", "d.bmp"):
    cases.write_random(folder / name, 5, 5, 3)
  images = folder / "restored"  # inside the input
  for _ in range(2):
    restore_files(runs["color"], str(folder), str(images), overwrite=True)
  assert [name for name in cases.files(images) if "." in name] == [
    "a.png",
    "c.tif",
    "d.png",
    "sub/a.png",
    "sub/deep/b.webp",
  ]


def test_a_pattern_is_mirrored_from_its_fixed_part(runs, tmp_path, caplog):
  caplog.set_level("INFO")
  for name in ("x/a.png", "x/y/b.png", "x/y/c.bmp", "z/d.png"):
    cases.write_random(tmp_path / "in" / name, 5, 5, 3)
  (tmp_path / "in" / "x" / "notes.txt").touch()
  output = tmp_path / "out"
  pattern = str(tmp_path / "in" / "x" / "**" / "*[!c].*")
  restore_files(runs["color"], pattern, str(output))
  assert cases.files(output) == ["a.png", "y", "y/b.png"]
  assert "not read, files of other kinds: 1 .txt" in caplog.text
  with pytest.raises(ImageError, match="matches no file; check --input"):
    restore_files(runs["color"], str(tmp_path / "in" / "*.jpg"), str(output))
  with pytest.raises(ImageError, match=r"txt: holds no image but files"):
    restore_files(runs["color"], str(tmp_path / "in/x/*.txt"), str(output))


def test_a_pattern_leaves_out_the_results_of_an_earlier_run(runs, tmp_path):
  for name in ("a.png", "sub/b.png"):
    cases.write_random(tmp_path / "in" / name, 5, 5, 3)
  output = tmp_path / "in" / "restored"
  pattern = str(tmp_path / "in" / "**" / "*.png")
  for _ in range(2):
    restore_files(runs["color"], pattern, str(output))
    assert cases.files(output) == ["a.png", "sub", "sub/b.png"]
  with pytest.raises(ImageError, match=r"png: holds no image outside of .*re"):
    restore_files(runs["color"], str(tmp_path / "in" / "r*/*.png"), str(output))


@pytest.mark.parametrize(
  ("source", "output"), [("in", "in"), ("in/*", "in"), ("in/sub", "in/.")]
)
def test_results_among_the_inputs_are_refused(runs, tmp_path, source, output):
  for name in ("a.jpg", "sub/b.jpg", "sub/sub/c.jpg"):
    cases.write_random(tmp_path / "in" / name, 5, 5, 3)
  message = cases.refused(
    runs, tmp_path, source=tmp_path / source, output=tmp_path / output
  )
  assert "png: would be an input of the next run; choose another" in message


def test_results_that_a_pattern_does_not_match_may_lie_beside(runs, tmp_path):
  cases.write_random(tmp_path / "in" / "a.jpg", 5, 5, 3)
  options = (
    runs["color"],
    str(tmp_path / "in" / "*.jpg"),
    str(tmp_path / "in"),
  )
  restore_files(*options)
  assert cases.files(tmp_path / "in") == ["a.jpg", "a.png"]
  # Whose they are is not known a second time.
  with pytest.raises(ImageError, match="a.png: is there already"):
    restore_files(*options)


def test_an_interrupted_folder_run_continues(
  runs, tmp_path, monkeypatch, caplog
):
  caplog.set_level("INFO")
  folder, output = tmp_path / "in", tmp_path / "out"
  for name in ("a.png", "b.png", "c.png"):
    cases.write_random(folder / name, 5, 5, 3)
  wanted = tmp_path / "wanted"
  restore_files(runs["color"], str(folder), str(wanted))
  calls = []

  def interrupted(self, images, **options):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return restore(self, images, **options)

  restore = Restorer.__call__
  monkeypatch.setattr(Restorer, "__call__", interrupted)
  with pytest.raises(KeyboardInterrupt):
    restore_files(runs["color"], str(folder), str(output))
  assert cases.files(output) == ["a.png"]
  first = (output / "a.png").stat()
  restore_files(runs["color"], str(folder), str(output))
  assert len(calls) == 4  # a; b interrupted; b; c
  assert "1 of 3 are restored already and kept, by whatever net" in caplog.text
  assert (output / "a.png").stat() == first
  for name in ("a.png", "b.png", "c.png"):
    assert (output / name).read_bytes() == (wanted / name).read_bytes()
  restore_files(runs["color"], str(folder), str(output))
  assert len(calls) == 4  # nothing to do
  restore_files(runs["color"], str(folder), str(output), overwrite=True)
  assert len(calls) == 7


def test_a_missing_comparison_is_made_up_for(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 12, 12, 3)
  arguments = (runs["color"], str(tmp_path / "a.png"), str(tmp_path / "out"))
  restore_files(*arguments)
  restore_files(*arguments, reference=str(tmp_path / "a.png"))
  assert cases.files(tmp_path / "out") == ["a.png", "a_comparison.png"]


def test_an_unchanged_image_is_told(runs, tmp_path, monkeypatch, caplog):
  pixels = cases.write_random(tmp_path / "in" / "a.png", 5, 5, 3)
  write_image(tmp_path / "in" / "b.png", pixels.astype(np.uint16) * 257)
  source, output = str(tmp_path / "in"), str(tmp_path / "out")
  restore_files(runs["color"], source, output)
  assert "equals the input" not in caplog.text
  monkeypatch.setattr(
    Restorer, "__call__", lambda self, images, **_: images + 0.1 / 255
  )
  restore_files(runs["color"], source, output, overwrite=True)
  for name in ("a.png", "b.png"):
    assert f"in/{name}: the result equals the input; is the" in caplog.text


def test_what_a_checkpoint_needs_is_told(runs, tmp_path, caplog):
  cases.write_random(tmp_path / "a.png", 5, 7, 3)
  caplog.set_level("INFO")
  restore_files(runs["x2"], str(tmp_path / "a.png"), str(tmp_path / "out"))
  assert (
    "network: noise, sigma_255 [0.0, 50.0], channel_order rgb; scale 2, RGB to"
    " RGB, window 4, k = 8; sides are padded to multiples of 4; on cpu"
  ) in caplog.text


def test_dtype_and_self_ensemble_change_the_result(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 9, 6, 3)
  results = []
  for options in ({}, {"dtype": "bfloat16"}, {"self_ensemble": True}):
    output = tmp_path / f"{len(results)}.png"
    restore_files(
      runs["color"], str(tmp_path / "a.png"), str(output), **options
    )
    results.append(read_image(output).astype(float))
  plain, rounded, mean = results
  assert 0 < np.abs(rounded - plain).mean() < 3
  assert 0 < np.abs(mean - plain).mean()


def test_a_full_disk_ends_the_run(runs, tmp_path, monkeypatch, caplog):
  for name in "abcd":
    cases.write_random(tmp_path / "in" / f"{name}.png", 5, 5, 3)
  tried = []
  write, write_bytes = result_files.write, pathlib.Path.write_bytes

  def remember(path, data):
    tried.append(path.name)
    write(path, data)

  def no_space(self, data):
    if tried[-1] == "a.png":
      return write_bytes(self, data)
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(result_files, "write", remember)
  monkeypatch.setattr(pathlib.Path, "write_bytes", no_space)
  monkeypatch.setattr(runner, "_THREADS", 1)
  output = tmp_path / "out"
  with pytest.raises(ImageError, match="3 of 4 images .*: b.png, c.png, d.png"):
    restore_files(runs["color"], str(tmp_path / "in"), str(output))
  assert tried[:2] == ["a.png", "b.png"] and "d.png" not in tried
  assert "b.png: cannot be written (No space left on device)" in caplog.text
  assert cases.files(output) == ["a.png"]


def test_memory_that_runs_out_is_named_and_the_others_restored(
  runs, tmp_path, monkeypatch, caplog
):
  for name, width in (("a.png", 5), ("b.png", 50), ("c.png", 5)):
    cases.write_random(tmp_path / "in" / name, 5, width, 3)

  def small_memory(self, images, **options):
    if images.shape[2] > 8:
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    return restore(self, images, **options)

  restore = Restorer.__call__
  monkeypatch.setattr(Restorer, "__call__", small_memory)
  output = tmp_path / "out"
  with pytest.raises(ImageError, match="1 of 3 images .*: b.png;"):
    restore_files(runs["color"], str(tmp_path / "in"), str(output))
  assert "tiles of 8x52 px; give a smaller --tile" in caplog.text
  assert cases.files(output) == ["a.png", "c.png"]


@pytest.mark.parametrize("place", ["result", "warning", "encoder"])
def test_memory_for_a_result_that_runs_out_is_named_too(
  runs, tmp_path, monkeypatch, caplog, place
):
  for name, width in (("a.png", 5), ("b.png", 50), ("c.png", 5)):
    cases.write_random(tmp_path / "in" / name, 5, width, 3)

  def with_little_memory(first: Any, *rest: Any, **options: Any) -> Any:
    # A shape, a picture or an array of b.png.
    pixels = getattr(first, "pixels", first)
    shape = pixels if isinstance(pixels, tuple) else np.shape(pixels)
    if shape == (5, 50, 3):
      raise MemoryError
    return whole(first, *rest, **options)

  module, function = {
    "result": (np, "empty"),
    "warning": (runner, "_warn_of_no_change"),
    "encoder": (Image, "fromarray"),
  }[place]
  whole = getattr(module, function)
  monkeypatch.setattr(module, function, with_little_memory)
  output = tmp_path / "out"
  with pytest.raises(ImageError, match="1 of 3 images .*: b.png;"):
    restore_files(runs["color"], str(tmp_path / "in"), str(output))
  assert "b.png: does not fit the memory" in caplog.text
  assert "; free some, or cut it into parts" in caplog.text
  assert cases.files(output) == ["a.png", "c.png"]
