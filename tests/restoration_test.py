"""Image files through a network and back, whole or not at all."""

import itertools
import pathlib
import types
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from semanir_jax import evaluation, metrics, restoration, test_sets, weights
from semanir_jax.checkpoint import CheckpointError, load_for_inference
from semanir_jax.data import demosaic
from semanir_jax.data.images import ImageError, read_image, write_image
from semanir_jax.inference import Restorer
from semanir_jax.restoration import restore_files
from tests import small

MOSAICS = {"name": "demosaic"}

SUPER_RESOLUTION = {
  "model__architecture": "columnar",
  "model__scale": 2,
  "model__depths": (1,),
}
GRAY = {"model__in_channels": 1, "model__out_channels": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, str]:
  """Workdirs of a colour, a gray and a super-resolution network."""
  folder = tmp_path_factory.mktemp("runs")
  configs = {"color": {}, "gray": GRAY, "x2": SUPER_RESOLUTION}
  return {
    name: str(small.save_run(folder / name, small.config(**changes)))
    for name, changes in configs.items()
  }


def _image(
  path: pathlib.Path, *shape: int, dtype: Any = np.uint8, seed: int = 0
) -> np.ndarray:
  """Writes random pixels of `shape` and returns them."""
  top = np.iinfo(dtype).max
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, top, shape, dtype, endpoint=True)
  path.parent.mkdir(parents=True, exist_ok=True)
  write_image(path, pixels)
  return pixels


def _expected(run: str, pixels: np.ndarray) -> np.ndarray:
  """What the network makes of an image, rounded to the depth of the file."""
  model, params, _ = load_for_inference(run)
  peak = np.iinfo(pixels.dtype).max
  restored = Restorer(model, params)(pixels[None].astype(np.float32) / peak)[0]
  rounded = np.rint(np.clip(restored, 0, 1) * peak)
  return rounded.astype(pixels.dtype)


def _files(folder: pathlib.Path) -> list[str]:
  """All there is below a folder, hidden files too."""
  return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_file_is_restored_into_a_folder_that_is_made(runs, tmp_path):
  pixels = _image(tmp_path / "a.png", 9, 6, 3)
  output = tmp_path / "out" / "deep"
  restore_files(runs["color"], str(tmp_path / "a.png"), str(output))
  assert _files(output) == ["a.png"]
  result = read_image(output / "a.png")
  assert result.shape == pixels.shape
  np.testing.assert_array_equal(result, _expected(runs["color"], pixels))


def test_a_file_is_restored_to_a_file_of_any_name(runs, tmp_path):
  pixels = _image(tmp_path / "a.bmp", 4, 5, 3)
  output = tmp_path / "b.tiff"
  restore_files(runs["color"], str(tmp_path / "a.bmp"), str(output))
  result = read_image(output)
  np.testing.assert_array_equal(result, _expected(runs["color"], pixels))


def test_super_resolution_writes_twice_the_size(runs, tmp_path):
  _image(tmp_path / "a.png", 5, 7, 3)
  restore_files(runs["x2"], str(tmp_path / "a.png"), str(tmp_path / "out"))
  assert read_image(tmp_path / "out" / "a.png").shape == (10, 14, 3)


@pytest.mark.parametrize(("run", "channels"), [("color", 3), ("gray", 1)])
def test_16_bits_stay_16_bits(runs, tmp_path, run, channels):
  pixels = _image(tmp_path / "a.png", 6, 5, channels, dtype=np.uint16)
  restore_files(runs[run], str(tmp_path / "a.png"), str(tmp_path / "out"))
  result = read_image(tmp_path / "out" / "a.png")
  assert result.dtype == np.uint16 and result.shape == pixels.shape
  np.testing.assert_array_equal(result, _expected(runs[run], pixels))
  assert (result % 257 != 0).any()  # no 8-bit image in 16 bits


