"""Random keys in place of similar ones: the control of ablations."""

import jax
import jax.numpy as jnp
import numpy as np

from semanir_jax.ops.chunks import over_windows
from semanir_jax.ops.dictionary.selection import (
  Dictionary,
  disconnect,
  select_keys,
)

_SEED = 0


def random_dictionary(
  shape: tuple[int, int, int],
  num_keys: jax.Array | int,
  *,
  regions: jax.Array | np.ndarray | None = None,
  max_keys: int | None = None,
  platform: str | None = None,
) -> Dictionary:
  """Keeps random tokens of its window for every token, and the token itself.

  The keys depend on the token's place in its window alone: they are the same
  in all windows, images and calls, and those of a smaller k are among those of
  a larger one. Only regions make windows differ.

  Args:
    shape: B images, G windows, N tokens.
    num_keys: k in [1, N], or in [1, K]; may be traced.
    regions: `[G, N]` integer shift regions, or None.
    max_keys: K for the indices form, None for bits.
    platform: as in `build_dictionary`.

  Returns:
    The dictionary; a row holds min(k, tokens of its region) keys.

  Source: [ours]; what is left of SemanIR without its similarity.
  """
  b, g, n = shape
  # NumPy's, which is the same under every version and option of JAX.
  scores = np.random.RandomState(_SEED).rand(n, n).astype(np.float32)
  np.fill_diagonal(scores, 2.0)  # the largest of its row
  num_keys = jnp.clip(num_keys, 1, max_keys or n)

  def select(regions: jax.Array) -> Dictionary:
    return select_keys(
      disconnect(scores, regions), num_keys, max_keys, platform
    )

  if regions is None:
    regions = np.zeros((1, n), np.uint8)
  one_image = over_windows(
    select,
    (jnp.asarray(regions)[None],),
    elements_per_window=n**2,
    platform=platform,
  )
  return jax.tree.map(
    lambda x: jnp.broadcast_to(x, (b, g, *x.shape[2:])), one_image
  )
