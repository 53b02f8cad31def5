"""Small filters: Gaussian kernels, and their correlation with an image."""

import numpy as np


def radius(sigma: float) -> int:
  """px that a Gaussian kernel reaches: four standard deviations, rounded."""
  return int(4.0 * sigma + 0.5)


def gaussian_kernel(
  sigma: float, other: float, *, angle: float = 0.0
) -> np.ndarray:
  """Samples a Gaussian of sum 1.

  Args:
    sigma: standard deviation along its first axis, px; 0 for none.
    other: that along its second axis.
    angle: of the first axis, radians from the columns' direction downwards.

  Returns:
    `[2 r + 1, 2 r + 1]` float64, r the radius of the larger one.
  """
  reach = radius(max(sigma, other))
  y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
  along = x * np.cos(angle) + y * np.sin(angle)
  across = y * np.cos(angle) - x * np.sin(angle)
  # A standard deviation of a tenth of a pixel already leaves its neighbours
  # nothing, exp(-50), and divides.
  sigma, other = max(sigma, 0.1), max(other, 0.1)
  kernel = np.exp(-0.5 * ((along / sigma) ** 2 + (across / other) ** 2))
  return kernel / kernel.sum()


def correlate(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
  """Correlates every channel with a kernel of odd sides.

  The image is mirrored at its border, the edge repeated. The sum is taken in
  the same order at every pixel, so that a part of an image comes out as in the
  whole, bit for bit.

  Args:
    image: `[H, W, C]` float.
    kernel: `[2 r + 1, 2 r + 1]`.

  Returns:
    Same shape and dtype as the image.
  """
  height, width = image.shape[:2]
  reach = len(kernel) // 2
  pad = ((reach, reach), (reach, reach), (0, 0))
  padded = np.pad(image, pad, mode="symmetric")
  total = np.zeros_like(image)
  for (row, column), weight in np.ndenumerate(kernel.astype(image.dtype)):
    if weight:
      total += weight * padded[row : row + height, column : column + width]
  return total