def test_a_gray_file_goes_through_a_colour_network(runs, tmp_path):
  pixels = _image(tmp_path / "a.png", 6, 5, 1)
  restore_files(runs["color"], str(tmp_path / "a.png"), str(tmp_path / "out"))
  colour = _expected(runs["color"], np.repeat(pixels, 3, axis=2))
  result = read_image(tmp_path / "out" / "a.png")
  luma = colour @ np.array([0.299, 0.587, 0.114])
  assert result.shape == (6, 5, 1)
  assert np.abs(result[..., 0] - luma).max() <= 1.0  # rounded once or twice
  assert np.ptp(colour, axis=2).max() > 3  # else any weights would do


@pytest.fixture(scope="module")
def mosaic_network(tmp_path_factory) -> str:
  """A network of random weights that was trained on mosaics."""
  path = tmp_path_factory.mktemp("mosaics") / "net.safetensors"
  return str(small.write_network(path, degradation=MOSAICS))


def test_a_sensors_image_is_restored_as_the_evaluation_restores_it(
  mosaic_network, shared_data, tmp_path, caplog
):
  caplog.set_level("INFO")
  photograph = read_image(shared_data / "kodak24" / "kodim23.png")
  clean = photograph[200:216, 100:124]
  model, params, _ = weights.load_network(mosaic_network)
  options = dict(base.test_set("kodak", ConfigDict(MOSAICS)))
  examples = test_sets.examples(small.Images([clean]), options, [0])
  protocol = base.get_config().eval.protocol
  (expected,) = evaluation.evaluate_set(
    Restorer(model, params), examples, protocol, batch_size=1
  )
  sensor = demosaic.mosaic(clean).sum(axis=2, dtype=np.uint8)[..., None]
  write_image(tmp_path / "a.png", sensor)
  write_image(tmp_path / "deep.png", sensor.astype(np.uint16) * 257)
  write_image(tmp_path / "clean.png", clean)
  output = tmp_path / "out"
  for name in ("a.png", "deep.png"):
    restore_files(
      mosaic_network,
      str(tmp_path / name),
      str(output),
      reference=str(tmp_path / "clean.png"),
    )
  result = read_image(output / "a.png")
  np.testing.assert_array_equal(result, expected.after)
  deep = read_image(output / "deep.png")
  assert deep.dtype == np.uint16
  assert np.abs(deep / 257 - result).max() <= 0.51
  figures = metrics.psnr(result, clean), metrics.psnr(expected.before, clean)
  assert "a.png: PSNR {:.2f} dB (input {:.2f})".format(*figures) in caplog.text


def test_a_mosaic_that_is_filled_in_already_is_taken_as_it_is(
  mosaic_network, tmp_path
):
  pixels = _image(tmp_path / "a.png", 5, 7, 3)
  restore_files(mosaic_network, str(tmp_path / "a.png"), str(tmp_path / "out"))
  model, params, _ = weights.load_network(mosaic_network)
  expected = Restorer(model, params)(pixels[None] / np.float32(255))[0]
  result = read_image(tmp_path / "out" / "a.png")
  np.testing.assert_array_equal(result, metrics.to_uint8(expected))


def test_a_mosaic_of_odd_sides_is_refused(mosaic_network, tmp_path):
  _image(tmp_path / "a.png", 6, 5, 1)
  message = _refused({"color": mosaic_network}, tmp_path)
  assert message.startswith(f"{tmp_path / 'a.png'}: an RGGB mosaic has even")


def test_a_mosaic_that_exif_turns_is_refused(mosaic_network, tmp_path):
  exif = Image.Exif()
  exif[274] = 3
  pixels = np.zeros((6, 8), np.uint8)
  Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
  message = _refused({"color": mosaic_network}, tmp_path)
  assert "a.png: is a mosaic with an EXIF orientation" in message


def test_k_changes_the_result(runs, tmp_path):
  _image(tmp_path / "a.png", 16, 16, 3)
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
  pixels = _image(tmp_path / "a.png", 12, 20, 3)
  clean = _image(tmp_path / "clean.png", 12, 20, 3, seed=1)
  output = tmp_path / "out"
  restore_files(
    runs["color"],
    str(tmp_path / "a.png"),
    str(output),
    reference=str(tmp_path / "clean.png"),
  )
  assert _files(output) == ["a.png", "a_comparison.png"]
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
  before = _image(tmp_path / "a.png", 12, 20, 3)
  clean = _image(tmp_path / "clean.png", 12, 20, 3, seed=1)
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


