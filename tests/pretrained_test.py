"""The networks in pretrained/: whole, described, better than their input."""

import json
import pathlib

import pytest

import semanir_jax
from semanir_jax import evaluation, reports, test_sets, weights

FILES = sorted(weights.PRETRAINED.glob(f"*{weights.SUFFIX}"))
NAMES = [path.stem for path in FILES]
DATA = pathlib.Path(__file__).resolve().parents[2] / "shared/data"
# dB over the input, on the middle of the first photograph; about two thirds of
# what each network gains there.
GAINS = {
  "denoise_color_tiny": 4.0,
  "denoise_gray_tiny": 4.0,
  "jpeg_color_tiny": 0.5,
  "demosaic_tiny": 0.5,
  "sr_x2_tiny": 0.5,
  "sr_x4_tiny": 0.3,
}


def _rows(network, options, indices, data_dir=""):
  """Measures images of a set in the protocol of the network's config."""
  source = test_sets.open_test_set("set", options, data_dir)
  results = evaluation.evaluate_set(
    lambda images: network(images[0])[None],
    test_sets.examples(source, options, indices or range(len(source))),
    network.config["eval"]["protocol"],
    batch_size=1,
  )
  return [result.row for result in results]


def _first_set(network):
  return next(iter(network.config["eval"]["sets"].items()))


def test_there_are_networks_and_every_one_has_its_gain_here():
  assert NAMES and set(NAMES) <= set(GAINS)


def test_they_are_small():
  sizes = [path.stat().st_size for path in FILES]
  assert max(sizes) <= 8e6 and sum(sizes) <= 40e6


@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_how_it_was_trained_and_measured(name):
  card = (weights.PRETRAINED / "README.md").read_text()
  assert f"## {name}\n" in card
  assert f"configs/pretrained.py:{name}" in card
  assert f"--checkpoint={name}" in card
  results = json.loads((weights.PRETRAINED / f"{name}.json").read_text())
  shown = [f"{results[key]['psnr']:.2f}" for key in results if key in card]
  assert shown and all(figure in card for figure in shown)


@pytest.mark.parametrize("name", NAMES)
def test_it_improves_a_photograph_it_has_not_seen(name):
  network = semanir_jax.load(name)
  _, options = _first_set(network)
  middle = {"source": "photographs:test", "num_images": 0, "sides_px": ()}
  middle |= {"center_crop_px": 128}
  (row,) = _rows(network, options | middle, [0])
  gain = row["psnr"] - row["input_psnr"]
  assert gain > GAINS[name], f"{row['input_psnr']:.2f} + {gain:.2f} dB"


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("sr")])
def test_the_score_on_its_card_is_what_we_measure(name):
  network = semanir_jax.load(name)
  key, options = _first_set(network)
  rows = _rows(network, options, None, str(DATA))
  score = json.loads((weights.PRETRAINED / f"{name}.json").read_text())[key]
  found = reports.mean_row(rows)["psnr"]
  assert found == pytest.approx(score["psnr"], abs=0.01)
