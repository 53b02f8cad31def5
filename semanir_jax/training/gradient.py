"""Loss and gradient of a batch, over devices and over parts of a batch."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from semanir_jax.models.semanir import SemanIR
from semanir_jax.training.losses import Loss

Params = Mapping[str, Any]
# What has one row per image: the batch and its drop-path scales.
_Rows = tuple[Mapping[str, jax.Array], jax.Array | None]


def make_mean_gradient(
  model: SemanIR, loss: Loss, mesh: Mesh, *, accumulate: int
) -> Callable[..., tuple[jax.Array, Params]]:
  """Builds loss and gradient of a global batch, by devices that share it.

  Each device works on its own images with whole parameters, and only the mean
  of the gradients crosses devices. To the compiler it is left to gather
  parameters that are split over `fsdp`. Without `shard_map` it would also
  reduce every layer's position bias over devices, N x N per head.

  Args:
    model: the network.
    loss: of (prediction, target), a mean over images.
    mesh: devices that share a batch.
    accumulate: parts that each device computes its images in, one after the
      other; their gradients are added up before they cross devices. Devices
      and parts divide the batch (`phases.make_phases` sees to it).

  Returns:
    `(params, {"lq", "hq"}, branch_scales, num_keys) -> (loss, gradient)`.

  Raises:
    ValueError: `accumulate` is below 1; from the function, while it is traced:
      the model's output has not the shape of the target.
  """
  if accumulate < 1:
    raise ValueError(f"config.train.{accumulate=} must be at least 1")

  def objective(params: Params, rows: _Rows, num_keys: jax.Array) -> jax.Array:
    batch, branch_scales = rows
    prediction = model.apply(
      {"params": params},
      batch["lq"],
      num_keys=num_keys,
      branch_scales=branch_scales,
    )
    prediction = cast(jax.Array, prediction)  # a tuple only with `mutable`
    _check_same_shape(prediction, batch)
    return loss(prediction, batch["hq"])

  value_and_grad = jax.value_and_grad(objective)

  def local_gradient(
    params: Params, rows: _Rows, num_keys: jax.Array
  ) -> tuple[jax.Array, Params]:
    """Takes mean loss and gradient of this device's images, then of all."""
    gradient = lambda part: value_and_grad(params, part, num_keys)  # noqa: E731
    local = _mean_over_parts(gradient, params, rows, accumulate)
    # Over slices too: a TPU's compiler has each device send its part of what
    # its slice has reduced. After a mean over the slice it would send it whole.
    return jax.lax.pmean(local, mesh.axis_names)

  whole, split = PartitionSpec(), PartitionSpec(mesh.axis_names)
  over_devices = jax.shard_map(
    local_gradient,
    mesh=mesh,
    in_specs=(whole, split, whole),
    out_specs=whole,
    check_vma=False,
  )

  def mean_gradient(
    params: Params,
    batch: Mapping[str, jax.Array],
    branch_scales: jax.Array | None,
    num_keys: jax.Array,
  ) -> tuple[jax.Array, Params]:
    return over_devices(params, (batch, branch_scales), num_keys)

  return mean_gradient


def _mean_over_parts(
  gradient: Callable[[_Rows], tuple[jax.Array, Params]],
  params: Params,
  rows: _Rows,
  count: int,
) -> tuple[jax.Array, Params]:
  """Takes the mean of `gradient` over `count` equal parts, one by one."""
  if count == 1:
    return gradient(rows)

  def add_part(
    total: tuple[jax.Array, Params], part: _Rows
  ) -> tuple[tuple[jax.Array, Params], None]:
    return jax.tree.map(jnp.add, total, gradient(part)), None

  parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), rows)
  zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
  total, _ = jax.lax.scan(add_part, zeros, parts)
  return jax.tree.map(lambda x: x / count, total)


def _check_same_shape(
  prediction: jax.Array, batch: Mapping[str, jax.Array]
) -> None:
  """Refuses what a loss would broadcast, or fail on without naming the field.

  Raises:
    ValueError: the network does not return images of the target's shape.
  """
  if prediction.shape != batch["hq"].shape:
    raise ValueError(
      f"the network makes {prediction.shape} of {batch['lq'].shape} where the"
      f" target is {batch['hq'].shape}; set config.model.scale and"
      " config.model.out_channels to those of config.data"
    )
