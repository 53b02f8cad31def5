"""Whole benchmarks: the published baselines, and the files they end in."""

import csv
import importlib
import json

import numpy as np
import pytest
from PIL import Image

from configs import base
from semanir_jax.evaluation import evaluate, loop, measures, metrics, test_sets
from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine import sharding
from tests import small
from tests.evaluation_cases import PROTOCOL

pytestmark = pytest.mark.slow

# protocols.md sections 2 and 3; figures without a digit there are the
# "Matlab" row of the demosaicking table.
ANCHORS = [
  ("sr", "x2", "set5", {"psnr": 33.678, "ssim": 0.9304}),
  ("sr", "x3", "set5", {"psnr": 30.404, "ssim": 0.8690}),
  ("sr", "x4", "set5", {"psnr": 28.431, "ssim": 0.8113}),
  ("sr", "x2", "set5", {"psnr_y_rounded": 33.645}),
  ("sr", "x4", "set5", {"ssim_zero_pad_y_rounded": 0.8171}),
  ("sr", "x2,lr_files", "set5", {"psnr": 33.678, "ssim": 0.9304}),
  ("sr", "x3,lr_files", "set5", {"psnr": 30.404, "ssim": 0.8690}),
  ("sr", "x4,lr_files", "set5", {"psnr": 28.431, "ssim": 0.8113}),
  (
    "jpeg",
    "gray,q10",
    "classic5",
    {"psnr": 27.8211, "ssim": 0.7595, "psnr_b": 25.2090},
  ),
  (
    "jpeg",
    "gray,q40",
    "classic5",
    {"psnr": 32.4284, "ssim": 0.8849, "psnr_b": 29.9213},
  ),
  (
    "jpeg",
    "gray,q10",
    "live1",
    {"psnr": 27.7698, "ssim": 0.7730, "psnr_b": 25.3293},
  ),
  (
    "jpeg",
    "color,q10",
    "live1",
    {"psnr": 25.6925, "ssim": 0.7433, "psnr_b": 23.7550},
  ),
  ("denoise", "gray,s25", "set12", {"psnr": 20.3688}),
  ("denoise", "color,s25", "mcmaster", {"psnr": 20.8903}),
  ("denoise", "color,s25", "kodak24", {"psnr": 20.438}),
  ("demosaic", "", "mcmaster", {"psnr": 34.4254}),
  ("demosaic", "", "kodak24", {"psnr": 35.7765}),
]


def _evaluate_inputs(config, data_dir, output):
  evaluate.evaluate(
    config,
    checkpoint_path=None,
    data_dir=str(data_dir),
    output=output,
    num_keys=None,
  )


@pytest.fixture(scope="module")
def baseline(shared_data, tmp_path_factory):
  """Runs `eval.py --baseline` for one set of a config, once."""
  done = {}

  def run(name, arg, *sets):
    key = (name, arg, *sets)
    if key not in done:
      config = importlib.import_module(f"configs.{name}").get_config(arg)
      config = config.unlock().eval
      config.sets = {name: config.sets[name] for name in sets}
      output = tmp_path_factory.mktemp("eval")
      _evaluate_inputs(config, shared_data, output)
      done[key] = output
    return done[key]

  return run


@pytest.mark.parametrize("name, arg, set_name, expected", ANCHORS)
def test_baselines_are_the_published_ones(
  name, arg, set_name, expected, baseline
):
  text = (baseline(name, arg, set_name) / "results.json").read_text()
  found = json.loads(text)[set_name]
  for key, value in expected.items():
    digits = len(str(value).partition(".")[2])
    assert found[key] == pytest.approx(value, abs=0.51 * 10**-digits), key


