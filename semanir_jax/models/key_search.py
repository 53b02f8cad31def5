"""Which keys the layers of a stage attend to: SemanIR's way, and controls."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from semanir_jax.models.layers import FOUND, TransformerLayer, unit_length
from semanir_jax.ops import Dictionary, build_dictionary, random_dictionary

# "layer" is "stage", done again by every layer (`models.stage`).
DICTIONARIES = ("stage", "layer", "random")
SIMILARITIES = ("dot", "cosine")
SHIFTS = ("stage", "none")


def find_keys(
  x_BGNC: jax.Array,
  num_keys: jax.Array | int,
  *,
  dictionary: str = "stage",
  similarity: str = "dot",
  regions: np.ndarray | None = None,
  max_keys: int | None = None,
  platform: str | None = None,
  dtype: DTypeLike = jnp.float32,
) -> Dictionary:
  """The keys of every token of its window.

  Args:
    x_BGNC: `[B, G, N, C]` float32, the tokens to compare.
    num_keys: k in [1, N], or in [1, K]; may be traced.
    dictionary: one of `DICTIONARIES`; all but "random" compare tokens.
    similarity: "dot" products [paper], or "cosine" of the angle [ours].
    regions: `[G, N]` of `windows.regions`.
    max_keys: K for the dictionary's indices form, None for its bits.
    platform: see `ops.build_dictionary`.
    dtype: that the tokens are compared in.
  """
  where = {"regions": regions, "max_keys": max_keys, "platform": platform}
  if dictionary == "random":
    return random_dictionary(x_BGNC.shape[:3], num_keys, **where)
  if similarity == "cosine":
    x_BGNC = unit_length(x_BGNC)
  return build_dictionary(x_BGNC.astype(dtype), num_keys, **where)


class SearchingLayer(TransformerLayer):
  """The ablation of the shared dictionary: a layer that finds its own keys.

  Attributes:
    find_keys: of the layer's input `[B, G, N, C]` and k.
  """

  find_keys: Callable[[jax.Array, jax.Array], Dictionary] | None = None

  def __call__(
    self,
    x_BGNC: jax.Array,
    branch_scales: jax.Array | None,
    num_keys: jax.Array,
  ) -> tuple[jax.Array, None]:
    """As `TransformerLayer`, with k in place of the dictionary."""
    # Kept where a layer is computed again, as that of a stage is.
    dictionary = jax.tree.map(
      lambda x: checkpoint_name(x, FOUND), self.find_keys(x_BGNC, num_keys)
    )
    self.sow("intermediates", "dictionary", dictionary)
    return super().__call__(x_BGNC, branch_scales, dictionary)
