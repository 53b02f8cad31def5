"""Learning rates and updates against numbers worked out by hand."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from semanir_jax.machine import sharding
from semanir_jax.training.optimizer import make_schedule
from tests import small


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


def test_milestones_that_a_run_does_not_reach_are_named(caplog):
  _schedule("multistep", milestones=(3, 9))
  assert not caplog.text
  _schedule("multistep", milestones=(3, 10, 12))
  assert "milestones: [10, 12] are not reached in" in caplog.text
  assert "num_steps=10; the learning rate falls 1 times" in caplog.text


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
  optimizer = small.optimizer(**changes)
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


def test_an_unknown_optimizer_is_refused():
  with pytest.raises(ValueError, match="'sgd'; use 'adamw' or 'muon'"):
    small.optimizer(name="sgd")


@pytest.mark.parametrize("field", ["weight_decay", "grad_clip_norm"])
def test_a_negative_decay_or_norm_is_refused(field):
  with pytest.raises(ValueError, match=f"{field}=-0.1.* must be at least 0"):
    small.optimizer(**{field: -0.1})


def _random_like(params: Any, seed: int) -> Any:
  """Gradients of very different sizes from array to array."""
  random = np.random.default_rng(seed)
  return jax.tree.map(
    lambda p: jnp.asarray(
      random.normal(size=p.shape) * 10.0 ** random.uniform(-6, 2), jnp.float32
    ),
    params,
  )


def _named(tree: Any) -> dict[str, jax.Array]:
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves
  }


# Of small.COLUMNAR with two layers; not the first and the last convolution.
MATRICES = {
  "stage_0/layers/attention/qkv/kernel": (2, 8, 24),
  "stage_0/layers/attention/projection/kernel": (2, 8, 8),
  "stage_0/layers/mlp/expand/kernel": (2, 8, 16),
  "stage_0/layers/mlp/reduce/kernel": (2, 16, 8),
  "stage_0/conv/conv/kernel": (3, 3, 8, 8),
  "conv_body/conv/kernel": (3, 3, 8, 8),
  "upsampler/before/conv/kernel": (3, 3, 8, 64),
  "upsampler/up_0/conv/kernel": (3, 3, 64, 256),
}


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect"])
def test_muon_leaves_the_last_convolution_to_adam(upsampler):
  model = small.COLUMNAR.clone(scale=2, upsampler=upsampler)
  params = small.params(model)
  state = small.optimizer(name="muon").init(params)
  moved = {
    name.split("/mu/")[1]
    for name in _named(state)
    if "adam" in name and "/mu/" in name
  }
  last = "last" if upsampler == "pixelshuffle" else "conv"
  assert f"upsampler/{last}/conv/kernel" in moved
  assert "conv_body/conv/kernel" not in moved


def test_muon_makes_the_matrices_orthogonal_and_adam_moves_the_rest():
  """Against numpy's singular vectors in float64, and optax's Adam.

  The five polynomials of Newton-Schulz take singular values only near to 1.
  """
  params = small.params(small.COLUMNAR.clone(depths=(2,)))
  assert {
    name: leaf.shape
    for name, leaf in _named(params).items()
    if name in MATRICES
  } == MATRICES
  optimizer = small.optimizer(name="muon", momentum=0.8, beta2=0.99)
  adam = optax.scale_by_adam(b1=0.9, b2=0.99, eps=1e-8, nesterov=True)
  state, adam_state = optimizer.init(params), adam.init(params)
  update, adam_update = jax.jit(optimizer.update), jax.jit(adam.update)
  momentum = {name: 0.0 for name in MATRICES}
  for step in (1, 2, 3):
    grads = _random_like(params, step)
    updates, state = update(grads, state, params)
    expected, adam_state = adam_update(grads, adam_state)
    updates, expected, grads = map(_named, (updates, expected, grads))
    for name, found in updates.items():
      if name not in MATRICES:
        np.testing.assert_allclose(found, expected[name], rtol=1e-5)
        continue
      gradient = np.asarray(grads[name], np.float64)
      momentum[name] = 0.8 * momentum[name] + 0.2 * gradient
      looked_ahead = 0.8 * momentum[name] / (
        1 - 0.8 ** (step + 1)
      ) + 0.2 * gradient / (1 - 0.8**step)
      _assert_orthogonal(found, looked_ahead)


def _assert_orthogonal(update: jax.Array, direction: np.ndarray) -> None:
  """An update [..., in, out] has the direction's singular vectors, and one
  singular value: that with which its elements' root mean square is 0.2.
  """
  if update.ndim == 4:  # a convolution: [3, 3, in, out] is one matrix
    direction = direction.reshape(1, -1, direction.shape[-1])
  update = np.asarray(update, np.float64).reshape(direction.shape)
  scale = 0.2 * math.sqrt(max(direction.shape[1:]))
  for u, d in zip(update, direction, strict=True):
    left, _, right = np.linalg.svd(d, full_matrices=False)
    values = left.T @ u @ right.T / scale
    np.testing.assert_allclose(values, np.diag(np.diag(values)), atol=1e-3)
    assert (0.5 < np.diag(values)).all() and (np.diag(values) < 1.3).all()


def test_muon_decays_and_clips_as_adam_does():
  params = small.params(small.COLUMNAR)
  grads = _random_like(params, 0)

  # With epsilon 1 the size of a gradient shows, in both parts.
  def update(grads: Any, **options: float) -> Any:
    optimizer = small.optimizer(name="muon", epsilon=1.0, **options)
    return optimizer.update(grads, optimizer.init(params), params)[0]

  plain = update(grads)
  shrunk = jax.tree.map(lambda g: g / optax.tree.norm(grads), grads)
  decayed = jax.tree.map(lambda u, p: u + 0.1 * p, plain, params)
  for found, expected in (
    (update(grads, weight_decay=0.1), decayed),
    (update(grads, grad_clip_norm=1.0), update(shrunk)),
  ):
    jax.tree.map(
      lambda f, e: np.testing.assert_allclose(f, e, rtol=1e-4, atol=1e-6),
      found,
      expected,
    )


def test_muon_computes_the_same_on_eight_devices():
  params = small.params(small.COLUMNAR)
  optimizer = small.optimizer(name="muon")
  mesh = sharding.make_mesh(data=2, fsdp=4)
  start = (params, optimizer.init(params), _random_like(params, 0))
  places = sharding.state_shardings(start, mesh, [(".*", "fsdp")])

  def step(params: Any, state: Any, grads: Any) -> Any:
    return optimizer.update(grads, state, params)

  one = jax.jit(step)(*start)
  split = jax.jit(step, in_shardings=places, out_shardings=places[:2])(
    *jax.device_put(start, places)
  )
  kernel = split[0]["stage_0"]["layers"]["mlp"]["expand"]["kernel"]
  assert kernel.addressable_shards[0].data.shape == (1, 8, 4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4),
    one,
    split,
  )
