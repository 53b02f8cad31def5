"""A position bias of one number per offset, as forms of attention take it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LANES = 128  # of a vector of a TPU


def expand_offsets(table: jax.Array, window_size: int) -> jax.Array:
  """Spreads a value per offset to all pairs of tokens of a window.

  Products with matrices of zeros and ones, exact in float32, and so is the
  backward pass. Slices did the same, but their backward pass pads the A numbers
  of an offset to the 128 lanes of a TPU: by its compiler's estimate two thirds
  of a training step of SemanIR-S (docs/kernels.md). On a CPU products are
  faster as well.

  Args:
    table: `[2P-1, 2P-1, A]` float32; entry (dy + P-1, dx + P-1) is of the
      offset (dy, dx) from key to query.
    window_size: P.

  Returns:
    `[A, N, N]`; entry (a, i, j) is the value of the offset from token j to i.
  """
  p = window_size
  place = np.arange(p)
  offset = place[:, None] - place[None, :] + p - 1  # of query i, key j
  selects = jnp.asarray(offset[..., None] == np.arange(2 * p - 1), table.dtype)
  exact = lax.Precision.HIGHEST
  rows = jnp.einsum("yxa,ijx->ayij", table, selects, precision=exact)
  pairs = jnp.einsum("ayij,mny->aminj", rows, selects, precision=exact)
  return pairs.reshape(-1, p * p, p * p)


def flatten_offsets(offsets: jax.Array) -> jax.Array:
  """Lays a bias per offset out as the TPU's kernels read it.

  Args:
    offsets: `[2P-1, 2P-1, A]` float32, as of `expand_offsets`.

  Returns:
    `[A, 2, F]` float32, F a multiple of 128; half h of head a holds at P * dy +
    x the number of offset (dy, P * h + x), zeros where there is none.
  """
  m, _, a = offsets.shape
  p = (m + 1) // 2
  halves = jnp.pad(offsets.transpose(2, 0, 1), ((0, 0), (0, 0), (0, 1)))
  halves = halves.reshape(a, m, 2, p).transpose(0, 2, 1, 3)
  flat = halves.reshape(a, 2, m * p)
  return jnp.pad(flat, ((0, 0), (0, 0), (0, -(m * p) % LANES)))