def test_results_are_written_with_their_protocol(baseline):
  output = baseline("sr", "x4", "set5")
  results = json.loads((output / "results.json").read_text())
  assert set(results) == {"set5", "protocol"}
  assert results["set5"]["images"] == 5
  assert results["set5"]["published"] == 33.02
  protocol = results["protocol"]
  assert (protocol["channel"], protocol["crop_px"]) == ("y", 4)
  assert protocol["ssim"] == "valid"
  assert protocol["sets"]["set5"]["degradation"]["name"] == "bicubic"
  with open(output / "set5.csv") as file:
    rows = list(csv.DictReader(file))
  names = ["baby", "bird", "butterfly", "head", "woman", "mean"]
  assert [row["name"] for row in rows] == names
  mean = np.mean([float(row["psnr"]) for row in rows[:-1]])
  assert mean == pytest.approx(results["set5"]["psnr"], abs=1e-12)


def test_means_stand_beside_the_published_figures(baseline):
  lines = (baseline("sr", "x4", "set5") / "results.md").read_text().splitlines()
  assert lines[0].startswith(
    "protocol: degraded input, 8 bits; PSNR in dB on BT.601 Y (not rounded),"
    " crop 4 px; SSIM valid; mean of per-image values; "
  )
  assert lines[2] == (
    "| set | images | PSNR | SemanIR's published PSNR | SSIM |"
    " PSNR (y_rounded) | SSIM (zero_pad_y_rounded) |"
  )
  assert lines[4] == "| set5 | 5 | 28.43 | 33.02 | 0.8113 | 28.42 | 0.8171 |"
  assert "set5/hr: bicubic, rounding per_pass, scale 4" in lines


def test_pictures_stand_side_by_side(baseline):
  output = baseline("sr", "x4", "set5")
  views = sorted(path.name for path in (output / "set5").iterdir())
  assert views == ["comparison", "input", "target"]
  with (
    Image.open(output / "set5/comparison/baby.png") as both,
    Image.open(output / "set5/target/baby.png") as target,
  ):
    assert both.width > 2 * target.width
    assert both.height > target.height


# Of docs/protocols.md, and the input's range in the MANIFEST of the samples.
@pytest.mark.parametrize(
  ("name", "set_name", "samples", "expected", "low", "high"),
  [
    ("deblur", "gopro", "gopro_samples", (24.140, 0.8384), 22.87, 25.11),
    ("weather", "test1", "outdoor_rain_samples", None, 10.02, 16.95),
  ],
)
def test_pairs_that_are_at_hand_have_known_figures(
  name, set_name, samples, expected, low, high, shared_data, tmp_path
):
  config = importlib.import_module(f"configs.{name}").get_config().eval.unlock()
  config.sets = {set_name: config.sets[set_name]}
  config.sets[set_name].update({"source": samples, "num_images": 0})
  _evaluate_inputs(config, shared_data, tmp_path)
  with open(tmp_path / f"{set_name}.csv") as file:
    *rows, mean = csv.DictReader(file)
  values = [float(row.get("psnr_rgb", row["psnr"])) for row in rows]
  assert len(values) == 4
  assert (round(min(values), 2), round(max(values), 2)) == (low, high)
  if expected:
    assert round(float(mean["psnr"]), 3) == expected[0]
    assert round(float(mean["ssim"]), 4) == expected[1]


def test_published_ssim_and_part_of_a_set_are_shown(shared_data, tmp_path):
  config = importlib.import_module("configs.deblur").get_config().unlock().eval
  config.sets.gopro.source = "gopro_samples"
  config.sets.gopro.num_images = 4
  config.max_images = 1
  _evaluate_inputs(config, shared_data, tmp_path)
  lines = (tmp_path / "results.md").read_text().splitlines()
  assert lines[2] == (
    "| set | images | PSNR | SemanIR's published PSNR | SSIM |"
    " SemanIR's published SSIM |"
  )
  assert lines[4].startswith("| gopro | 1 of 4 | ")
  assert " | 33.44 | " in lines[4] and lines[4].endswith(" | 0.9640 |")
  assert len(lines[4].split("|")) == 8


