"""The networks in pretrained/: whole, described, better than their input."""

import json

import jax
import numpy as np
import pytest

from configs import pretrained
from semanir_jax.evaluation import loop, metrics, reports, test_sets
from semanir_jax.inference.restorer import Restorer
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.networks import load, safetensors_file

pytestmark = pytest.mark.slow

FILES = sorted(load.PRETRAINED.glob(f"*{safetensors_file.SUFFIX}"))
NAMES = [path.stem for path in FILES]
# dB over the input, on the middle of the first photograph; about two thirds of
# what each network gains there.
GAINS = {
  "denoise_color_light": 5.5,
  "denoise_color_tiny": 4.8,
  "denoise_files_light": 5.4,
  "denoise_gray_light": 3.9,
  "jpeg_color_light": 0.8,
  "photo_light": 5.0,
  "demosaic_light": 3.5,
  "sr_x2_light": 0.65,
  "sr_x4_light": 0.45,
}


@pytest.fixture(scope="module", autouse=True)
def optimized():
  """These tests compute more than they compile, unlike others (conftest.py)."""
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", True)


def _results(name):
  """What eval.py wrote about a network."""
  return json.loads((load.PRETRAINED / f"{name}.json").read_text())


def _rows(name, key, changes, data_dir=""):
  """Measures one of the sets that a network was measured on, as it was."""
  network = load.load_network(name)
  protocol = _results(name)["protocol"]
  options = protocol["sets"][key] | changes
  test_set = test_sets.open_test_set("set", options, data_dir)
  count = 1 if changes else len(test_set.source)
  results = loop.evaluate_set(
    Restorer(network.model, network.params),
    test_sets.examples(test_set, range(count)),
    protocol,
    batch_size=1,
  )
  return [result.row for result in results]


def test_every_network_with_a_recipe_is_there_and_has_its_gain_here():
  assert set(NAMES) == set(pretrained.NETWORKS) == set(GAINS)


@pytest.mark.parametrize("name", NAMES)
def test_a_further_training_starts_from_the_file(name):
  config = pretrained.get_config(f"{name},further")
  assert config.init_from == name
  first = pretrained.get_config(name)
  assert config.schedule.peak <= first.schedule.peak
  for field in ("train", "channels", "gray"):
    assert config.data[field] == first.data[field]
  # How its loops are compiled, and how many patches begin a file, may differ.
  models = [c.model.to_dict() | {"unroll": False} for c in (config, first)]
  assert models[0] == models[1]
  tasks = [
    c.data.degradation.to_dict() | {"aligned": 0} for c in (config, first)
  ]
  assert tasks[0] == tasks[1]


def test_they_are_small():
  sizes = [path.stat().st_size for path in FILES]
  assert max(sizes) <= 8e6 and sum(sizes) <= 40e6


@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_how_it_was_trained_and_measured(name):
  card = (load.PRETRAINED / "cards" / f"{name}.md").read_text()
  assert f"configs/pretrained.py:{name}" in card
  assert f"--checkpoint={name}" in card
  assert f"![Input, restored, truth]({name}.jpg)" in card
  results = _results(name)
  assert set(results.pop("protocol")["sets"]) >= set(results) != set()
  for key, values in results.items():
    (row,) = [line for line in card.splitlines() if f"| {key} |" in line]
    for column in ("input_psnr", "psnr"):
      # JSON has no infinity: the input of `clean` is the clean picture.
      value = values[column]
      assert ("inf" if value is None else f"{value:.2f}") in row
    for column in ("input_ssim", "ssim"):
      assert f"{values[column]:.4f}" in row


def test_scores_that_name_a_sum_are_of_the_file_that_is_there():
  sums = {
    name: digest
    for digest, name in map(
      str.split, (load.PRETRAINED / load.SUMS).read_text().splitlines()
    )
  }
  assert set(sums) == {path.name for path in FILES}
  for name in NAMES:
    network = _results(name)["protocol"].get("network", "")
    if "sha256" in network:
      file, _, digest = network.partition(", sha256 ")
      assert sums[file].startswith(digest)


@pytest.mark.parametrize("name", NAMES)
def test_it_improves_a_photograph_it_has_not_seen(name):
  middle = {"source": "photographs:test", "num_images": 0, "sides_px": ()}
  key = next(iter(_results(name)))
  (row,) = _rows(name, key, middle | {"center_crop_px": 128})
  gain = row["psnr"] - row["input_psnr"]
  assert gain > GAINS[name], f"{row['input_psnr']:.2f} + {gain:.2f} dB"


def test_its_tiles_equal_the_whole_image_as_docs_design_says():
  network = load.load_network("jpeg_color_light")
  options = _results("jpeg_color_light")["protocol"]["sets"]["live1_q10"]
  options |= {"source": "photographs:test", "num_images": 0, "sides_px": ()}
  options["center_crop_px"] = 192
  test_set = test_sets.open_test_set("set", options, "")
  (example,) = test_sets.examples(test_set, [0])
  pixels = metrics.to_uint8(example.lq)
  whole, tiled = (
    np.concatenate(list(TiledRestorer(network, tile=tile).bands(pixels)))
    for tile in (192, 128)
  )
  assert 0 < np.abs(tiled - whole).max() < 5 / 255
  assert 10 * np.log10(1 / np.mean((tiled - whole) ** 2)) > 55
  clean = metrics.to_uint8(example.hq)
  score = [metrics.psnr(metrics.to_uint8(x), clean) for x in (whole, tiled)]
  assert abs(score[1] - score[0]) < 0.03


def test_the_score_on_its_card_is_what_we_measure(shared_data):
  # The fastest of the benchmark sets.
  rows = _rows("sr_x4_light", "set5", {}, str(shared_data))
  found, written = reports.mean_row(rows), _results("sr_x4_light")["set5"]
  for name in ("psnr", "input_psnr"):
    assert found[name] == pytest.approx(written[name], abs=0.01)
  assert found["ssim"] == pytest.approx(written["ssim"], abs=1e-4)