@pytest.mark.parametrize(
  ("channels", "output_format"), [(3, "jpeg"), (1, "jpeg"), (1, "webp")]
)
def test_figures_and_picture_are_of_the_file_that_is_written(
  runs, tmp_path, caplog, channels, output_format
):
  caplog.set_level("INFO")
  _image(tmp_path / "a.png", 12, 20, channels)
  clean = _image(tmp_path / "clean.png", 12, 20, channels, seed=1)
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
    _image(tmp_path / "in" / f"{i}.png", 5, 5, 3)
  monkeypatch.setattr(restoration, "_restore_file", lambda *_: None)
  _let_time_pass(monkeypatch, seconds=4)
  restore_files(runs["color"], str(tmp_path / "in"), str(tmp_path / "out"))
  lines = [line for line in caplog.messages if "images/s" in line]
  assert [line.split(", ", 2)[2] for line in lines] == [
    "0.25 images/s, 12 s left",
    "0.25 images/s, 8 s left",
    "0.25 images/s, 4 s left",
    "0.25 images/s, 0 s left",
  ]


def test_an_image_of_many_tiles_tells_its_progress_now_and_then(
  monkeypatch, caplog
):
  caplog.set_level("INFO")
  bands = [np.zeros((1, 5, 3), np.float32)] * 40
  restorer = types.SimpleNamespace(
    tile_px=lambda height, width: (8, 8, 40), bands=lambda pixels: iter(bands)
  )
  _let_time_pass(monkeypatch, seconds=4)
  levels = np.empty((40, 5, 3), np.uint8)
  restoration.restore_into(levels, restorer, levels, "a.png")
  lines = [line for line in caplog.messages if " %, " in line]
  assert len(lines) == 13  # every 10 seconds at most, of 160
  assert lines[0] == "a.png: 7 %, 148 s left"
  assert lines[-1] == "a.png: 97 %, 4 s left"


def _let_time_pass(monkeypatch, *, seconds: float) -> None:
  """Whenever the restoration looks at the clock, so much later is it."""
  clock = itertools.count(step=seconds)
  fake = types.SimpleNamespace(monotonic=lambda: next(clock))
  monkeypatch.setattr(restoration, "time", fake)


