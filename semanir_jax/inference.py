"""Runs a network on images of any size."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from semanir_jax import sharding
from semanir_jax.models.semanir import SemanIR
from semanir_jax.models.windows import reflected_positions


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
      mesh: devices to split batches over, to which parameters that lie
        elsewhere are copied; None for where `params` lie.
    """
    self.model = model
    self.params = params if mesh is None else _on_mesh(params, mesh)
    self._mesh = mesh

  def __call__(
    self, images: np.ndarray, *, num_keys: int | None = None
  ) -> np.ndarray:
    """Restores a batch of images of one size.

    Args:
      images: `[B, H, W, C]` float32 in [0, 1].
      num_keys: k in [1, max_keys of the model]; None for the model's own.

    Returns:
      `[B, H * S, W * S, C']` float32, not clipped.

    Raises:
      ValueError: channels or k do not fit the model.
    """
    num_keys = self.checked_num_keys(num_keys)
    if images.shape[-1] != self.model.in_channels:
      raise ValueError(
        f"images of {images.shape[-1]} channels; this network takes"
        f" {self.model.in_channels}"
      )
    count, height, width, _ = images.shape
    padded = _pad_sides(images, self.model.size_multiple)
    if self._mesh is not None:
      rest = -count % self._mesh.size
      padded = np.concatenate([padded, np.repeat(padded[-1:], rest, axis=0)])
      padded = sharding.to_global(padded, sharding.batch_sharding(self._mesh))
    restored = np.asarray(
      _run(self.model, self.params, padded, np.int32(num_keys))
    )
    scale = self.model.scale
    return restored[:count, : height * scale, : width * scale]

  def checked_num_keys(self, num_keys: int | None) -> int:
    """The k to use, the model's own for None; ValueError if it does not fit."""
    num_keys = self.model.num_keys if num_keys is None else num_keys
    if not 1 <= num_keys <= self.model.max_keys:
      raise ValueError(
        f"num_keys={num_keys} must lie in [1, {self.model.max_keys}], the most"
        " keys this network keeps"
      )
    return num_keys


# One for all restorers, so that validation compiles only the first time.
@functools.partial(jax.jit, static_argnums=0)
def _run(
  model: SemanIR, params: Mapping[str, Any], images: Any, num_keys: Any
) -> jax.Array:
  """The network, compiled once for every model and padded size."""
  return model.apply({"params": params}, images, num_keys=num_keys)


def _on_mesh(params: Mapping[str, Any], mesh: Mesh) -> Mapping[str, Any]:
  """Copies parameters to all devices of a mesh, unless they lie there."""
  devices = set(mesh.devices.flat)

  def place(leaf: Any) -> Any:
    there = isinstance(leaf, jax.Array) and leaf.sharding.device_set == devices
    return leaf if there else jax.device_put(leaf, sharding.replicated(mesh))

  return jax.tree.map(place, params)


def _pad_sides(images: np.ndarray, multiple: int) -> np.ndarray:
  """`windows.pad_to_multiple`, on the host."""
  for axis in (1, 2):
    size = images.shape[axis]
    positions = reflected_positions(size, -(-size // multiple) * multiple)
    images = np.take(images, positions, axis=axis)
  return images
