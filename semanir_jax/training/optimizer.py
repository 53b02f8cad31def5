"""Learning-rate schedules and the optimizer, as pure functions of a config."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from absl import logging
from optax import contrib

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
  """Builds the learning rate as a function of the step: it has no state.

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
    if late := [step for step in milestones if step >= num_steps]:
      logging.warning(
        f"config.schedule.milestones: {late} are not reached in"
        f" config.train.{num_steps=}; the learning rate falls"
        f" {len(milestones) - len(late)} times"
      )
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
    return jnp.multiply(schedule(step), growth)

  return with_warmup


# They see coordinates or the image's few channels, as embeddings and heads do,
# which Muon is not for.
_NOT_FOR_MUON = (
  "conv_first",
  "conv_last",
  "upsampler/conv",  # of pixelshuffledirect: the last one
  "upsampler/last",
  "position_bias",
)


def make_optimizer(
  *,
  name: str,
  momentum: float,
  beta1: float,
  beta2: float,
  epsilon: float,
  weight_decay: float,
  grad_clip_norm: float,
) -> optax.GradientTransformation:
  """Builds AdamW or Muon without its learning rate, which the train step adds.

  Muon [Jordan 2024, https://kellerjordan.github.io/posts/muon] makes the update
  of a matrix orthogonal; here of the kernels of the linear maps and of the
  convolutions, as [3 x 3 x in, out], between the first and the last one. It is
  scaled to the size of Adam's [Liu et al. 2025, arXiv 2502.16982], so that both
  take the same learning rates. Adam with Nesterov momentum moves the others.

  Args:
    name: "adamw" or "muon".
    momentum: "muon": decay of the kernels' momentum.
    beta1: decay of the first moment of Adam.
    beta2: decay of the second moment of Adam.
    epsilon: added to the root of the second moment.
    weight_decay: decoupled, of all parameters; 0 for none.
    grad_clip_norm: largest global gradient norm; 0 for no clipping.

  Raises:
    ValueError: the name is unknown, or decay or norm is negative.
  """
  if weight_decay < 0 or grad_clip_norm < 0:
    raise ValueError(
      f"config.optimizer.{weight_decay=} and {grad_clip_norm=} must be at"
      " least 0"
    )
  if name == "adamw":
    scale = optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon)
  elif name == "muon":
    scale = contrib.muon(
      -1.0,  # the sign of a direction to be subtracted
      beta=momentum,
      eps=epsilon,
      adam_b1=beta1,
      adam_b2=beta2,
      muon_weight_dimension_numbers=_matrices,
      consistent_rms=0.2,
    )
  else:
    raise ValueError(
      f"unknown config.optimizer.name {name!r}; use 'adamw' or 'muon'"
    )
  clip = optax.identity()
  if grad_clip_norm > 0:
    clip = optax.clip_by_global_norm(grad_clip_norm)
  # All three in any case: a run can go on with another decay or bound, since
  # the tree of the state stays the same.
  return optax.chain(clip, scale, optax.add_decayed_weights(weight_decay))


def _matrices(params: Any) -> Any:
  """Says which axes of a kernel are its matrix's; None for what is no matrix.

  Those of a stage's layers are stacked: [layers, in, out].
  """

  def axes(path: Any, leaf: jax.Array) -> contrib.MuonDimensionNumbers | None:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if not name.endswith("kernel") or any(n in name for n in _NOT_FOR_MUON):
      return None
    if leaf.ndim == 4:
      return contrib.MuonDimensionNumbers((0, 1, 2), 3)
    return contrib.MuonDimensionNumbers(leaf.ndim - 2, leaf.ndim - 1)

  return jax.tree_util.tree_map_with_path(axes, params)
