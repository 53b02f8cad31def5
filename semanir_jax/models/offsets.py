"""Offsets between the tokens of a window, as the position bias needs them."""

import jax
import jax.numpy as jnp
import numpy as np


def relative_coordinates(window_size: int) -> np.ndarray:
  """Log-spaced offsets between the tokens of a window.

  Args:
    window_size: P >= 2.

  Returns:
    `[2P-1, 2P-1, 2]` float32; entry (dy + P-1, dx + P-1) is the offset (dy, dx)
    from key to query, mapped to sign(t) log2(|t| + 1) / log2(8) of
    t = 8 * offset / (P - 1): at most 1.057 in size, whatever the window.

  Source: Swin V2, with GRL's constants.
  """
  offsets = np.arange(1 - window_size, window_size, dtype=np.float64)
  t = 8.0 * offsets / (window_size - 1)
  t = np.sign(t) * np.log2(np.abs(t) + 1.0) / np.log2(8.0)
  grid = np.stack(np.meshgrid(t, t, indexing="ij"), axis=-1)
  return grid.astype(np.float32)


def expand_offsets(table: jax.Array, window_size: int) -> jax.Array:
  """Spreads a value per offset to all pairs of tokens of a window.

  Static slices, not a gather by pair: the backward pass is then a sum of slices
  where a gather's would scatter N^2 numbers one by one.

  Args:
    table: `[2P-1, 2P-1, A]`, indexed as `relative_coordinates`.
    window_size: P.

  Returns:
    `[A, N, N]`; entry (a, i, j) is the value of the offset from token j to i.
  """
  p = window_size

  def expand(x: jax.Array) -> jax.Array:
    """`[2P-1, ...]` to `[P (query), P (key), ...]` along the leading axis."""
    return jnp.stack([x[p - 1 - j : 2 * p - 1 - j] for j in range(p)], axis=1)

  rows = jnp.moveaxis(expand(table), 2, 0)  # [2P-1 (x), yi, yj, A]
  pairs = expand(rows)  # [xi, xj, yi, yj, A]
  return pairs.transpose(4, 2, 0, 3, 1).reshape(-1, p * p, p * p)
