"""Validation while training: what it returns, writes, and when it stops."""

from typing import Any

import jax
import numpy as np
import pytest

from configs import base
from semanir_jax.evaluation import loop, test_sets
from semanir_jax.inference.restorer import Restorer
from semanir_jax.training import validation
from semanir_jax.training.validation import measure_id, validate
from tests import processes, small

pytestmark = pytest.mark.slow

OPTIONS = base.test_set("ours", base.noise(25.0))
MODEL = small.USHAPE


class _Writer:
  """Keeps what it is given."""

  def __init__(self) -> None:
    self.scalars: dict[str, float] = {}
    self.images: dict[str, np.ndarray] = {}

  def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
    assert step == 7
    self.scalars |= scalars

  def write_images(self, step: int, images: dict[str, np.ndarray]) -> None:
    assert step == 7
    self.images |= images


def _set(name: str, count: int) -> test_sets.TestSet:
  """A test set of random images."""
  rng = np.random.RandomState(count)
  images = rng.randint(0, 256, (count, 12, 12, 3), np.uint8)
  records = [{"image": x, "name": str(i)} for i, x in enumerate(images)]
  return test_sets.TestSet(name, OPTIONS, records)


SETS = [_set("three", 3), _set("one", 1)]


def _validate(sets: Any, stop: Any = lambda: False, max_images: int = 0) -> Any:
  """What it returns, and what it writes."""
  writer = _Writer()
  config = small.config(eval__max_images=max_images, eval__num_pictures=2)
  score = validate(
    config, MODEL, small.state(MODEL), 7, sets=sets, writer=writer, stop=stop
  )
  return score, writer


def _expected(test_set: test_sets.TestSet) -> dict[str, float]:
  """Means over the images, each restored alone."""
  restore = Restorer(MODEL, small.state(MODEL).ema_params)
  examples = test_sets.examples(test_set, range(len(test_set.source)))
  protocol = small.config().eval.protocol.to_dict()
  rows = [
    result.row
    for result in loop.evaluate_set(restore, examples, protocol, batch_size=1)
  ]
  return {
    f"{test_set.name}/{key}": np.mean([row[key] for row in rows])
    for key in ("psnr", "ssim", "input_psnr", "input_ssim")
  }


def test_it_measures_the_averaged_parameters_on_every_set():
  score, writer = _validate(SETS)
  expected = {}
  for test_set in SETS:
    expected |= _expected(test_set)
  assert writer.scalars == pytest.approx(expected, rel=1e-6)
  psnrs = expected["three/psnr"], expected["one/psnr"]
  assert score == pytest.approx(sum(psnrs) / 2, rel=1e-6)
  assert list(writer.images) == ["three/0", "three/1", "one/0"]
  assert writer.images["one/0"].shape[0] == 1


def test_layers_are_a_loop_that_compiles_soon(monkeypatch):
  made = []

  def restorer(model, params, mesh):
    made.append(model)
    return Restorer(model, params, mesh=mesh)

  monkeypatch.setattr(validation, "Restorer", restorer)
  config = small.config(eval__max_images=1)
  model = MODEL.with_execution(unroll=True)
  state, stop = small.state(MODEL), lambda: False
  validation.validate(
    config, model, state, 7, sets=SETS, writer=_Writer(), stop=stop
  )
  assert [model.execution.unroll for model in made] == [False]


def test_without_sets_there_is_no_score():
  score, writer = _validate([])
  assert score is None and writer.scalars == {}


def test_figures_stand_below_their_protocol(caplog):
  caplog.set_level("INFO")
  _validate(SETS, max_images=2)
  protocol, *lines = caplog.messages
  assert protocol == (
    "step 7, validation: 8 bits; PSNR in dB on all channels, crop 0 px; SSIM"
    f" valid; k = {MODEL.num_keys}"
  )
  counts = [line.partition(" images: ")[0] for line in lines]
  assert counts == ["step 7, three, 2 of 3", "step 7, one, 1 of 1"]


def test_it_stops_between_batches(monkeypatch):
  monkeypatch.setattr(jax, "local_device_count", lambda: 1)
  asked = []

  def stop() -> bool:
    asked.append(True)
    return len(asked) == 4  # after the last image of the first set and one

  score, writer = _validate([*SETS, _set("two", 2)], stop)
  assert score is None
  assert len(asked) == 4
  assert set(writer.scalars) == {
    f"three/{key}" for key in ("psnr", "ssim", "input_psnr", "input_ssim")
  }


def test_processes_agree_on_the_score_and_ask_as_often(monkeypatch):
  monkeypatch.setattr(jax, "local_device_count", lambda: 1)
  expected, _ = _validate(SETS)

  def work(index: int) -> tuple[float, int, list[str]]:
    asked = []
    stop = lambda: bool(asked.append(True))  # noqa: E731
    score, writer = _validate(SETS, stop)
    return score, len(asked), list(writer.images)

  first, second = processes.play(2, work, monkeypatch)
  assert first[0] == second[0] == expected
  assert first[1] == second[1] == 2 + 1
  assert first[2] == ["three/0", "three/2", "one/0"]


def _measure(config: Any) -> str:
  sets = [
    test_sets.TestSet(name, options, [0])
    for name, options in config.eval.sets.items()
  ]
  return measure_id(config, sets)


@pytest.mark.parametrize(
  ("changes", "same"),
  [
    ({"train.num_steps": 9, "eval.num_pictures": 0}, True),
    ({"eval.protocol.also": ("psnr_y",), "eval.protocol.ssim": "3d"}, True),
    ({"eval.sets.photographs.published": 30.0}, True),
    ({"eval.protocol.channel": "y"}, False),
    ({"eval.max_images": 2}, False),
    ({"eval.protocol.crop_px": 4}, False),
    ({"model.num_keys": 3}, False),
    ({"eval.sets.photographs.degradation.sigma_255": (50.0, 50.0)}, False),
  ],
)
def test_a_measure_is_what_scores_depend_on(changes, same):
  config = base.get_config("smoke").unlock()
  before = _measure(config)
  config.update_from_flattened_dict(changes)
  assert (_measure(config) == before) == same


def test_a_set_of_other_images_is_another_measure():
  config = base.get_config("smoke")
  first, *others = (
    measure_id(config, [test_sets.TestSet(name, OPTIONS, source)])
    for name, source in (("a", [0, 1]), ("a", [0]), ("b", [0, 1]))
  )
  assert first not in others
