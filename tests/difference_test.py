"""Two evaluations compared: numbers, what is said of them, what is refused."""

import csv
import re

import numpy as np
import pytest
from PIL import Image

from configs import base
from semanir_jax.evaluation.reports import Report
from studies import difference
from tests.evaluation_cases import PROTOCOL

_NETWORK = {
  "network": "ours, step 5",
  "num_keys": 8,
  "window_size": 4,
  "self_ensemble": False,
  "max_images": 0,
}
_BEFORE = {"a": (30.0, 0.80), "b": (31.0, 0.85), "c": (28.0, 0.70)}
# A gain, a loss, and neither.
_AFTER = {"a": (30.5, 0.82), "b": (30.25, 0.84), "c": (28.0, 0.70)}


def _evaluate(
  workdir,
  scores,
  *,
  sets=("ours",),
  sigma=25.0,
  input_psnr=20.0,
  num_images=None,
  baseline=False,
  **protocol,
):
  """Leaves what eval.py would, of PSNR and SSIM by name; returns its folder."""
  known = {name: base.test_set(name, base.noise(sigma)) for name in sets}
  facts = PROTOCOL | ({} if baseline else _NETWORK) | protocol
  report = Report(workdir / "eval", facts, known, baseline=baseline)
  for name in sets:
    rows = [
      {"name": image, "input_psnr": input_psnr, "input_ssim": 0.4}
      | {"psnr": psnr, "ssim": ssim}
      for image, (psnr, ssim) in scores.items()
    ]
    report.add_set(name, rows, num_images=num_images or len(rows))
  if sets:  # else it was broken off before the first one
    report.finish()
  return workdir


def _table(text):
  lines = [line for line in text.splitlines() if line.startswith("| ")]
  titles, *rows = ([cell.strip() for cell in x.split("|")[1:-1]] for x in lines)
  return [dict(zip(titles, row, strict=True)) for row in rows[1:]]


def test_the_differences_are_those_of_the_images(tmp_path):
  before = _evaluate(tmp_path / "a", _BEFORE, num_images=5)
  after = _evaluate(tmp_path / "b", _AFTER, num_images=5)
  text = difference.study(before, after, tmp_path / "new" / "out")
  gains = np.array([_AFTER[name][0] - _BEFORE[name][0] for name in "abc"])
  error = np.std(gains, ddof=1) / np.sqrt(3)
  psnr, ssim = _table(text)
  assert psnr["set"] == "ours" and psnr["images"] == "3 of 5"
  assert psnr["before"] == "29.67" and psnr["after"] == "29.58"
  assert psnr["difference"] == f"{gains.mean():+.3f} ± {error:.3f}"
  assert psnr["after is better on"] == "1 of 3, 1 equal"
  assert psnr["largest loss"] == "-0.750 (b)"
  assert psnr["largest gain"] == "+0.500 (a)"
  assert ssim["metric"] == "SSIM" and ssim["after"] == "0.7867"
  assert ssim["difference"].startswith("+0.00333 ± ")
  assert ssim["largest loss"] == "-0.01000 (b)"

  output = tmp_path / "new" / "out"
  assert (output / "difference.md").read_text() == text
  with open(output / "difference.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  assert [(row["set"], row["name"]) for row in rows] == [
    ("ours", name) for name in "abc"
  ]
  for row, gain in zip(rows, gains, strict=True):
    assert (float(row["before"]), float(row["ssim_before"])) == _BEFORE[
      row["name"]
    ]
    assert float(row["after"]) == _AFTER[row["name"]][0]
    assert float(row["difference"]) == gain
  with Image.open(output / "difference.png") as picture:
    picture.load()
    assert min(picture.size) > 200
  names = {path.name for path in output.iterdir()}
  assert names == {"difference.md", "difference.csv", "difference.png"}


def test_what_is_compared_is_said(tmp_path):
  before = _evaluate(tmp_path / "a", _BEFORE, sets=("ours", "more"))
  changes = {"network": "theirs", "num_keys": 2, "self_ensemble": True}
  after = _evaluate(tmp_path / "b", _AFTER, sets=("ours", "new"), **changes)
  text = difference.study(before, after)
  assert (
    f"- before: {before}: restored; ours, step 5; k = 8, window 4; " in text
  )
  assert (
    f"- after: {after}: restored; theirs; k = 2, window 4, self-ensemble of 8; "
    in text
  )
  assert "crop 0 px; SSIM valid" in text and "sigma_255 [25.0, 25.0]" in text
  assert {row["set"] for row in _table(text)} == {"ours"}
  assert f"- left out, only {before}/eval/results.json has: more\n" in text
  assert f"- left out, only {after}/eval/results.json has: new\n" in text


def test_degraded_inputs_can_be_what_was_before(tmp_path):
  inputs = dict.fromkeys("abc", (20.0, 0.4))
  before = _evaluate(tmp_path / "a", inputs, baseline=True)
  text = difference.study(before, _evaluate(tmp_path / "b", _AFTER))
  assert f"- before: {before}: degraded input; cpu, jax " in text
  psnr, _ = _table(text)
  assert psnr["largest loss"] == "-" and psnr["largest gain"] == "+10.500 (a)"


