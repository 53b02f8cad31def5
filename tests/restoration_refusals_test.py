"""Bad input to `restore.py`: one line each, and nothing written."""

import pathlib

import numpy as np
import pytest

from semanir_jax.images.image_file import read_image
from semanir_jax.inference.restorer import Restorer
from semanir_jax.networks.build import CheckpointError
from semanir_jax.restoration.restore import restore_files
from tests import restoration_cases as cases

pytestmark = pytest.mark.slow


def test_a_missing_input_is_refused(runs, tmp_path):
  message = cases.refused(runs, tmp_path)
  assert message == (
    f"{tmp_path / 'a.png'}: no such file or folder; check --input"
  )


def test_a_corrupt_input_is_refused(runs, tmp_path):
  cases.write_random(tmp_path / "whole.png", 9, 9, 3)
  half = (tmp_path / "whole.png").read_bytes()[:150]
  (tmp_path / "a.png").write_bytes(half)
  assert cases.refused(runs, tmp_path).startswith(f"{tmp_path / 'a.png'}: ")


def test_a_folder_without_images_is_refused(runs, tmp_path):
  message = cases.refused(runs, tmp_path, source=tmp_path)
  assert message.startswith(f"{tmp_path}: holds no image")


def test_a_colour_image_is_refused_by_a_gray_network(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  message = cases.refused(runs, tmp_path, run="gray")
  assert message == (
    f"{tmp_path / 'a.png'}: is a colour image, but the network is of gray"
    " images; convert it to gray first, or use the checkpoint of a colour"
    " network, as --checkpoint=denoise_files_light"
  )


@pytest.mark.parametrize("num_keys", [0, 17])
def test_k_that_does_not_fit_is_refused(runs, tmp_path, num_keys):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  message = cases.refused(runs, tmp_path, num_keys=num_keys)
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
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  assert message in cases.refused(runs, tmp_path, **options)


def test_a_missing_checkpoint_is_refused(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  runs = {"color": str(tmp_path / "nowhere")}
  assert "no checkpoint in" in cases.refused(runs, tmp_path)


@pytest.mark.parametrize("name", ["", "a.png"])
def test_what_is_no_checkpoint_is_refused(runs, tmp_path, monkeypatch, name):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  monkeypatch.chdir(tmp_path)
  message = cases.refused({"color": name}, tmp_path)
  assert message.startswith(
    f"{name!r} is no network; give a *.safetensors file"
  )


def test_an_output_below_a_file_is_refused(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  (tmp_path / "file").touch()
  message = cases.refused(runs, tmp_path, output=tmp_path / "file" / "out")
  assert "file is no writable folder); choose another --output" in message


@pytest.mark.parametrize("output", ["", "./../in/.", "../in/a.png"])
def test_overwriting_the_input_is_refused(runs, tmp_path, output, monkeypatch):
  folder = tmp_path / "in"
  cases.write_random(folder / "a.png", 5, 5, 3)
  monkeypatch.chdir(folder)
  message = cases.refused(
    runs, tmp_path, source="a.png", output=output or str(folder)
  )
  assert f"{folder / 'a.png'}: an input would be overwritten" in message


def test_a_folder_may_be_named_as_an_image(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  output = tmp_path / "out.png"
  output.mkdir()
  restore_files(runs["color"], str(tmp_path / "a.png"), str(output))
  assert cases.files(output) == ["a.png"]


def test_a_folder_in_the_place_of_a_result_is_no_result(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  (tmp_path / "out" / "a.png").mkdir(parents=True)
  message = cases.refused(runs, tmp_path, output=tmp_path / "out")
  assert "a.png: cannot be written (Is a directory)" in message


@pytest.mark.parametrize("suffix", [".gif", ".PDF", ".jp2"])
def test_a_format_that_is_not_written_is_refused(runs, tmp_path, suffix):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  message = cases.refused(runs, tmp_path, output=tmp_path / f"b{suffix}")
  assert f"b{suffix}: {suffix.lower()} is not written; use one of" in message


@pytest.mark.parametrize("option", ["source", "output", "reference"])
def test_an_empty_path_is_no_folder(runs, tmp_path, monkeypatch, option):
  cases.write_random(tmp_path / "a.png", 12, 12, 3)
  monkeypatch.chdir(tmp_path)
  message = cases.refused(runs, tmp_path, **{option: ""})
  name = option.replace("source", "input")
  assert message == f"--{name} is empty; give a file or folder"


def test_overwriting_through_a_link_is_refused(runs, tmp_path):
  cases.write_random(tmp_path / "in" / "a.png", 5, 5, 3)
  (tmp_path / "link").symlink_to(tmp_path / "in")
  message = cases.refused(
    runs, tmp_path, source=tmp_path / "in", output=tmp_path / "link"
  )
  assert "an input would be overwritten" in message


def test_overwriting_the_references_is_refused(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  cases.write_random(tmp_path / "clean" / "a.png", 5, 5, 3)
  message = cases.refused(
    runs,
    tmp_path,
    output=tmp_path / "clean",
    reference=str(tmp_path / "clean"),
  )
  assert "an input would be overwritten" in message


def test_inputs_of_one_name_are_refused(runs, tmp_path):
  for name in ("a.png", "a.jpg", "sub/b.jpg", "sub/b.png", "c.jpg"):
    cases.write_random(tmp_path / "in" / name, 5, 5, 3)
  message = cases.refused(runs, tmp_path, source=tmp_path / "in")
  assert message.startswith(
    f"{tmp_path / 'out' / 'deep' / 'a.png'}: two results would be written"
    " there, of a.jpg and a.png (1 more such); rename inputs, or"
  )


def test_a_comparison_in_the_place_of_a_result_is_refused(runs, tmp_path):
  for folder in ("in", "clean"):
    for name in ("a.png", "a_comparison.png"):
      cases.write_random(tmp_path / folder / name, 12, 12, 3)
  message = cases.refused(
    runs, tmp_path, source=tmp_path / "in", reference=str(tmp_path / "clean")
  )
  assert "written there, of a.png and a_comparison.png; rename" in message


@pytest.mark.parametrize("name", ["a.png", "a_comparison.png"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_beside_the_input_is_not_taken_for_a_result(
  runs, tmp_path, name, overwrite
):
  cases.write_random(tmp_path / "a.jpg", 12, 12, 3)
  cases.write_random(tmp_path / "clean.png", 12, 12, 3)
  mine = cases.write_random(tmp_path / name, 12, 12, 3)
  message = cases.refused(
    runs,
    tmp_path,
    source=tmp_path / "a.jpg",
    output=tmp_path,
    overwrite=overwrite,
    reference=str(tmp_path / "clean.png"),
  )
  assert message.startswith(f"{tmp_path / name}: is there already, and perhaps")
  np.testing.assert_array_equal(read_image(tmp_path / name), mine)


def test_a_file_beside_an_input_of_a_pattern_is_no_result(runs, tmp_path):
  for name in ("a.jpg", "b.jpg", "b.png"):
    cases.write_random(tmp_path / name, 12, 12, 3)
  message = cases.refused(
    runs, tmp_path, source=tmp_path / "*.jpg", output=tmp_path, overwrite=True
  )
  assert message.endswith(
    "b.png: is there already, and perhaps no result; choose another --output"
  )


def test_a_result_beside_the_input_is_kept_where_it_is_named(
  runs, tmp_path, caplog
):
  caplog.set_level("INFO")
  cases.write_random(tmp_path / "a.jpg", 5, 5, 3)
  kept = cases.write_random(tmp_path / "a.png", 5, 5, 3)
  options = (runs["color"], str(tmp_path / "a.jpg"), str(tmp_path / "a.png"))
  restore_files(*options)
  assert "1 of 1 are restored already and kept" in caplog.text
  np.testing.assert_array_equal(read_image(tmp_path / "a.png"), kept)
  with pytest.raises(CheckpointError, match="no checkpoint in denoise_tiny"):
    restore_files("denoise_tiny", *options[1:])
  restore_files(*options, overwrite=True)
  assert not np.array_equal(read_image(tmp_path / "a.png"), kept)


@pytest.mark.parametrize(
  ("reference", "message"),
  [
    ("missing.png", "missing.png: No such file; check --reference"),
    ("small.png", "small.png: is 4x6, the result 12x12; give the clean image"),
    ("clean", "clean: holds no clean image of the name of a.png (1 missing)"),
  ],
)
def test_a_reference_that_does_not_fit_is_refused(
  runs, tmp_path, reference, message
):
  cases.write_random(tmp_path / "a.png", 12, 12, 3)
  cases.write_random(tmp_path / "small.png", 4, 6, 3)
  cases.write_random(tmp_path / "clean" / "b.png", 12, 12, 3)
  found = cases.refused(runs, tmp_path, reference=str(tmp_path / reference))
  assert message in found


@pytest.mark.parametrize(
  ("run", "sides", "result"), [("color", (13, 12), 12), ("x2", (24, 26), 24)]
)
def test_a_reference_is_cut_by_less_than_the_scale(
  runs, tmp_path, run, sides, result
):
  cases.write_random(tmp_path / "a.png", 12, 12, 3)
  cases.write_random(tmp_path / "clean.png", *sides, 3)
  message = cases.refused(
    runs, tmp_path, run=run, reference=str(tmp_path / "clean.png")
  )
  sizes = f"is {sides[0]}x{sides[1]}, the result {result}x{result}; give"
  assert sizes in message


def test_two_references_of_one_name_are_refused(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 12, 12, 3)
  for suffix in ("png", "bmp"):
    cases.write_random(tmp_path / "clean" / f"a.{suffix}", 12, 12, 3)
  message = cases.refused(runs, tmp_path, reference=str(tmp_path / "clean"))
  assert message.startswith(f"{tmp_path / 'clean' / 'a.png'}: has the name of")
  assert "a.bmp; pairs are found by name: rename or remove one" in message


def test_an_image_too_small_for_ssim_cannot_be_compared(runs, tmp_path):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  cases.write_random(tmp_path / "clean.png", 5, 5, 3)
  message = cases.refused(runs, tmp_path, reference=str(tmp_path / "clean.png"))
  assert message.startswith("a.png: cannot be compared (")
  assert message.endswith("leave out --reference")


def test_one_reference_for_a_folder_is_refused(runs, tmp_path):
  for name in ("a.png", "b.png"):
    cases.write_random(tmp_path / "in" / name, 12, 12, 3)
  cases.write_random(tmp_path / "clean.png", 12, 12, 3)
  message = cases.refused(
    runs,
    tmp_path,
    source=tmp_path / "in",
    reference=str(tmp_path / "clean.png"),
  )
  assert "clean.png: must be a folder of clean images" in message


def test_a_network_of_nan_writes_nothing(runs, tmp_path, monkeypatch):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  monkeypatch.setattr(
    Restorer, "__call__", lambda self, images, **_: images * np.nan
  )
  assert "a.png: the network returned NaN" in cases.refused(runs, tmp_path)


def test_a_disk_that_fills_up_leaves_no_partial_file(
  runs, tmp_path, monkeypatch
):
  cases.write_random(tmp_path / "a.png", 5, 5, 3)

  def full(self: pathlib.Path, data: bytes) -> None:
    with open(self, "wb") as file:
      file.write(data[:10])
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "write_bytes", full)
  message = cases.refused(runs, tmp_path, output=tmp_path / "b.png")
  assert "b.png: cannot be written (No space left on device)" in message
