"""Learning-rate schedules and the optimizer, as pure functions of a config."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

Schedule = Callable[[jax.Array | int], jax.Array]


def make_schedule(
  name: str,
  *,
  peak: float,
  num_steps: int,
  warmup_steps: int,
  hold_steps: int,
  milestones: Sequence[int],
  factor: float,
  final: float,
) -> Schedule:
  """Learning rate as a function of the step alone: resuming needs no state.

  Args:
    name: "multistep" or "cosine".
    peak: learning rate after the warm-up.
    num_steps: steps of the whole run; where the cosine ends.
    warmup_steps: steps of linear growth from 0 to `peak`; 0 for none.
    hold_steps: "cosine": steps at the peak between warm-up and cosine.
    milestones: "multistep": steps at which the rate is multiplied.
    factor: "multistep": by how much.
    final: "cosine": learning rate at `num_steps`.

  Raises:
    ValueError: the name is unknown, or the steps or rates do not fit.
  """
  if warmup_steps < 0 or hold_steps < 0:
    raise ValueError(
      f"config.schedule.{warmup_steps=} and {hold_steps=} must be at least 0"
    )
  start = warmup_steps + hold_steps  # of the cosine
  if start >= num_steps:
    raise ValueError(
      f"config.schedule.{warmup_steps=} and {hold_steps=} must leave some of"
      f" config.train.{num_steps=}"
    )
  if not 0 <= final <= peak or peak == 0:
    raise ValueError(
      f"config.schedule.{peak=} must be positive, and {final=} between 0 and it"
    )
  if name == "multistep":
    if hold_steps:
      raise ValueError(
        f"config.schedule.{hold_steps=} is of 'cosine'; 'multistep' stays at"
        " the peak until its first milestone"
      )
    if list(milestones) != sorted(set(milestones)):
      raise ValueError(f"config.schedule.{milestones=} must grow")
    schedule = optax.piecewise_constant_schedule(
      peak, {int(step): factor for step in milestones}
    )
  elif name == "cosine":
    cosine = optax.cosine_decay_schedule(peak, num_steps - start, final / peak)
    schedule = lambda step: cosine(jnp.maximum(step - start, 0))  # noqa: E731
  else:
    raise ValueError(
      f"unknown config.schedule.name {name!r}; use 'multistep' or 'cosine'"
    )

  def with_warmup(step: jax.Array | int) -> jax.Array:
    growth = jnp.minimum((step + 1) / max(warmup_steps, 1), 1.0)
    return schedule(step) * growth

  return with_warmup


def make_optimizer(
  *,
  beta1: float,
  beta2: float,
  epsilon: float,
  weight_decay: float,
  grad_clip_norm: float,
) -> optax.GradientTransformation:
  """AdamW without its learning rate, which the train step multiplies in.

  Args:
    beta1: decay of the first moment.
    beta2: decay of the second moment.
    epsilon: added to the root of the second moment.
    weight_decay: decoupled; 0 makes this Adam.
    grad_clip_norm: largest global gradient norm; 0 for no clipping.
  """
  steps = []
  if grad_clip_norm > 0:
    steps.append(optax.clip_by_global_norm(grad_clip_norm))
  steps.append(optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon))
  if weight_decay > 0:
    steps.append(optax.add_decayed_weights(weight_decay))
  return optax.chain(*steps)
