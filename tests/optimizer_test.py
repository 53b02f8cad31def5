"""Learning rates and updates against numbers worked out by hand."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.training.optimizer import make_optimizer, make_schedule


def _schedule(name: str, **changes: Any) -> list[float]:
  """Rates of the steps 0 to 10 of a run of 10."""
  options = {
    "peak": 0.8,
    "num_steps": 10,
    "warmup_steps": 0,
    "hold_steps": 0,
    "milestones": (3, 7),
    "factor": 0.5,
    "final": 0.1,
  }
  schedule = make_schedule(name, **options | changes)
  eager = [float(schedule(step)) for step in range(11)]
  traced = jax.vmap(schedule)(jnp.arange(11))
  np.testing.assert_allclose(traced, eager, rtol=1e-6)
  return eager


def test_multistep_halves_at_its_milestones():
  expected = [0.8] * 3 + [0.4] * 4 + [0.2] * 4
  assert _schedule("multistep") == pytest.approx(expected)


def test_multistep_without_milestones_is_constant():
  assert _schedule("multistep", milestones=()) == pytest.approx([0.8] * 11)


def test_cosine_goes_from_peak_through_the_middle_to_final():
  rates = _schedule("cosine")
  assert rates[0] == pytest.approx(0.8)
  assert rates[5] == pytest.approx(0.45)
  assert rates[10] == pytest.approx(0.1)
  assert rates == sorted(rates, reverse=True)


def test_warm_up_grows_to_the_peak_in_equal_parts():
  rates = _schedule("cosine", warmup_steps=4)
  assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
  # The cosine has the other six steps; its middle is three after the warm-up.
  assert rates[7] == pytest.approx(0.45)
  assert rates[10] == pytest.approx(0.1)
  rates = _schedule("multistep", warmup_steps=2)
  assert rates[:4] == pytest.approx([0.4, 0.8, 0.8, 0.4])


def test_the_cosine_falls_after_the_hold():
  rates = _schedule("cosine", hold_steps=4)
  assert rates[:5] == pytest.approx([0.8] * 5)
  # The cosine has the other six steps, its middle is three after the hold.
  assert rates[7] == pytest.approx(0.45)
  assert rates[10] == pytest.approx(0.1)
  rates = _schedule("cosine", warmup_steps=2, hold_steps=4)
  assert rates[:7] == pytest.approx([0.4] + [0.8] * 6)
  assert rates[8] == pytest.approx(0.45)
  assert rates[10] == pytest.approx(0.1)


def test_restormers_schedule():
  schedule = make_schedule(
    "cosine",
    peak=3e-4,
    num_steps=300_000,
    warmup_steps=0,
    hold_steps=92_000,
    milestones=(),
    factor=0.5,
    final=1e-6,
  )
  for step in (0, 91_999, 92_000, 92_001, 150_000, 250_000, 299_999):
    share = max(step - 92_000, 0) / 208_000
    rate = 1e-6 + (3e-4 - 1e-6) * (1 + math.cos(math.pi * share)) / 2
    assert float(schedule(step)) == pytest.approx(rate, rel=2e-5)


@pytest.mark.parametrize(
  ("name", "changes", "message"),
  [
    ("cosine", {"warmup_steps": 10}, "=10 and hold_steps=0 must leave some of"),
    ("cosine", {"warmup_steps": 4, "hold_steps": 6}, "config.train.num_steps="),
    ("cosine", {"warmup_steps": -1}, "warmup_steps=-1 and"),
    ("cosine", {"hold_steps": -1}, "hold_steps=-1 must be at least 0"),
    ("cosine", {"peak": 0.0, "final": 0.0}, "peak=0.0 must be positive"),
    ("cosine", {"final": 0.9}, "final=0.9 between 0 and it"),
    ("multistep", {"hold_steps": 1}, "hold_steps=1 is of 'cosine'"),
    ("multistep", {"milestones": (7, 3)}, r"milestones=\(7, 3\) must grow"),
    ("multistep", {"milestones": (3, 3)}, r"milestones=\(3, 3\) must grow"),
    ("step", {}, "'step'; use 'multistep' or 'cosine'"),
  ],
)
def test_a_schedule_that_does_not_fit_is_refused(name, changes, message):
  with pytest.raises(ValueError, match=message):
    _schedule(name, **changes)


def _update(
  gradient: float, parameter: float = 2.0, *, steps: int = 1, **changes: float
) -> float:
  options = {
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "weight_decay": 0.0,
    "grad_clip_norm": 0.0,
  }
  optimizer = make_optimizer(**options | changes)
  params = {"a": jnp.array(parameter)}
  state = optimizer.init(params)
  for _ in range(steps):
    update, state = optimizer.update({"a": jnp.array(gradient)}, state, params)
  return float(update["a"])


def test_the_first_update_is_the_sign_of_the_gradient():
  assert _update(-0.03) == pytest.approx(-1.0, abs=1e-5)
  assert _update(5.0, steps=3) == pytest.approx(1.0, abs=1e-5)


def test_weight_decay_adds_its_share_of_the_parameter():
  assert _update(-0.03, weight_decay=0.1) == pytest.approx(-0.8, abs=1e-5)


def test_epsilon_is_added_to_the_root():
  assert _update(0.5, epsilon=0.5) == pytest.approx(0.5, abs=1e-5)


def test_clipping_bounds_the_norm_of_all_gradients():
  # With epsilon 1 the size of a gradient g shows: g / (g + 1).
  assert _update(4.0, epsilon=1.0) == pytest.approx(0.8, abs=1e-5)
  clipped = _update(4.0, epsilon=1.0, grad_clip_norm=1.0)
  assert clipped == pytest.approx(0.5, abs=1e-5)
  below = _update(0.25, epsilon=1.0, grad_clip_norm=1.0)
  assert below == pytest.approx(0.2, abs=1e-5)