def test_images_meet_by_name_and_one_may_be_called_mean(tmp_path):
  before = {"mean": (30.0, 0.8), "a": (20.0, 0.5)}
  after = {"a": (20.0, 0.5), "mean": (31.0, 0.8)}
  text = difference.study(
    _evaluate(tmp_path / "a", before), _evaluate(tmp_path / "b", after)
  )
  psnr, _ = _table(text)
  assert psnr["images"] == "2" and psnr["before"] == "25.00"
  assert psnr["largest gain"] == "+1.000 (mean)" and psnr["largest loss"] == "-"


def test_one_image_has_no_standard_error_and_perfect_ones_no_difference(
  tmp_path,
):
  perfect = {"a": (np.inf, 1.0)}
  before = _evaluate(tmp_path / "a", perfect)
  after = _evaluate(tmp_path / "b", perfect)
  psnr, _ = _table(difference.study(before, after))
  assert psnr["difference"] == "+0.000"
  assert psnr["after is better on"] == "0 of 1, 1 equal"
  lost = _evaluate(tmp_path / "c", {"a": (40.0, 0.9)})
  psnr, _ = _table(difference.study(before, lost, tmp_path / "out"))
  assert psnr["difference"] == "-inf" and psnr["largest loss"] == "-inf (a)"
  assert psnr["largest gain"] == "-"


def _refused(before, after, *words):
  """Whether the one line of the refusal says all of `words`."""
  with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
    difference.study(before, after)
  for word in (*words, "eval"):
    assert str(word) in str(caught.value)


def test_a_folder_without_results_is_refused(tmp_path):
  there = _evaluate(tmp_path / "a", _BEFORE)
  absent = tmp_path / "b" / "eval" / "results.json"
  _refused(there, tmp_path / "b", f"{absent}: no results there", "--workdir")
  _refused(there / "eval" / "ours.csv", there, "no results there", "--workdir")
  damaged = _evaluate(tmp_path / "c", _BEFORE)
  (damaged / "eval" / "results.json").write_text("[]")
  _refused(damaged, there, f"{damaged}/eval/results.json: is damaged")


@pytest.mark.parametrize("text", [None, "", "name,psnr\na,30\nmean,30\n"])
def test_a_set_without_its_images_is_refused(tmp_path, text):
  before = _evaluate(tmp_path / "a", _BEFORE)
  after = _evaluate(tmp_path / "b", _AFTER)
  path = after / "eval" / "ours.csv"
  path.unlink()
  if text is not None:
    path.write_text(text)
  _refused(before, after, f"{path}: is missing or damaged; run eval.py again")


def test_a_file_that_was_cut_is_refused(tmp_path):
  before = _evaluate(tmp_path / "a", _BEFORE)
  path = _evaluate(tmp_path / "b", _AFTER) / "eval" / "ours.csv"
  path.write_text("".join(path.read_text().splitlines(True)[:-1]))
  _refused(before, tmp_path / "b", f"{path}: is missing or damaged")


def test_other_protocols_are_refused_by_field(tmp_path):
  before = _evaluate(tmp_path / "a", _BEFORE)
  other = _evaluate(tmp_path / "b", _AFTER, crop_px=4, channel="y")
  _refused(
    before,
    other,
    "are of different protocols: channel is rgb and y; crop_px is 0 and 4;",
    f"{before}/eval/results.json and {other}/eval/results.json",
  )
  noisier = _evaluate(tmp_path / "c", _AFTER, sigma=50.0)
  _refused(
    before, noisier, "different protocols: ours.degradation is {", "50.0"
  )


def test_what_only_adds_columns_or_bounds_images_may_differ(tmp_path):
  before = _evaluate(tmp_path / "a", _BEFORE)
  after = _evaluate(tmp_path / "b", _AFTER, max_images=3, also=("psnr_y",))
  assert _table(difference.study(before, after))[0]["images"] == "3"


def test_evaluations_without_a_common_set_are_refused(tmp_path):
  before = _evaluate(tmp_path / "a", _BEFORE)
  other = _evaluate(tmp_path / "b", _AFTER, sets=("theirs",))
  broken_off = _evaluate(tmp_path / "c", _AFTER, sets=())
  _refused(before, other, "no common test set: ", "has ours; ", "has theirs;")
  _refused(before, broken_off, "no common test set: ", "has none;")


def test_other_images_are_refused_by_name(tmp_path):
  more = _BEFORE | {name: (30.0, 0.8) for name in "vwxyz"}
  before, after = _evaluate(tmp_path / "a", more), tmp_path / "b"
  _evaluate(after, _BEFORE)
  words = f"{after}/eval/ours.csv: lacks v, w, x and 2 more of {before}"
  _refused(before, after, words, "max_images")
  _refused(after, before, words, "max_images")


def test_other_inputs_are_refused(tmp_path):
  before = _evaluate(tmp_path / "a", _BEFORE)
  after = _evaluate(tmp_path / "b", _AFTER, input_psnr=20.01)
  _refused(
    before,
    after,
    f"{after}/eval/ours.csv: a has input PSNR 20.010000, and 20.000000 in"
    f" {before}/eval/ours.csv",
    "another degradation",
  )
