"""The position bias: an MLP of the offset between two tokens of a window."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from semanir_jax.models.affine import linear

BIAS_HIDDEN = 512  # hidden width of the MLP
BIAS_BOUND = 16.0  # largest position bias


class PositionBias(nn.Module):
  """Continuous position bias: an MLP of the offset between two tokens.

  Its parameters do not depend on the window size.
  """

  num_heads: int

  @nn.compact
  def __call__(self, window_size: int) -> jax.Array:
    """Returns `[A, N, N]` float32 in (0, 16), [head, query, key]."""
    x = jnp.asarray(relative_coordinates(window_size))
    x = nn.relu(linear(x, BIAS_HIDDEN, dtype=jnp.float32, name="hidden"))
    table = linear(
      x, self.num_heads, dtype=jnp.float32, name="heads", bias=False
    )
    return expand_offsets(BIAS_BOUND * nn.sigmoid(table), window_size)


def relative_coordinates(window_size: int) -> np.ndarray:
  """Returns log-spaced offsets between the tokens of a window.

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

  Products with matrices of zeros and ones, exact in float32, and so is the
  backward pass. Slices did the same, but their backward pass pads the A numbers
  of an offset to the 128 lanes of a TPU: by its compiler's estimate two thirds
  of a training step of SemanIR-S (docs/kernels.md). On a CPU products are
  faster as well.

  Args:
    table: `[2P-1, 2P-1, A]` float32, indexed as `relative_coordinates`.
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
