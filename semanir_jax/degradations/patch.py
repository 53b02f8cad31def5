"""Degrades a patch as if the whole image had been degraded."""

import numpy as np

from semanir_jax.degradations.base import Degradation, Pair, Rng, modcrop
from semanir_jax.degradations.mixture import Mixture


def degrade_patch(
  rng: Rng,
  image: np.ndarray,
  *,
  top: int,
  left: int,
  size: int,
  degradation: Degradation | Mixture,
) -> Pair:
  """Degrades one square patch as if the whole image had been degraded.

  The patch is degraded together with its context, then cut out: equal to the
  patch of the degraded image, and for JPEG equal in distribution (the coding
  grid lies at random).

  Args:
    rng: source of all randomness.
    image: `[H, W, C]` uint8, clean.
    top: first row of the patch; `left` its first column. Multiples of
      `degradation.multiple`.
    left: see `top`.
    size: side of the patch in clean px; a multiple of `degradation.multiple`.
    degradation: what to apply.

  Returns:
    lq `[size / scale, size / scale, C]` and hq `[size, size, C]`, float32.

  Raises:
    ValueError: the patch is off the grid or leaves the image.
  """
  multiple = degradation.multiple
  image = modcrop(image, multiple)
  height, width = image.shape[:2]
  if top % multiple or left % multiple or size % multiple:
    raise ValueError(
      f"{top=}, {left=} and {size=} must be multiples of {multiple} for"
      f" {degradation}"
    )
  if not (0 < size and 0 <= top <= height - size and 0 <= left <= width - size):
    raise ValueError(
      f"a patch of {size} px at ({top}, {left}) leaves the {height}x{width}"
      " image; choose a smaller patch or skip the image"
    )
  if isinstance(degradation, Mixture):
    degradation = degradation.sample(rng)  # each member has its own context
  above, below, before, after = degradation.context(rng)
  first_row, first_column = max(top - above, 0), max(left - before, 0)
  rows = slice(first_row, top + size + below)
  columns = slice(first_column, left + size + after)
  lq, hq = degradation(rng, image[rows, columns])

  def cut(degraded: np.ndarray, scale: int) -> np.ndarray:
    """Copies the patch, so that its context can be freed."""
    row, column = (top - first_row) // scale, (left - first_column) // scale
    side = size // scale
    return degraded[row : row + side, column : column + side].copy()

  return cut(lq, degradation.scale), cut(hq, 1)
