"""A trained network in memory."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semanir_jax.degradations import bayer
from semanir_jax.models.semanir import SemanIR

# Of degradations with many options, those that say how much it takes.
_SHOWN = {"photo": ("read_255", "quality")}
_COLOURS = {1: "gray", 3: "RGB"}


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedNetwork:
  """What runs, and what it was trained with.

  Attributes:
    model: the Flax module.
    params: its parameters, nested dicts of float32 arrays on one device.
    config: of its training run, as nested dicts of plain JSON values.
  """

  model: SemanIR
  params: Mapping[str, Any]
  config: Mapping[str, Any]

  @property
  def degradation(self) -> Mapping[str, Any]:
    """Returns what it was trained against; empty for pairs of images."""
    return self.config["data"]["degradation"]

  @property
  def takes_mosaics(self) -> bool:
    """Says whether one channel means an RGGB mosaic (`bayer.is_mosaic`)."""
    return bayer.is_mosaic(self.degradation)

  def with_dtype(self, dtype: str | None) -> "LoadedNetwork":
    """Returns the network as it computes in another type.

    Args:
      dtype: of the operands of products, "float32" or "bfloat16"; None for
        what it computes in already.
    """
    if dtype is None:
      return self
    return dataclasses.replace(
      self, model=self.model.with_execution(dtype=dtype)
    )

  def describe(self, num_keys: int | None = None) -> str:
    """Says in a line what the network is for, and what it takes.

    Args:
      num_keys: k that it is used with; None for its own.
    """
    degradation = dict(self.degradation)
    task = degradation.pop("name", "pairs of images")
    values = "".join(
      f", {key} {value}"
      for key, value in degradation.items()
      if key in _SHOWN.get(task, degradation)
    )
    model = self.model
    before, after = (
      _COLOURS.get(channels, f"{channels} channels")
      for channels in (model.in_channels, model.out_channels)
    )
    return (
      f"{task}{values}; scale {model.scale}, {before} to {after}, window"
      f" {model.window_size}, k = {num_keys or model.num_keys}; sides are"
      f" padded to multiples of {model.size_multiple}"
    )