def test_a_folder_of_references_is_matched_by_name(runs, tmp_path):
  for name in ("a.png", "b.bmp"):
    _image(tmp_path / "in" / name, 12, 12, 3)
  for name in ("b.png", "a.tif", "c.png"):
    _image(tmp_path / "clean" / name, 24, 24, 3)
  restore_files(
    runs["x2"],
    str(tmp_path / "in"),
    str(tmp_path / "out"),
    reference=str(tmp_path / "clean"),
  )
  assert _files(tmp_path / "out") == [
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
    _image(folder / name, 5, 5, 3)
  (folder / "b.png").write_bytes(b"no image")
  (folder / "notes.txt").touch()
  output = tmp_path / "out"
  with pytest.raises(
    ImageError, match=r"1 of 3 .*not restored: b.png; the mes"
  ):
    restore_files(runs["color"], str(folder), str(output))
  assert _files(output) == ["a.png", "c.png"]
  assert f"{folder / 'b.png'}: " in caplog.text


def test_a_folder_is_mirrored_with_its_subfolders(runs, tmp_path):
  folder = tmp_path / "in"
  for name in ("a.png", "sub/a.png", "sub/deep/b.webp", "c.TIF", "d.bmp"):
    _image(folder / name, 5, 5, 3)
  images = folder / "restored"  # inside the input
  for _ in range(2):
    restore_files(runs["color"], str(folder), str(images), overwrite=True)
  assert [name for name in _files(images) if "." in name] == [
    "a.png",
    "c.tif",
    "d.png",
    "sub/a.png",
    "sub/deep/b.webp",
  ]


def test_a_pattern_is_mirrored_from_its_fixed_part(runs, tmp_path):
  for name in ("x/a.png", "x/y/b.png", "x/y/c.bmp", "x/notes.txt", "z/d.png"):
    _image(tmp_path / "in" / name, 5, 5, 3) if "txt" not in name else (
      tmp_path / "in" / name
    ).touch()
  output = tmp_path / "out"
  pattern = str(tmp_path / "in" / "x" / "**" / "*[!c].*")
  restore_files(runs["color"], pattern, str(output))
  assert _files(output) == ["a.png", "y", "y/b.png"]
  with pytest.raises(ImageError, match="matches no image; check --input"):
    restore_files(runs["color"], str(tmp_path / "in" / "*.jpg"), str(output))


def test_a_pattern_leaves_out_the_results_of_an_earlier_run(runs, tmp_path):
  for name in ("a.png", "sub/b.png"):
    _image(tmp_path / "in" / name, 5, 5, 3)
  output = tmp_path / "in" / "restored"
  pattern = str(tmp_path / "in" / "**" / "*.png")
  for _ in range(2):
    restore_files(runs["color"], pattern, str(output))
    assert _files(output) == ["a.png", "sub", "sub/b.png"]
  with pytest.raises(ImageError, match=r"png: holds no image outside of .*re"):
    restore_files(runs["color"], str(tmp_path / "in" / "r*/*.png"), str(output))


@pytest.mark.parametrize(
  ("source", "output"), [("in", "in"), ("in/*", "in"), ("in/sub", "in/.")]
)
def test_results_among_the_inputs_are_refused(runs, tmp_path, source, output):
  for name in ("a.jpg", "sub/b.jpg", "sub/sub/c.jpg"):
    _image(tmp_path / "in" / name, 5, 5, 3)
  message = _refused(
    runs, tmp_path, source=tmp_path / source, output=tmp_path / output
  )
  assert "png: would be an input of the next run; choose another" in message


def test_results_that_a_pattern_does_not_match_may_lie_beside(runs, tmp_path):
  _image(tmp_path / "in" / "a.jpg", 5, 5, 3)
  for _ in range(2):
    restore_files(
      runs["color"], str(tmp_path / "in" / "*.jpg"), str(tmp_path / "in")
    )
    assert _files(tmp_path / "in") == ["a.jpg", "a.png"]


def test_an_interrupted_folder_run_continues(
  runs, tmp_path, monkeypatch, caplog
):
  caplog.set_level("INFO")
  folder, output = tmp_path / "in", tmp_path / "out"
  for name in ("a.png", "b.png", "c.png"):
    _image(folder / name, 5, 5, 3)
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
  assert _files(output) == ["a.png"]
  first = (output / "a.png").stat()
  restore_files(runs["color"], str(folder), str(output))
  assert len(calls) == 4  # a; b interrupted; b; c
  assert "1 of 3 are restored already and kept; --overwrite" in caplog.text
  assert (output / "a.png").stat() == first
  for name in ("a.png", "b.png", "c.png"):
    assert (output / name).read_bytes() == (wanted / name).read_bytes()
  # Nothing to do: not even the checkpoint is needed.
  restore_files("nowhere", str(folder), str(output))
  restore_files(runs["color"], str(folder), str(output), overwrite=True)
  assert len(calls) == 7


def test_a_missing_comparison_is_made_up_for(runs, tmp_path):
  _image(tmp_path / "a.png", 12, 12, 3)
  arguments = (runs["color"], str(tmp_path / "a.png"), str(tmp_path / "out"))
  restore_files(*arguments)
  restore_files(*arguments, reference=str(tmp_path / "a.png"))
  assert _files(tmp_path / "out") == ["a.png", "a_comparison.png"]


def test_an_unchanged_image_is_told(runs, tmp_path, monkeypatch, caplog):
  pixels = _image(tmp_path / "in" / "a.png", 5, 5, 3)
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
  _image(tmp_path / "a.png", 5, 7, 3)
  caplog.set_level("INFO")
  restore_files(runs["x2"], str(tmp_path / "a.png"), str(tmp_path / "out"))
  assert (
    "network: noise, sigma_255 [0.0, 50.0], channel_order rgb; scale 2, RGB to"
    " RGB, window 4, k = 8; sides are padded to multiples of 4; on cpu"
  ) in caplog.text


def test_dtype_and_self_ensemble_change_the_result(runs, tmp_path):
  _image(tmp_path / "a.png", 9, 6, 3)
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


def test_a_turned_mosaic_is_refused(tmp_path):
  config = small.config().unlock()
  config.data.degradation = MOSAICS
  run = str(small.save_run(tmp_path / "run", config.lock()))
  _image(tmp_path / "a.png", 5, 5, 3)
  message = _refused(
    {"color": run}, tmp_path, self_ensemble=True, kind=ValueError
  )
  assert "leave out self_ensemble" in message


def test_memory_that_runs_out_is_named_and_the_others_restored(
  runs, tmp_path, monkeypatch, caplog
):
  for name, width in (("a.png", 5), ("b.png", 50), ("c.png", 5)):
    _image(tmp_path / "in" / name, 5, width, 3)

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
  assert _files(output) == ["a.png", "c.png"]


@pytest.mark.parametrize("place", ["result", "warning", "encoder"])
def test_memory_for_a_result_that_runs_out_is_named_too(
  runs, tmp_path, monkeypatch, caplog, place
):
  for name, width in (("a.png", 5), ("b.png", 50), ("c.png", 5)):
    _image(tmp_path / "in" / name, 5, width, 3)

  def with_little_memory(first: Any, *rest: Any, **options: Any) -> Any:
    # A shape, a picture or an array of b.png.
    pixels = getattr(first, "pixels", first)
    shape = pixels if isinstance(pixels, tuple) else np.shape(pixels)
    if shape == (5, 50, 3):
      raise MemoryError
    return whole(first, *rest, **options)

  module, function = {
    "result": (np, "empty"),
    "warning": (restoration, "_warn_of_no_change"),
    "encoder": (Image, "fromarray"),
  }[place]
  whole = getattr(module, function)
  monkeypatch.setattr(module, function, with_little_memory)
  output = tmp_path / "out"
  with pytest.raises(ImageError, match="1 of 3 images .*: b.png;"):
    restore_files(runs["color"], str(tmp_path / "in"), str(output))
  assert "b.png: does not fit the memory" in caplog.text
  assert "; free some, or cut it into parts" in caplog.text
  assert _files(output) == ["a.png", "c.png"]


def _refused(runs: dict[str, str], tmp_path: pathlib.Path, **changes: Any):
  """What is said of one image that cannot be restored; nothing may be left."""
  run = changes.pop("run", "color")
  kind = changes.pop("kind", ImageError | CheckpointError)
  source = str(changes.pop("source", tmp_path / "a.png"))
  output = str(changes.pop("output", tmp_path / "out" / "deep"))
  before = _files(tmp_path)
  with pytest.raises(ValueError) as error:
    restore_files(runs[run], source, output, **changes)
  assert _files(tmp_path) == before
  assert "\n" not in str(error.value)
  kind = ValueError if {"num_keys", "quality", "tile"} & set(changes) else kind
  assert isinstance(error.value, kind)
  return str(error.value)


def test_a_missing_input_is_refused(runs, tmp_path):
  message = _refused(runs, tmp_path)
  assert message == (
    f"{tmp_path / 'a.png'}: no such file or folder; check --input"
  )


def test_a_corrupt_input_is_refused(runs, tmp_path):
  _image(tmp_path / "whole.png", 9, 9, 3)
  half = (tmp_path / "whole.png").read_bytes()[:150]
  (tmp_path / "a.png").write_bytes(half)
  assert _refused(runs, tmp_path).startswith(f"{tmp_path / 'a.png'}: ")


def test_a_folder_without_images_is_refused(runs, tmp_path):
  message = _refused(runs, tmp_path, source=tmp_path)
  assert message.startswith(f"{tmp_path}: holds no image")


def test_a_colour_image_is_refused_by_a_gray_network(runs, tmp_path):
  _image(tmp_path / "a.png", 5, 5, 3)
  message = _refused(runs, tmp_path, run="gray")
  assert message == (
    f"{tmp_path / 'a.png'}: is a colour image, but the network is of gray"
    " images; convert it to gray first, or use the checkpoint of a colour"
    " network"
  )


@pytest.mark.parametrize("num_keys", [0, 17])
def test_k_that_does_not_fit_is_refused(runs, tmp_path, num_keys):
  _image(tmp_path / "a.png", 5, 5, 3)
  message = _refused(runs, tmp_path, num_keys=num_keys)
  assert f"num_keys={num_keys} must lie in [1, 16]" in message


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"tile": 102}, "tile=102 must be a multiple of 4"),
    ({"quality": 0, "output_format": "jpeg"}, "must lie in [1, 100]"),
    ({"quality": 90}, "quality=90 is of JPEG and WebP, but"),
    ({"output": "b.png", "output_format": "webp"}, "names a format already"),
  ],
)
def test_options_that_do_not_fit_are_refused(runs, tmp_path, options, message):
  _image(tmp_path / "a.png", 5, 5, 3)
  assert message in _refused(runs, tmp_path, **options)


