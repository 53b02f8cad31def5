"""Builds the key-semantic dictionary: one function, several programs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from semanir_jax.ops import triton_launch
from semanir_jax.ops.chunks import over_windows
from semanir_jax.ops.dictionary.selection import (
  Dictionary,
  select_keys,
  similarity,
)
from semanir_jax.ops.whole_numbers import whole_number


def build_dictionary(
  features: jax.Array,
  num_keys: jax.Array | int,
  *,
  regions: jax.Array | np.ndarray | None = None,
  max_keys: int | None = None,
  platform: str | None = None,
) -> Dictionary:
  """Finds the `num_keys` most similar tokens of every token of its window.

  Args:
    features: `[B, G, N, C]` float; the window's tokens at the stage's entry.
    num_keys: k in [1, N]; may be traced, so that another k does not recompile.
    regions: `[G, N]` integer shift regions, or None where all tokens of a
      window may see each other.
    max_keys: K, static. None gives the bits form, for which k has no bound but
      N; a number gives the indices form, with k in [1, K].
    platform: as in `ops.choose_implementation`. On `gpu` a Triton kernel
      builds the dictionary where it can, under a mesh inside `shard_map`;
      elsewhere XLA, a chunk of windows at a time.

  Returns:
    The dictionary; a row holds min(k, tokens of its region) keys.

  Raises:
    ValueError: `num_keys` or `max_keys` is out of range or no whole number (a
      traced `num_keys` cannot be checked: it is clipped to the range).

  Source: SemanIR, NeurIPS 2024, section 3 [paper].
  """
  b, g, num_tokens, _ = features.shape
  bound = num_tokens if max_keys is None else max_keys
  if not 1 <= bound <= num_tokens:
    raise ValueError(
      f"max_keys={max_keys} must lie in [1, {num_tokens}], the tokens of a"
      " window"
    )
  num_keys = whole_number(num_keys)
  if isinstance(num_keys, int) and not 1 <= num_keys <= bound:
    raise ValueError(
      f"num_keys={num_keys} must lie in [1, {bound}]; use fewer keys or a"
      " larger window"
    )
  num_keys = jnp.clip(num_keys, 1, bound)
  platform = platform or jax.default_backend()
  if platform == "gpu" and triton_launch.why_unavailable() is None:
    # Imported late: not every platform has Triton.
    from semanir_jax.ops.dictionary import triton_kernel

    if num_tokens <= triton_kernel.MOST_TOKENS:
      return triton_kernel.build_dictionary_triton(
        features, num_keys, regions=regions, max_keys=max_keys
      )

  def select(features: jax.Array, *regions: jax.Array) -> Dictionary:
    scores = similarity(features, *regions)
    return select_keys(scores, num_keys, max_keys, platform)

  arrays = [lax.stop_gradient(features)]
  if regions is not None:
    arrays.append(jnp.broadcast_to(regions, (b, g, num_tokens)))
  return over_windows(
    select,
    tuple(arrays),
    elements_per_window=b * num_tokens**2,
    platform=platform,
  )
