"""The self-ensemble, and the ways to it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict

import semanir_jax
from configs import base
from semanir_jax.evaluation import evaluate, metrics, test_sets
from semanir_jax.images.image_file import write_image
from semanir_jax.inference import ensemble
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.machine import distributed
from semanir_jax.networks import checkpoint, load, safetensors_file
from tests import small

pytestmark = pytest.mark.slow

OPTIONS = base.test_set("ours", base.noise(25.0))


def _levels(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_every_pixel_gets_the_mean_of_its_eight_places():
  images = _levels(2, 3, 4, 1).astype(np.float32)
  seen = []

  def restore(batch):
    """Twice the size, and times the distance from the upper left corner."""
    seen.append(batch)
    rows, columns = (np.arange(2 * n) for n in batch.shape[1:3])
    large = batch.repeat(2, axis=1).repeat(2, axis=2)
    return large * (rows[:, None] + 10 * columns)[..., None]

  result = ensemble.mean_of_8(restore, images)
  assert result.shape == (2, 6, 8, 1)
  # Over a place and its mirror images the row averages to the middle row and
  # the column to the middle column; half of the turns swap rows and columns.
  middle = (11 * 5 / 2 + 11 * 7 / 2) / 2
  expected = images.repeat(2, axis=1).repeat(2, axis=2) * middle
  np.testing.assert_allclose(result, expected, rtol=1e-6)
  assert len({batch.tobytes() + bytes(batch.shape) for batch in seen}) == 8


@pytest.fixture
def folder(tmp_path):
  """Two images, no multiples of the grid, in `ours`, and networks beside it."""
  (tmp_path / "ours").mkdir()
  for i in range(2):
    write_image(tmp_path / "ours" / f"{i}.png", _levels(13, 21, 3, seed=i))
  small.write_network(tmp_path / "noise.safetensors")
  for name, degradation in (("mosaic", {"name": "demosaic"}), ("pairs", {})):
    config = small.config().unlock()
    config.data.degradation = degradation
    safetensors_file.write_weights(
      tmp_path / f"{name}.safetensors",
      small.params(small.USHAPE),
      checkpoint.config_to_json(config),
    )
  return tmp_path


def _evaluate(folder, network, test_set=OPTIONS, **options):
  """Results and table of a benchmark of the two images."""
  config = base.get_config("smoke").eval.unlock()
  config.update(max_images=0, num_pictures=0, batch_size=2)
  config.sets = ConfigDict({"ours": test_set})
  evaluate.evaluate(
    config,
    checkpoint_path=network and str(folder / network),
    data_dir=str(folder),
    output=folder / "eval",
    **{"num_keys": None} | options,
  )
  text = (folder / "eval" / "results.json").read_text()
  return json.loads(text), (folder / "eval" / "results.md").read_text()


def test_a_network_of_another_task_is_told(folder, caplog):
  _evaluate(folder, "noise.safetensors")
  assert "has learned" not in caplog.text
  for name, learned in (("mosaic", "demosaic"), ("pairs", "pairs of images")):
    _evaluate(folder, f"{name}.safetensors")
    assert (
      f"ours: is of noise, and the network has learned {learned}" in caplog.text
    )


def test_a_step_saved_meanwhile_is_not_the_one_that_was_measured(
  folder, monkeypatch
):
  run = small.save_run(folder / "run", small.config())
  (step,) = (run / "checkpoints").iterdir()

  def load_late(name):
    network = load.load_network(name)
    (run / "checkpoints" / "1000").mkdir()  # by the training that goes on
    return network

  monkeypatch.setattr(evaluate, "load_network", load_late)
  results, _ = _evaluate(folder, "run")
  assert results["protocol"]["network"] == f"run, step {step.name}"


def test_all_processes_measure_the_step_that_the_first_one_found(
  folder, monkeypatch
):
  run = small.save_run(folder / "run", small.config(), steps=(2, 4))

  def gather(value):  # to the second process, which saw a later step
    assert value == str(run / "checkpoints" / "4")
    return [str(run / "checkpoints" / "2"), value]

  answers = SimpleNamespace(
    gather=gather, shared_errors=distributed.shared_errors
  )
  monkeypatch.setattr(evaluate, "distributed", answers)
  results, _ = _evaluate(folder, "run")
  assert results["protocol"]["network"] == "run, step 2"


def test_a_benchmark_measures_it_and_says_so(folder):
  alone, table = _evaluate(folder, "noise.safetensors")
  assert not alone["protocol"]["self_ensemble"] and "ensemble" not in table
  results, table = _evaluate(folder, "noise.safetensors", self_ensemble=True)
  assert results["protocol"]["self_ensemble"]
  assert ", window 4, self-ensemble of 8; mean of" in table
  network = load.load_network(str(folder / "noise.safetensors"))
  test_set = test_sets.open_test_set("ours", OPTIONS, str(folder))
  psnrs = []
  for example in test_sets.examples(test_set, range(2)):
    # As `restore.py` does it.
    restorer = TiledRestorer(network, self_ensemble=True)
    (restored,) = restorer.bands(example.lq)
    pair = (metrics.to_uint8(x) for x in (restored, example.hq))
    psnrs.append(metrics.psnr(*pair, crop_px=0, channel="rgb"))
  assert results["ours"]["psnr"] == pytest.approx(np.mean(psnrs), abs=1e-3)
  assert abs(results["ours"]["psnr"] - alone["ours"]["psnr"]) > 0.01


def test_a_mosaic_is_not_turned(folder):
  mosaics = base.test_set("ours", {"name": "demosaic"})
  for network, test_set in (
    ("mosaic.safetensors", OPTIONS),
    ("noise.safetensors", mosaics),
  ):
    with pytest.raises(ValueError, match="leave out self_ensemble"):
      _evaluate(folder, network, test_set, self_ensemble=True)
  assert not (folder / "eval").exists()
  with pytest.raises(ValueError, match="leave out self_ensemble"):
    semanir_jax.load(str(folder / "mosaic.safetensors"), self_ensemble=True)


@pytest.mark.parametrize("option", [{"num_keys": 4}, {"self_ensemble": True}])
def test_inputs_are_measured_without_a_network(folder, option):
  with pytest.raises(ValueError, match=f"leave out.*--{next(iter(option))}"):
    _evaluate(folder, None, **option)
  assert not (folder / "eval").exists()