def test_a_missing_checkpoint_is_refused(runs, tmp_path):
  _image(tmp_path / "a.png", 5, 5, 3)
  runs = {"color": str(tmp_path / "nowhere")}
  assert "no checkpoint in" in _refused(runs, tmp_path)


def test_an_output_below_a_file_is_refused(runs, tmp_path):
  _image(tmp_path / "a.png", 5, 5, 3)
  (tmp_path / "file").touch()
  message = _refused(runs, tmp_path, output=tmp_path / "file" / "out")
  assert "file is no writable folder); choose another --output" in message


@pytest.mark.parametrize("output", ["", "./../in/.", "../in/a.png"])
def test_overwriting_the_input_is_refused(runs, tmp_path, output, monkeypatch):
  folder = tmp_path / "in"
  _image(folder / "a.png", 5, 5, 3)
  monkeypatch.chdir(folder)
  message = _refused(
    runs, tmp_path, source="a.png", output=output or str(folder)
  )
  assert f"{folder / 'a.png'}: an input would be overwritten" in message


def test_a_folder_may_be_named_as_an_image(runs, tmp_path):
  _image(tmp_path / "a.png", 5, 5, 3)
  output = tmp_path / "out.png"
  output.mkdir()
  restore_files(runs["color"], str(tmp_path / "a.png"), str(output))
  assert _files(output) == ["a.png"]


