"""Train state and train step: one pure function of state and batch."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from semanir_jax.models.drop_path import draw_branch_scales
from semanir_jax.models.semanir import SemanIR
from semanir_jax.training.gradient import Params, make_mean_gradient
from semanir_jax.training.losses import Loss
from semanir_jax.training.optimizer import Schedule

Metrics = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
  """Holds all that changes during training, but the data's position.

  Attributes:
    step: int32 scalar, updates tried so far.
    params: float32 parameters of the model.
    ema_params: their moving average; an empty dict where it is off.
    opt_state: optimizer state.
    rng: `[2]` uint32, the run's random key; each step folds its number in.
    skipped: int32 scalar, updates left out because they were not finite.
    skipped_in_row: int32 scalar, those of them since the last finite one.
  """

  step: jax.Array
  params: Params
  ema_params: Params
  opt_state: optax.OptState
  rng: jax.Array
  skipped: jax.Array
  skipped_in_row: jax.Array

  @property
  def eval_params(self) -> Params:
    """Returns the parameters to evaluate and to ship: averaged if there are."""
    return self.ema_params or self.params


def create_state(
  model: SemanIR,
  optimizer: optax.GradientTransformation,
  *,
  seed: int,
  ema_decay: float,
) -> TrainState:
  """Makes the initial state; call it under `jit` with output shardings, so that
  no device ever holds more than its part.

  Args:
    model: the network.
    optimizer: see `make_optimizer`.
    seed: of parameters and of training's random choices.
    ema_decay: 0 for no moving average.
  """
  init_key, train_key = jax.random.split(jax.random.PRNGKey(seed))
  side = model.size_multiple
  images = jnp.zeros((1, side, side, model.in_channels))
  # Parameters are the same in any form. The kernels of a TPU would have to be
  # inside `shard_map`, on one device.
  model = model.with_execution(implementation="mask", platform="cpu")
  params = model.init(init_key, images)["params"]
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    ema_params=params if ema_decay > 0 else {},
    opt_state=optimizer.init(params),
    rng=train_key,
    skipped=jnp.zeros((), jnp.int32),
    skipped_in_row=jnp.zeros((), jnp.int32),
  )


TrainStep = Callable[
  [TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]
]


def make_train_step(
  model: SemanIR,
  loss: Loss,
  optimizer: optax.GradientTransformation,
  schedule: Schedule,
  mesh: Mesh,
  *,
  ema_decay: float,
  random_num_keys: Sequence[int],
  accumulate: int,
) -> TrainStep:
  """Builds the train step, to be jitted by the caller.

  Args:
    model: the network.
    loss: of (prediction, target).
    optimizer: see `make_optimizer`.
    schedule: learning rate by step.
    mesh: devices that share a batch (`make_mean_gradient`).
    ema_decay: of the parameters' moving average (`_updated`); 0 for none.
    random_num_keys: k is drawn from these at each step, the same on all hosts
      (random-k training [paper]); those above the model's max_keys count as
      max_keys; empty for the model's own k at every step.
    accumulate: parts that each device computes its images in, so as to hold
      intermediate results of one part only; the update is the whole batch's.
      Devices and parts divide the batch (`phases.make_phases` sees to it).

  Returns:
    `(state, {"lq", "hq"}) -> (state, metrics)`; the metrics are float32 scalars
    over the global batch: loss, grad_norm, learning_rate, num_keys, skipped,
    skipped_in_row. A step whose loss or gradient is not finite changes nothing
    but `step`, `skipped` and `skipped_in_row`.

  Raises:
    ValueError: a k or `accumulate` below 1; from the train step, while it is
      traced: the model's output has not the shape of the target.
  """
  if any(num_keys < 1 for num_keys in random_num_keys):
    raise ValueError(f"{random_num_keys=} must all be at least 1")
  choices = jnp.asarray(random_num_keys or [model.num_keys], jnp.int32)
  choices = jnp.minimum(choices, model.max_keys)

  mean_gradient = make_mean_gradient(model, loss, mesh, accumulate=accumulate)

  def train_step(
    state: TrainState, batch: Mapping[str, jax.Array]
  ) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(state.rng, state.step)
    drop_key, keys_key = jax.random.split(key)
    num_keys = jax.random.choice(keys_key, choices)
    scales = draw_branch_scales(
      drop_key, batch["lq"].shape[0], model.depths, model.drop_path_rate
    )
    value, grads = mean_gradient(state.params, batch, scales, num_keys)
    grad_norm = optax.tree.norm(grads)
    learning_rate = schedule(state.step)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    updated = _updated(state, updates, opt_state, learning_rate, ema_decay)
    finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
    state = _next_state(state, updated, finite)
    return state, {
      "loss": value,
      "grad_norm": grad_norm,
      "learning_rate": jnp.asarray(learning_rate, jnp.float32),
      "num_keys": num_keys.astype(jnp.float32),
      "skipped": state.skipped.astype(jnp.float32),
      "skipped_in_row": state.skipped_in_row.astype(jnp.float32),
    }

  return train_step


def _updated(
  state: TrainState,
  updates: optax.Updates,
  opt_state: optax.OptState,
  learning_rate: jax.Array,
  ema_decay: float,
) -> TrainState:
  """Moves the parameters, and their average after them.

  The average's decay grows with the steps t taken before, as min(ema_decay,
  (1 + t) / (10 + t)), the rule of TensorFlow's ExponentialMovingAverage [ours]:
  of a constant 0.999 the parameters that a run began with would still be 22 %
  after 1500 steps.
  """
  params = jax.tree.map(
    lambda p, u: p - learning_rate * u, state.params, updates
  )
  decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
  ema_params = jax.tree.map(
    lambda e, p: e * decay + p * (1 - decay),
    state.ema_params,
    params if state.ema_params else {},
  )
  return state.replace(
    params=params, ema_params=ema_params, opt_state=opt_state
  )


def _next_state(
  state: TrainState, updated: TrainState, finite: jax.Array
) -> TrainState:
  """Takes the update if it is finite; counts it in any case."""
  kept = jax.tree.map(lambda n, o: jnp.where(finite, n, o), updated, state)
  left_out = 1 - finite.astype(jnp.int32)
  return kept.replace(
    step=state.step + 1,
    skipped=state.skipped + left_out,
    skipped_in_row=(state.skipped_in_row + 1) * left_out,
  )
