"""The train step: what it changes, and what it leaves alone."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine import sharding
from semanir_jax.models.semanir import SemanIR
from semanir_jax.training.losses import make_loss
from semanir_jax.training.step import TrainState, create_state, make_train_step
from tests import small

pytestmark = pytest.mark.slow

RATE = 1e-2
LOSS = make_loss("charbonnier", form="squared", epsilon=1e-3, fft_weight=0.0)
MOVED = (
  "the golden step moved. If the network, its initial values, the loss, the"
  " optimizer or the random streams were meant to change, write the new numbers"
  " here and say so in the commit: old checkpoints may have lost their meaning."
  " If not, this is a bug."
)


@functools.cache
def _setup(
  model: SemanIR = small.COLUMNAR,
  *,
  ema_decay: float = 0.75,
  random_num_keys: Sequence[int] = (),
  weight_decay: float = 0.0,
  accumulate: int = 1,
) -> tuple[Callable[..., Any], TrainState]:
  """A compiled train step and its initial state."""
  mesh = small.one_device_mesh()
  optimizer = small.optimizer(
    beta2=0.99, epsilon=1e-3, weight_decay=weight_decay
  )
  step = make_train_step(
    model,
    LOSS,
    optimizer,
    lambda step: RATE / (step + 1),
    mesh,
    ema_decay=ema_decay,
    random_num_keys=random_num_keys,
    accumulate=accumulate,
  )
  init = functools.partial(
    create_state, model, optimizer, seed=0, ema_decay=ema_decay
  )
  # As in the loop: the state stays where it is, so that one program serves.
  place = sharding.replicated(mesh)
  return (
    jax.jit(step, out_shardings=place),
    jax.jit(init, out_shardings=place)(),
  )


def test_the_metrics_are_those_of_the_batch():
  step, state = _setup()
  batch = small.batch(small.COLUMNAR)
  new, metrics = step(state, batch)
  assert {k: (v.shape, v.dtype) for k, v in metrics.items()} == {
    key: ((), jnp.float32)
    for key in (
      "loss",
      "grad_norm",
      "learning_rate",
      "num_keys",
      "skipped",
      "skipped_in_row",
    )
  }
  prediction = Restorer(small.COLUMNAR, state.params)(batch["lq"])
  loss = LOSS(prediction, batch["hq"])
  assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
  # Adam's first moment is a tenth of the first gradient.
  moments = jax.tree.leaves(new.opt_state[1].mu)
  squares = sum(float(np.sum(np.square(10 * m))) for m in moments)
  assert float(metrics["grad_norm"]) == pytest.approx(squares**0.5, rel=1e-4)
  assert float(metrics["learning_rate"]) == pytest.approx(RATE)
  assert metrics["num_keys"] == 8 and metrics["skipped"] == 0
  assert new.step == 1
  # The schedule is asked for the number of the step.
  _, metrics = step(new, batch)
  assert float(metrics["learning_rate"]) == pytest.approx(RATE / 2)


def test_a_step_is_a_pure_function():
  step, state = _setup()
  batch = small.batch(small.COLUMNAR)
  before = jax.tree.map(np.array, state)
  a, b = step(state, batch), step(state, batch)
  small.assert_equal_trees(a, b)
  small.assert_equal_trees(before, state)


def test_steps_lower_the_loss():
  step, state = _setup()
  batch = small.batch(small.COLUMNAR)
  losses = []
  for _ in range(6):
    state, metrics = step(state, batch)
    losses.append(float(metrics["loss"]))
  assert losses[-1] < 0.95 * losses[0], losses


def _skipped(state: TrainState, metrics: Any) -> tuple[int, int]:
  """In all and in a row, of the state and of the metrics alike."""
  counts = int(state.skipped), int(state.skipped_in_row)
  assert counts == (metrics["skipped"], metrics["skipped_in_row"])
  assert state.skipped_in_row.dtype == jnp.int32
  return counts


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_batch_that_is_not_finite_changes_nothing_but_the_counters(poison):
  step, state = _setup()
  good = small.batch(small.COLUMNAR)
  state, _ = step(state, good)  # the average has left the parameters now
  bad = {"lq": good["lq"].copy(), "hq": good["hq"]}
  bad["lq"][1, 2, 3, 0] = poison
  after, metrics = step(state, bad)
  assert not np.isfinite(metrics["loss"])
  assert _skipped(after, metrics) == (1, 1)
  assert after.step == state.step + 1
  undone = after.replace(
    step=state.step,
    skipped=state.skipped,
    skipped_in_row=state.skipped_in_row,
  )
  small.assert_equal_trees(undone, state)
  assert _skipped(*step(after, bad)) == (2, 2)
  # The run goes on: the next batch counts again, and begins a new row.
  healed, metrics = step(after, good)
  assert np.isfinite(metrics["loss"])
  assert _skipped(healed, metrics) == (1, 0)
  assert _skipped(*step(healed, bad)) == (2, 1)
  assert np.isfinite(jax.tree.leaves(healed.params)[0]).all()
  assert any(
    (a != b).any()
    for a, b in zip(
      jax.tree.leaves(healed.params), jax.tree.leaves(after.params), strict=True
    )
  )


@pytest.mark.parametrize(
  ("taken", "decays"), [(0, (1 / 10, 2 / 11)), (100, (0.75, 0.75))]
)
def test_the_average_forgets_the_start_and_follows_the_parameters(
  taken, decays
):
  step, state = _setup()
  state = state.replace(step=jnp.asarray(taken, jnp.int32))
  small.assert_equal_trees(state.ema_params, state.params)
  batch = small.batch(small.COLUMNAR)
  expected, later = state.params, state
  for decay in decays:
    later, _ = step(later, batch)
    expected = jax.tree.map(
      lambda e, p, decay=decay: decay * e + (1 - decay) * p,
      expected,
      later.params,
    )
  _assert_close_trees(later.ema_params, expected, rtol=1e-5, atol=1e-7)
  assert later.eval_params is later.ema_params


def test_weight_decay_is_decoupled_and_the_average_can_be_left_out():
  batch = small.batch(small.COLUMNAR)
  plain, state = _setup()
  decayed, decayed_state = _setup(weight_decay=0.5, ema_decay=0.0)
  without, _ = plain(state, batch)
  with_decay, _ = decayed(decayed_state, batch)
  expected = jax.tree.map(
    lambda new, old: new - RATE * 0.5 * old, without.params, state.params
  )
  _assert_close_trees(with_decay.params, expected, rtol=1e-5, atol=1e-6)
  assert with_decay.ema_params == {}
  assert with_decay.eval_params is with_decay.params


# The last counts as max_keys, 16.
CHOICES = (1, 5, 400)


def _at(state: TrainState, number: int) -> TrainState:
  """The state as if it were that many steps old."""
  return state.replace(
    step=jax.device_put(jnp.int32(number), state.step.sharding)
  )


def test_k_is_drawn_anew_each_step_without_compiling_again():
  step, state = _setup(random_num_keys=CHOICES)
  batch = small.batch(small.COLUMNAR)

  def draws(state: TrainState) -> list[int]:
    numbers = []
    for _ in range(24):
      state, metrics = step(state, batch)
      numbers.append(int(metrics["num_keys"]))
    return numbers

  drawn = draws(state)
  assert set(drawn) == {1, 5, 16}
  assert drawn == draws(state)  # the number of the step decides, and the seed
  assert draws(_at(state, 7))[:17] == drawn[7:]
  key = jax.device_put(jax.random.PRNGKey(1), state.rng.sharding)
  assert draws(state.replace(rng=key)) != drawn
  assert step._cache_size() == 1


def test_the_drawn_k_reaches_the_network():
  step, state = _setup(random_num_keys=CHOICES)
  batch = small.batch(small.COLUMNAR)
  restorer = Restorer(small.COLUMNAR, state.params)
  losses = {}
  for number in range(24):
    _, metrics = step(_at(state, number), batch)
    k = int(metrics["num_keys"])
    loss = LOSS(restorer(batch["lq"], num_keys=k), batch["hq"])
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    losses[k] = float(loss)
  assert len(set(losses.values())) == 3


DROPPING = small.COLUMNAR.clone(depths=(2,), drop_path_rate=0.7)


def test_a_batch_in_parts_gives_the_step_of_the_whole():
  # Each image has its own drop-path scales, and all one k.
  whole, state = _setup(DROPPING, random_num_keys=CHOICES)
  parts, same = _setup(DROPPING, random_num_keys=CHOICES, accumulate=3)
  small.assert_equal_trees(state, same)
  for number in range(3):
    batch = small.batch(DROPPING, count=6, seed=number)
    expected, metrics = whole(_at(state, number), batch)
    found, measured = parts(_at(state, number), batch)
    for name, value in metrics.items():
      assert measured[name] == pytest.approx(float(value), rel=1e-5), name
    # Adam's epsilon of 1e-3 keeps it from enlarging rounding errors.
    _assert_close_trees(found, expected, rtol=1e-4, atol=1e-5)


def test_drop_path_is_drawn_anew_each_step():
  step, state = _setup(DROPPING, random_num_keys=CHOICES)
  batch = small.batch(DROPPING, count=6)
  losses = {}
  for number in range(8):
    _, metrics = step(_at(state, number), batch)
    losses.setdefault(int(metrics["num_keys"]), []).append(
      float(metrics["loss"])
    )
  # Of one batch and one k: only the branches left out differ.
  assert all(len(set(values)) == len(values) for values in losses.values())
  assert max(len(values) for values in losses.values()) > 1


def test_a_bad_part_makes_the_whole_step_skipped():
  step, state = _setup(DROPPING, random_num_keys=CHOICES, accumulate=3)
  batch = small.batch(DROPPING, count=6)
  batch["lq"][3, 0, 0, 0] = np.nan
  after, metrics = step(state, batch)
  assert _skipped(after, metrics) == (1, 1)
  small.assert_equal_trees(after.params, state.params)


def test_parts_need_less_memory():
  def temporaries(accumulate: int) -> int:
    # The programs of the tests above, which need not be compiled again.
    step, state = _setup(
      DROPPING, random_num_keys=CHOICES, accumulate=accumulate
    )
    lowered = step.lower(state, small.batch(DROPPING, count=6))
    return lowered.compile().memory_analysis().temp_size_in_bytes

  whole, thirds = temporaries(1), temporaries(3)
  assert thirds < 0.4 * whole, (thirds, whole)


def test_less_than_one_part_is_refused():
  with pytest.raises(ValueError, match="accumulate=0 must be at least 1"):
    _setup(accumulate=0)


def test_a_step_in_bfloat16_with_remat_stays_near_the_float32_step():
  batch = small.batch(small.COLUMNAR)
  plain, state = _setup()
  mixed, same = _setup(
    small.COLUMNAR.with_execution(dtype="bfloat16", remat=True)
  )
  small.assert_equal_trees(state, same)  # parameters and moments in float32
  expected, metrics = plain(state, batch)
  found, measured = mixed(state, batch)
  assert jax.tree.map(lambda x: x.dtype, found) == jax.tree.map(
    lambda x: x.dtype, expected
  )
  assert float(measured["loss"]) != float(metrics["loss"])
  for name in ("loss", "grad_norm"):
    assert measured[name] == pytest.approx(float(metrics[name]), rel=0.03)
  moved, wanted = (
    np.concatenate(
      [
        np.ravel(a - b)
        for a, b in zip(
          jax.tree.leaves(s.params), jax.tree.leaves(state.params), strict=True
        )
      ]
    )
    for s in (found, expected)
  )
  assert np.linalg.norm(moved - wanted) < 0.2 * np.linalg.norm(wanted)


def _assert_close_trees(a: Any, b: Any, **tolerance: float) -> None:
  jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), a, b)


def test_k_below_one_is_refused():
  with pytest.raises(ValueError, match=r"random_num_keys=\(0, 4\)"):
    _setup(random_num_keys=(0, 4))


def test_targets_of_another_shape_are_refused():
  step, state = _setup()
  batch = small.batch(small.COLUMNAR)
  # One channel would broadcast without an error.
  batch["hq"] = batch["hq"][..., :1]
  with pytest.raises(ValueError, match="out_channels to those of config.data"):
    step(state, batch)


# Loss before and after one step, and the sums over all parameters of their
# magnitude after it and of how far it moved them.
@pytest.mark.parametrize(
  ("model", "golden"),
  [
    pytest.param(
      small.DEEP_USHAPE, (0.46914, 0.70065, 742.98, 107.52), id="ushape"
    ),
    pytest.param(
      small.COLUMNAR, (0.27432, 0.32238, 3544.53, 274.34), id="columnar"
    ),
  ],
)
def test_golden_step(model, golden):
  step, state = _setup(model)
  batch = small.batch(model)
  after, first = step(state, batch)
  _, second = step(after, batch)
  new, old = (jax.tree.leaves(jax.device_get(s.params)) for s in (after, state))
  size = sum(float(np.abs(p).sum()) for p in new)
  moved = sum(float(np.abs(p - q).sum()) for p, q in zip(new, old, strict=True))
  found = (float(first["loss"]), float(second["loss"]), size, moved)
  assert found == pytest.approx(golden, rel=2e-3), MOVED
