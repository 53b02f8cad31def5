"""Image <-> windows: padding, shifting, partitioning. Pure functions of shapes.

Letters as in `semanir`.
"""

import jax
import jax.numpy as jnp
import numpy as np


def reflected_positions(size: int, padded: int) -> np.ndarray:
  """Returns the source of every padded position, mirrored without the edge.

  Goes back and forth as often as needed, so that a side of 1 can be padded to
  any length (numpy's `reflect` mode says the same, one reflection at a time).
  """
  period = max(2 * (size - 1), 1)
  position = np.arange(padded) % period
  return np.minimum(position, period - position) if size > 1 else position * 0


def pad_to_multiple(x_BHWC: jax.Array, multiple: int) -> jax.Array:
  """Reflect-pads the bottom and the right to multiples of `multiple` pixels.

  Args:
    x_BHWC: `[B, H, W, C]`, any H and W >= 1.
    multiple: side that must divide the padded height and width.

  Returns:
    `[B, H', W', C]` with H <= H' < H + multiple, likewise W'.

  Source: minimal reflect padding, as BasicSR's SwinIR evaluation does
  ([ours] in the specification, section 4).
  """
  for axis in (1, 2):
    size = x_BHWC.shape[axis]
    padded = -(-size // multiple) * multiple
    if padded != size:
      positions = reflected_positions(size, padded)
      x_BHWC = jnp.take(x_BHWC, positions, axis=axis)
  return x_BHWC


def shift_px(height: int, width: int, window_size: int) -> tuple[int, int]:
  """Returns the cyclic shift (down, right) of a stage, px: half a window.

  An axis with a single window is not shifted: there is no border between
  windows to cross, and the shift would only cut the window in two.
  """
  half = window_size // 2
  return (
    half if height > window_size else 0,
    half if width > window_size else 0,
  )


def partition(
  x_BHWC: jax.Array, window_size: int, shift: tuple[int, int] = (0, 0)
) -> jax.Array:
  """Cuts `[B, H, W, C]` into windows `[B, G, N, C]`, row by row.

  Args:
    x_BHWC: features; H and W are multiples of `window_size`.
    window_size: P, side of a window in tokens.
    shift: cyclic shift in tokens (up, left) applied before cutting.

  Raises:
    ValueError: H or W is not a multiple of `window_size`.
  """
  b, h, w, c = x_BHWC.shape
  p = window_size
  if h % p or w % p:
    raise ValueError(
      f"a {h}x{w} feature map cannot be cut into {p}x{p} windows; pad its sides"
      f" to multiples of {p} (windows.pad_to_multiple)"
    )
  if any(shift):
    x_BHWC = jnp.roll(x_BHWC, (-shift[0], -shift[1]), axis=(1, 2))
  x = x_BHWC.reshape(b, h // p, p, w // p, p, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, p * p, c)


def merge(
  x_BGNC: jax.Array, height: int, width: int, shift: tuple[int, int] = (0, 0)
) -> jax.Array:
  """Undoes `partition`: windows `[B, G, N, C]` to `[B, H, W, C]`."""
  b, _, n, c = x_BGNC.shape
  p = round(n**0.5)
  x = x_BGNC.reshape(b, height // p, width // p, p, p, c)
  x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, height, width, c)
  return jnp.roll(x, shift, axis=(1, 2)) if any(shift) else x


def regions(
  height: int, width: int, window_size: int, shift: tuple[int, int]
) -> np.ndarray | None:
  """Numbers the regions of tokens that were neighbours before a shift.

  The cyclic shift brings opposite borders of the image into one window. Tokens
  of one window may see each other only where their region is the same.

  Args:
    height: H of the feature map, a multiple of `window_size`; `width` likewise.
    window_size: P, side of a window in tokens.
    shift: cyclic shift in tokens, as given to `partition`.

  Returns:
    `[G, N]` uint8 region numbers, or None without a shift (one region).

  Source: Swin's nine-region mask; here a window never holds more than four.
  """
  if not any(shift):
    return None

  def axis_regions(size: int, offset: int) -> np.ndarray:
    """Returns 1 for positions that come from the opposite border."""
    return (np.arange(size) >= size - offset).astype(np.uint8)

  rows = axis_regions(height, shift[0])
  columns = axis_regions(width, shift[1])
  p = window_size
  grid = (2 * rows[:, None] + columns[None, :]).reshape(
    height // p, p, width // p, p
  )
  return grid.transpose(0, 2, 1, 3).reshape(-1, p * p)