def test_a_folder_in_the_place_of_a_result_is_no_result(runs, tmp_path):
  _image(tmp_path / "a.png", 5, 5, 3)
  (tmp_path / "out" / "a.png").mkdir(parents=True)
  message = _refused(runs, tmp_path, output=tmp_path / "out")
  assert "a.png: cannot be written (Is a directory)" in message


@pytest.mark.parametrize("suffix", [".gif", ".PDF", ".jp2"])
def test_a_format_that_is_not_written_is_refused(runs, tmp_path, suffix):
  _image(tmp_path / "a.png", 5, 5, 3)
  message = _refused(runs, tmp_path, output=tmp_path / f"b{suffix}")
  assert f"b{suffix}: {suffix.lower()} is not written; use one of" in message


@pytest.mark.parametrize("option", ["source", "output", "reference"])
def test_an_empty_path_is_no_folder(runs, tmp_path, monkeypatch, option):
  _image(tmp_path / "a.png", 12, 12, 3)
  monkeypatch.chdir(tmp_path)
  message = _refused(runs, tmp_path, **{option: ""})
  name = option.replace("source", "input")
  assert message == f"--{name} is empty; give a file or folder"


def test_overwriting_through_a_link_is_refused(runs, tmp_path):
  _image(tmp_path / "in" / "a.png", 5, 5, 3)
  (tmp_path / "link").symlink_to(tmp_path / "in")
  message = _refused(
    runs, tmp_path, source=tmp_path / "in", output=tmp_path / "link"
  )
  assert "an input would be overwritten" in message