@pytest.mark.parametrize("checkpoint_path", [None, "not looked for"])
def test_no_set_at_all_is_an_error(tmp_path, checkpoint_path):
  config = importlib.import_module("configs.sr").get_config().eval
  with pytest.raises(ValueError, match="none of the test sets.*--data_dir"):
    evaluate.evaluate(
      config,
      checkpoint_path=checkpoint_path,
      data_dir=str(tmp_path / "nowhere"),
      output=tmp_path,
      num_keys=None,
    )


def test_ragged_batches_on_eight_devices_equal_one_by_one():
  model = small.COLUMNAR.clone(scale=1)
  params = small.params(model)
  rng = np.random.default_rng(0)
  sizes = [(18, 21)] * 4 + [(16, 23)]  # batches of 3, 1 and 1
  images = [
    {"image": rng.integers(0, 256, (*size, 3), np.uint8), "name": str(i)}
    for i, size in enumerate(sizes)
  ]
  test_set = test_sets.TestSet(
    "x", base.test_set("x", base.noise(25.0)), images
  )

  def rows(mesh, batch_size):
    results = loop.evaluate_set(
      Restorer(model, params, mesh=mesh),
      test_sets.examples(test_set, range(len(images))),
      PROTOCOL,
      batch_size=batch_size,
    )
    return [result.row for result in results]

  one_by_one = rows(None, 1)
  mesh = sharding.make_mesh(data=-1, fsdp=1)
  assert mesh.size == 8
  batched = rows(mesh, 3)
  assert [row["name"] for row in batched] == list("01234")
  for a, b in zip(one_by_one, batched, strict=True):
    assert a["psnr"] != a["input_psnr"]  # the network did something
    assert b["psnr"] == pytest.approx(a["psnr"], abs=1e-4)
    assert b["input_psnr"] == a["input_psnr"]


def test_columns_are_measured_as_they_are_named():
  rng = np.random.default_rng(0)
  a, b = rng.integers(0, 256, (2, 24, 24, 3), np.uint8)
  names = ("psnr_y", "ssim_3d", "ssim_zero_pad_y_rounded")
  found = measures.measure(a, b, PROTOCOL | {"also": names})
  assert found["psnr_y"] == metrics.psnr(a, b, channel="y")
  assert found["ssim_3d"] == metrics.ssim(a, b, variant="3d")
  assert found["ssim_zero_pad_y_rounded"] == metrics.ssim(
    a, b, variant="zero_pad", channel="y_rounded"
  )


def test_the_float_column_is_of_what_was_not_rounded():
  clean = np.full((16, 18, 3), 100, np.uint8)
  example = test_sets.Example(
    "a", np.full(clean.shape, 90.3, np.float32) / 255, clean / np.float32(255)
  )
  output = np.full(clean.shape, 100.4, np.float32) / 255
  protocol = PROTOCOL | {"also": ("psnr_float",)}
  row = measures.measure_example(example, output, protocol).row
  for name, error in (("psnr_float", 0.4), ("input_psnr_float", 9.7)):
    expected = 20 * np.log10(255 / error)
    assert row[name] == pytest.approx(expected, abs=1e-3)
  assert row["psnr"] == np.inf
  baseline = measures.measure_example(example, None, protocol).row
  assert baseline["psnr_float"] == row["input_psnr_float"]
  # Of an enlarged input there are 8 bits alone.
  rounded = measures.measure(clean, clean, protocol)
  assert rounded["psnr_float"] == np.inf


@pytest.mark.parametrize(
  "name", ["psnr", "ssim_y", "lpips", "psnr_valid", "psnr_y_rounde"]
)
def test_unknown_column_is_named(name):
  image = np.zeros((16, 16, 3), np.uint8)
  with pytest.raises(ValueError, match=f"unknown column '{name}'"):
    measures.measure(image, image, PROTOCOL | {"also": (name,)})
