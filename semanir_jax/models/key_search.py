"""Which keys the tokens of a stage attend to."""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from semanir_jax.ops import Dictionary, build_dictionary


class FindKeys(Protocol):
  """A function that finds the keys of every token in its window."""

  def __call__(
    self,
    x_BGNC: jax.Array,
    num_keys: jax.Array | int,
    *,
    regions: np.ndarray | None = None,
    max_keys: int | None = None,
    platform: str | None = None,
    dtype: DTypeLike = jnp.float32,
  ) -> Dictionary:
    """Finds the keys.

    Args:
      x_BGNC: `[B, G, N, C]` float32, the tokens to compare.
      num_keys: k in [1, N], or in [1, K]; may be traced.
      regions: `[G, N]` of `windows.regions`; keys are of the token's region.
      max_keys: K for the dictionary's indices form, None for its bits.
      platform: see `ops.build_dictionary`.
      dtype: that the tokens are compared in.

    Returns:
      The dictionary of all windows.
    """
    ...


def find_most_similar(
  x_BGNC: jax.Array,
  num_keys: jax.Array | int,
  *,
  regions: np.ndarray | None = None,
  max_keys: int | None = None,
  platform: str | None = None,
  dtype: DTypeLike = jnp.float32,
) -> Dictionary:
  """Finds the keys of largest dot product [paper]; see `FindKeys`."""
  return build_dictionary(
    x_BGNC.astype(dtype),
    num_keys,
    regions=regions,
    max_keys=max_keys,
    platform=platform,
  )


@dataclasses.dataclass(frozen=True)
class KeySearch:
  """Says how and where a stage's keys are found.

  Attributes:
    find: finds the keys of given tokens.
    in_every_layer: whether every layer finds the keys of its own input. SemanIR
      finds them once, at the stage's entry, for all layers [paper].
  """

  find: FindKeys = find_most_similar
  in_every_layer: bool = False
