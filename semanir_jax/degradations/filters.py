"""Small filters: Gaussians, paths, and their correlation with an image."""

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


def path_kernel(points: np.ndarray) -> np.ndarray:
  """Spreads a light that moves over points: each on its four nearest pixels.

  Args:
    points: `[n, 2]` float, px below and to the right of the middle; each stays
      for 1 / n of the time. Weights are bilinear.

  Returns:
    `[2 r + 1, 2 r + 1]` float64 of sum 1, r the least that holds them all.
  """
  reach = int(np.ceil(np.abs(points).max()))
  kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
  corner = np.floor(points).astype(int)
  rest = points - corner
  for down in (0, 1):
    for right in (0, 1):
      weight = np.abs(1 - down - rest[:, 0]) * np.abs(1 - right - rest[:, 1])
      # A point on the last pixel has no next one, and gives it nothing.
      row, column = np.minimum(corner + reach + (down, right), 2 * reach).T
      np.add.at(kernel, (row, column), weight)
  return kernel / len(points)


def line_kernel(length: float, angle: float) -> np.ndarray:
  """Spreads a light that moves evenly along a straight line.

  Args:
    length: px.
    angle: radians, anticlockwise from the direction of the rows.

  Returns:
    As of `path_kernel`.
  """
  # A quarter of a pixel apart, or nearer.
  along = np.linspace(-length / 2, length / 2, int(4 * length) + 1)
  return path_kernel(np.outer(along, [-np.sin(angle), np.cos(angle)]))


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
