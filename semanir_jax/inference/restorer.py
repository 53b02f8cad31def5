"""Runs a network on batches of images of one size, whichever it is."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from semanir_jax.inference import ensemble
from semanir_jax.machine import sharding
from semanir_jax.models.semanir import SemanIR
from semanir_jax.models.windows import reflected_positions
from semanir_jax.ops import whole_number


class Restorer:
  """A network with its parameters, ready to restore images.

  Images are padded on the host to the sides the network pads to anyway, so that
  sizes which share a padded size share a compiled program.
  """

  def __init__(
    self, model: SemanIR, params: Mapping[str, Any], *, mesh: Mesh | None = None
  ) -> None:
    """Prepares a network.

    Args:
      model: the network.
      params: its parameters.
      mesh: of this process's devices (`sharding.make_local_mesh`), to split
        batches over; parameters that lie elsewhere are copied, for which all
        processes must get here. None for where `params` lie.
    """
    self.model = model
    self.params = params if mesh is None else sharding.to_local(params, mesh)
    self._mesh = mesh

  def __call__(
    self,
    images: np.ndarray,
    *,
    num_keys: int | None = None,
    self_ensemble: bool = False,
  ) -> np.ndarray:
    """Restores a batch of images of one size.

    Args:
      images: `[B, H, W, C]` float32 in [0, 1].
      num_keys: k in [1, max_keys of the model]; None for the model's own.
      self_ensemble: mean over the 8 flips and turns of the padded images, so
        that the windows of a turned image hold what those of the image hold;
        costs 8 times as much.

    Returns:
      `[B, H * S, W * S, C']` float32, not clipped.

    Raises:
      ValueError: channels or k do not fit the model.
    """
    num_keys = self.check_num_keys(num_keys)
    if images.shape[-1] != self.model.in_channels:
      raise ValueError(
        f"images of {images.shape[-1]} channels; this network takes"
        f" {self.model.in_channels}"
      )
    _, height, width, _ = images.shape
    padded = _pad_sides(images, self.model.size_multiple)
    run = functools.partial(self._restore, num_keys=num_keys)
    restored = ensemble.mean_of_8(run, padded) if self_ensemble else run(padded)
    scale = self.model.scale
    return restored[:, : height * scale, : width * scale]

  def _restore(self, padded: np.ndarray, *, num_keys: int) -> np.ndarray:
    """Restores images of padded sides; of a mesh, all devices get as many."""
    count = len(padded)
    if self._mesh is not None:
      rest = -count % self._mesh.size
      padded = np.concatenate([padded, np.repeat(padded[-1:], rest, axis=0)])
      padded = jax.device_put(padded, sharding.batch_sharding(self._mesh))
    restored = np.asarray(
      _run(self.model, self._mesh, self.params, padded, np.int32(num_keys))
    )
    return restored[:count]

  def check_num_keys(self, num_keys: int | None) -> int:
    """Returns the k to use, the model's own for None.

    Raises:
      ValueError: it is no whole number, or does not fit the model.
    """
    wanted = whole_number(self.model.num_keys if num_keys is None else num_keys)
    assert isinstance(wanted, int)  # nothing is traced out here
    if not 1 <= wanted <= self.model.max_keys:
      raise ValueError(
        f"num_keys={wanted} must lie in [1, {self.model.max_keys}], the most"
        " keys this network keeps"
      )
    return wanted


def forward(model: SemanIR, mesh: Mesh | None) -> Callable[..., jax.Array]:
  """Makes a function of parameters, images and k of a network, for `jax.jit`.

  Args:
    model: the network.
    mesh: devices that share a batch: each restores its own images with whole
      parameters and asks no other; None for one device.
  """

  def restore(params: Any, images: jax.Array, num_keys: jax.Array) -> jax.Array:
    restored = model.apply({"params": params}, images, num_keys=num_keys)
    assert isinstance(restored, jax.Array)  # nothing is mutable: no tuple
    return restored

  if mesh is None:
    return restore
  whole, rows = PartitionSpec(), PartitionSpec(mesh.axis_names)
  return jax.shard_map(
    restore,
    mesh=mesh,
    in_specs=(whole, rows, whole),
    out_specs=rows,
    check_vma=False,
  )


# One for all restorers, so that validation compiles only the first time.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(
  model: SemanIR,
  mesh: Mesh | None,
  params: Mapping[str, Any],
  images: Any,
  num_keys: Any,
) -> jax.Array:
  """Calls `forward`, compiled once for every model, mesh and padded size."""
  return forward(model, mesh)(params, images, num_keys)


def _pad_sides(images: np.ndarray, multiple: int) -> np.ndarray:
  """Does what `windows.pad_to_multiple` does, on the host."""
  for axis in (1, 2):
    size = images.shape[axis]
    positions = reflected_positions(size, -(-size // multiple) * multiple)
    images = np.take(images, positions, axis=axis)
  return images
