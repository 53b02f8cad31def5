"""Tables and pictures of an evaluation: what is written, and what is kept."""

import csv
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from configs import base
from semanir_jax.evaluation import panels
from semanir_jax.evaluation.loop import evaluate_set
from semanir_jax.evaluation.reports import Report
from semanir_jax.images.image_file import ImageError, read_image
from tests.evaluation_cases import PROTOCOL, random_example


def test_panels_stand_side_by_side_under_their_captions():
  a = np.full((20, 30, 3), 200, np.uint8)
  b = np.full((20, 30, 1), 50, np.uint8)
  picture = panels.side_by_side([("left", a), ("right", b)])
  assert picture.shape == (46, 66, 3) and picture.dtype == np.uint8
  assert (picture[26:, :30] == 200).all() and (picture[26:, 36:] == 50).all()
  assert (picture[26:, 30:36] == 255).all()
  assert (picture[:26, :30] < 100).any()  # the caption's ink
  with pytest.raises(ValueError, match="panels of different sizes"):
    panels.side_by_side([("left", a), ("right", b[:10])])


# Of any number of images.
OURS = {"ours": base.test_set("ours", base.noise(25.0))}


def _report(output: pathlib.Path, **changes: Any) -> Report:
  protocol = PROTOCOL | {"num_keys": 8, "window_size": 4}
  protocol |= {"self_ensemble": False, "network": "ours, step 5"}
  options = {"num_images": 2, "published": 30.5} | changes.pop("options", {})
  sets = {"ours": base.test_set("ours", base.noise(25.0), **options)}
  report = Report(output, protocol, sets, **{"baseline": False} | changes)
  examples = [random_example(name, 16, 16, 3, seed=ord(name)) for name in "ab"]
  restore = None if changes else lambda x: x
  results = evaluate_set(restore, examples, PROTOCOL, batch_size=1)
  rows = []
  for result in results:
    rows.append(result.row)
    report.write_pictures("ours", result)
  report.add_set("ours", rows, num_images=2)
  report.finish()
  return report


def test_a_report_holds_images_means_and_protocol(tmp_path):
  report = _report(tmp_path / "eval")
  with open(tmp_path / "eval" / "ours.csv") as file:
    a, b, mean = csv.DictReader(file)
  assert [row["name"] for row in (a, b, mean)] == ["a", "b", "mean"]
  for key in ("psnr", "ssim", "input_psnr", "input_ssim"):
    average = (float(a[key]) + float(b[key])) / 2
    assert float(mean[key]) == pytest.approx(average)
  document = json.loads((tmp_path / "eval" / "results.json").read_text())
  assert document["ours"]["psnr"] == pytest.approx(float(mean["psnr"]))
  assert document["ours"]["images"] == 2
  assert document["ours"]["published"] == 30.5
  assert document["protocol"]["num_keys"] == 8
  markdown = (tmp_path / "eval" / "results.md").read_text()
  assert report.protocol_line() in markdown
  assert report.protocol_line().startswith(
    "protocol: restored, 8 bits; PSNR in dB on all channels, crop 0 px; SSIM"
    " valid; ours, step 5; k = 8, window 4; mean of per-image values; cpu, jax "
  )
  assert f"{float(mean['psnr']):.2f}" in markdown and "30.50" in markdown
  for view in ("input", "restored", "target"):
    picture = read_image(tmp_path / "eval" / "ours" / view / "a.png")
    assert picture.shape == (16, 16, 3)
  picture = read_image(tmp_path / "eval" / "ours" / "comparison" / "b.png")
  assert picture.shape == (16 + 26, 3 * 16 + 12, 3)


def test_the_results_of_another_evaluation_are_kept(tmp_path, warnings):
  _report(tmp_path)
  names = ("results.json", "ours.csv", "ours/comparison/a.png")
  first = [(tmp_path / name).read_bytes() for name in names]
  _report(tmp_path)  # the same again
  assert not warnings and not (tmp_path / "results_1.json").exists()
  _report(tmp_path, baseline=True)
  kept = ("results_1.json", "ours_1.csv", "ours_1/comparison/a.png")
  assert [(tmp_path / name).read_bytes() for name in kept] == first
  assert "ours, step 5" in (tmp_path / "results_1.md").read_text()
  assert not (tmp_path / "ours" / "restored").exists()
  (tmp_path / "results.json").write_text("damaged")
  (tmp_path / "results_1.json").unlink()  # the others of that number stay
  _report(tmp_path)
  assert (tmp_path / "results_2.json").read_text() == "damaged"
  assert (tmp_path / "results.json").read_bytes() == first[0]
  assert len(warnings) == 2


