"""Train state and train step: one pure function of state and batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from semanir_jax.losses import Loss
from semanir_jax.models.semanir import SemanIR
from semanir_jax.training.optimizer import Schedule

Params = Mapping[str, Any]
Metrics = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
  """Everything that changes during training, but the data's position.

  Attributes:
    step: int32 scalar, updates tried so far.
    params: float32 parameters of the model.
    ema_params: their moving average; an empty dict where it is off.
    opt_state: optimizer state.
    rng: `[2]` uint32, the run's random key; each step folds its number in.
    skipped: int32 scalar, updates left out because they were not finite.
  """

  step: jax.Array
  params: Params
  ema_params: Params
  opt_state: optax.OptState
  rng: jax.Array
  skipped: jax.Array

  @property
  def eval_params(self) -> Params:
    """The parameters to evaluate and to ship: averaged ones if there are."""
    return self.ema_params or self.params


def create_state(
  model: SemanIR,
  optimizer: optax.GradientTransformation,
  *,
  seed: int,
  ema_decay: float,
) -> TrainState:
  """Initial state; call under `jit` with output shardings, so that no device
  ever holds more than its part.

  Args:
    model: the network.
    optimizer: see `make_optimizer`.
    seed: of parameters and of training's random choices.
    ema_decay: 0 for no moving average.
  """
  init_key, train_key = jax.random.split(jax.random.PRNGKey(seed))
  side = model.size_multiple
  images = jnp.zeros((1, side, side, model.in_channels))
  params = model.init(init_key, images)["params"]
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    ema_params=params if ema_decay > 0 else {},
    opt_state=optimizer.init(params),
    rng=train_key,
    skipped=jnp.zeros((), jnp.int32),
  )


def make_train_step(
  model: SemanIR,
  loss: Loss,
  optimizer: optax.GradientTransformation,
  schedule: Schedule,
  *,
  ema_decay: float,
  random_num_keys: Sequence[int],
) -> Callable[
  [TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]
]:
  """Builds the train step, to be jitted by the caller.

  Args:
    model: the network.
    loss: of (prediction, target).
    optimizer: see `make_optimizer`.
    schedule: learning rate by step.
    ema_decay: of the parameters' moving average; 0 for none.
    random_num_keys: k is drawn from these at each step, the same on all hosts
      (random-k training [paper]); empty for the model's own k at every step.

  Returns:
    `(state, {"lq", "hq"}) -> (state, metrics)`; the metrics are float32 scalars
    over the global batch: loss, grad_norm, learning_rate, num_keys, skipped. A
    step whose loss or gradient is not finite changes nothing but `step` and
    `skipped`.
  """
  choices = jnp.asarray(random_num_keys or [model.num_keys], jnp.int32)

  def train_step(
    state: TrainState, batch: Mapping[str, jax.Array]
  ) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(state.rng, state.step)
    drop_key, keys_key = jax.random.split(key)
    num_keys = jax.random.choice(keys_key, choices)

    def objective(params: Params) -> jax.Array:
      prediction = model.apply(
        {"params": params},
        batch["lq"],
        num_keys=num_keys,
        deterministic=False,
        rngs={"dropout": drop_key},
      )
      return loss(prediction, batch["hq"])

    value, grads = jax.value_and_grad(objective)(state.params)
    grad_norm = optax.global_norm(grads)
    learning_rate = schedule(state.step)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = jax.tree.map(
      lambda p, u: p - learning_rate * u, state.params, updates
    )
    finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
    keep = lambda new, old: jax.tree.map(  # noqa: E731
      lambda n, o: jnp.where(finite, n, o), new, old
    )
    params = keep(params, state.params)
    state = state.replace(
      step=state.step + 1,
      params=params,
      ema_params=jax.tree.map(
        lambda e, p: e * ema_decay + p * (1 - ema_decay),
        state.ema_params,
        params if state.ema_params else {},
      ),
      opt_state=keep(opt_state, state.opt_state),
      skipped=state.skipped + (1 - finite.astype(jnp.int32)),
    )
    return state, {
      "loss": value,
      "grad_norm": grad_norm,
      "learning_rate": jnp.asarray(learning_rate, jnp.float32),
      "num_keys": num_keys.astype(jnp.float32),
      "skipped": state.skipped.astype(jnp.float32),
    }

  return train_step
