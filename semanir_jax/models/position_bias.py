"""The position bias: an MLP of the offset between two tokens of a window."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

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
    """Returns `[2P-1, 2P-1, A]` float32 in (0, 16), one number per offset."""
    x = jnp.asarray(relative_coordinates(window_size))
    x = nn.relu(linear(x, BIAS_HIDDEN, dtype=jnp.float32, name="hidden"))
    table = linear(
      x, self.num_heads, dtype=jnp.float32, name="heads", bias=False
    )
    return BIAS_BOUND * nn.sigmoid(table)


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