def test_the_results_of_a_broken_off_evaluation_are_kept(tmp_path, warnings):
  rows = [{"name": "a", "psnr": 30.0, "ssim": 1.0}]
  sets = OURS | {"theirs": OURS["ours"]}
  broken_off = Report(tmp_path, PROTOCOL, sets, baseline=True)
  broken_off.add_set("ours", rows, num_images=1)
  broken_off.add_unfinished("theirs", rows)
  document = json.loads((tmp_path / "results.json").read_text())
  assert document["ours"]["psnr"] == 30.0 and "theirs" not in document
  _report(tmp_path)
  names = {path.name for path in tmp_path.iterdir()}
  assert {"ours_1.csv", "theirs_1_unfinished.csv", "results_1.json"} <= names
  assert "theirs_unfinished.csv" not in names


def test_what_was_measured_of_an_unfinished_set_is_written(tmp_path, caplog):
  report = Report(tmp_path, PROTOCOL, OURS, baseline=True)
  rows = [{"name": name, "psnr": 30.0, "ssim": 1.0} for name in "ab"]
  report.add_unfinished("ours", [])
  assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
  report.add_unfinished("ours", rows)
  assert (tmp_path / "ours_unfinished.csv").read_text().startswith("name,psnr")
  assert "ours: 2 images were measured, see " in caplog.text
  report.add_set("ours", rows, num_images=2)
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == ["ours.csv", "results.json"]


def test_a_set_of_any_images_stands_beside_no_published_figure(tmp_path):
  _report(tmp_path, baseline=True, options={"num_images": 0})
  document = json.loads((tmp_path / "results.json").read_text())
  assert "published" not in document["ours"]
  assert "30.50" not in (tmp_path / "results.md").read_text()


def test_identical_images_leave_the_json_strict(tmp_path):
  report = Report(tmp_path, PROTOCOL, OURS, baseline=True)
  row = {"name": "a", "psnr": float("inf"), "ssim": 1.0}
  report.add_set("ours", [row], num_images=1)
  report.finish()

  def refuse(word):
    raise AssertionError(f"{word} is not JSON")

  text = (tmp_path / "results.json").read_text()
  document = json.loads(text, parse_constant=refuse)
  assert document["ours"]["psnr"] is None and document["ours"]["ssim"] == 1.0
  assert "| inf |" in (tmp_path / "results.md").read_text()


def test_a_part_of_a_set_never_looks_like_the_whole(tmp_path):
  report = Report(tmp_path, PROTOCOL, OURS, baseline=True)
  row = {"name": "a", "psnr": 30.0, "ssim": 1.0}
  report.add_set("ours", [row], num_images=2)
  report.finish()
  assert "| ours | 1 of 2 | 30.00 |" in (tmp_path / "results.md").read_text()
  document = json.loads((tmp_path / "results.json").read_text())
  assert document["ours"]["images_of_set"] == 2


def test_names_that_are_no_paths_and_no_text_are_written(tmp_path):
  report = Report(tmp_path, PROTOCOL, OURS, baseline=True)
  example = random_example("tfds:div2k/bicubic_x2:train[0]", 16, 16, 3)
  (result,) = evaluate_set(None, [example], PROTOCOL, batch_size=1)
  report.write_pictures("ours", result)
  (picture,) = (tmp_path / "ours" / "comparison").iterdir()
  assert picture.name == "tfds:div2k-bicubic_x2:train[0].png"
  row = result.row | {"name": "caf\udce9"}  # of a file named in Latin-1
  report.add_set("ours", [row], num_images=1)
  report.finish()
  assert "caf\\udce9," in (tmp_path / "ours.csv").read_text()


def test_the_report_of_a_baseline_names_no_network(tmp_path):
  report = _report(tmp_path, baseline=True)
  assert "degraded input" in report.protocol_line()
  assert "window" not in report.protocol_line()
  assert not (tmp_path / "ours" / "restored").exists()


def test_a_report_below_a_file_is_refused(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(ImageError, match="cannot be used .*another folder"):
    Report(tmp_path / "file" / "eval", PROTOCOL, OURS, baseline=True)