def test_overwriting_the_references_is_refused(runs, tmp_path):
  _image(tmp_path / "a.png", 5, 5, 3)
  _image(tmp_path / "clean" / "a.png", 5, 5, 3)
  message = _refused(
    runs,
    tmp_path,
    output=tmp_path / "clean",
    reference=str(tmp_path / "clean"),
  )
  assert "an input would be overwritten" in message


def test_two_inputs_of_one_name_are_refused(runs, tmp_path):
  for suffix in ("png", "bmp"):
    _image(tmp_path / "in" / f"a.{suffix}", 5, 5, 3)
  message = _refused(runs, tmp_path, source=tmp_path / "in")
  assert "a.png: two results would be written there; rename" in message


@pytest.mark.parametrize(
  ("reference", "message"),
  [
    ("missing.png", "missing.png: No such file"),
    ("small.png", "small.png: is 4x6, the result 12x12; give the clean image"),
    ("clean", "clean: holds no clean image of the name of a.png (1 missing)"),
  ],
)
def test_a_reference_that_does_not_fit_is_refused(
  runs, tmp_path, reference, message
):
  _image(tmp_path / "a.png", 12, 12, 3)
  _image(tmp_path / "small.png", 4, 6, 3)
  _image(tmp_path / "clean" / "b.png", 12, 12, 3)
  found = _refused(runs, tmp_path, reference=str(tmp_path / reference))
  assert message in found


def test_two_references_of_one_name_are_refused(runs, tmp_path):
  _image(tmp_path / "a.png", 12, 12, 3)
  for suffix in ("png", "bmp"):
    _image(tmp_path / "clean" / f"a.{suffix}", 12, 12, 3)
  message = _refused(runs, tmp_path, reference=str(tmp_path / "clean"))
  assert message.startswith(f"{tmp_path / 'clean' / 'a.png'}: has the name of")
  assert "a.bmp; pairs are found by name: rename or remove one" in message


def test_an_image_too_small_for_ssim_cannot_be_compared(runs, tmp_path):
  _image(tmp_path / "a.png", 5, 5, 3)
  _image(tmp_path / "clean.png", 5, 5, 3)
  message = _refused(runs, tmp_path, reference=str(tmp_path / "clean.png"))
  assert message.startswith("a.png: cannot be compared (")
  assert message.endswith("leave out --reference")


def test_one_reference_for_a_folder_is_refused(runs, tmp_path):
  for name in ("a.png", "b.png"):
    _image(tmp_path / "in" / name, 12, 12, 3)
  _image(tmp_path / "clean.png", 12, 12, 3)
  message = _refused(
    runs,
    tmp_path,
    source=tmp_path / "in",
    reference=str(tmp_path / "clean.png"),
  )
  assert "clean.png: must be a folder of clean images" in message


def test_a_network_of_nan_writes_nothing(runs, tmp_path, monkeypatch):
  _image(tmp_path / "a.png", 5, 5, 3)
  monkeypatch.setattr(
    Restorer, "__call__", lambda self, images, **_: images * np.nan
  )
  assert "a.png: the network returned NaN" in _refused(runs, tmp_path)


def test_a_disk_that_fills_up_leaves_no_partial_file(
  runs, tmp_path, monkeypatch
):
  _image(tmp_path / "a.png", 5, 5, 3)

  def full(self: pathlib.Path, data: bytes) -> None:
    with open(self, "wb") as file:
      file.write(data[:10])
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "write_bytes", full)
  message = _refused(runs, tmp_path, output=tmp_path / "b.png")
  assert "b.png: cannot be written (No space left on device)" in message
