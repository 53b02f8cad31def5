"""Gaussian kernels, and correlation against scipy's."""

import numpy as np
import pytest
from scipy import ndimage

from semanir_jax.degradations.filters import (
  correlate,
  gaussian_kernel,
  line_kernel,
  path_kernel,
  radius,
)


@pytest.mark.parametrize("sigma", [0.7, 1.2, 2.0])
def test_an_even_kernel_is_the_outer_product_of_scipys(sigma: float) -> None:
  kernel = gaussian_kernel(sigma, sigma, angle=0.3)
  reach = radius(sigma)
  impulse = np.zeros(2 * reach + 1)
  impulse[reach] = 1
  line = ndimage.gaussian_filter1d(impulse, sigma, radius=reach)
  np.testing.assert_allclose(kernel, np.outer(line, line), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0])
def test_axes_have_their_deviations_and_directions(angle: float) -> None:
  kernel = gaussian_kernel(2.0, 1.2, angle=angle)
  reach = len(kernel) // 2
  y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
  turned = (
    x * np.cos(angle) + y * np.sin(angle),
    y * np.cos(angle) - x * np.sin(angle),
  )
  assert kernel.sum() == pytest.approx(1)
  for axis, sigma in zip(turned, (2.0, 1.2), strict=True):
    assert np.sum(kernel * axis**2) == pytest.approx(sigma**2, rel=0.01)
  assert np.sum(kernel * turned[0] * turned[1]) == pytest.approx(0, abs=0.01)


def test_no_deviation_leaves_the_image_alone() -> None:
  np.testing.assert_array_equal(gaussian_kernel(0.0, 0.0), [[1.0]])
  narrow = gaussian_kernel(0.0, 1.0)  # blurs along the second axis alone
  np.testing.assert_allclose(narrow.sum(axis=0)[len(narrow) // 2], 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_correlation_equals_scipys(dtype: type) -> None:
  rng = np.random.default_rng(0)
  image = rng.normal(size=(17, 23, 3)).astype(dtype)
  kernel = rng.normal(size=(7, 7))
  expected = [
    ndimage.correlate(image[:, :, channel], kernel, mode="reflect")
    for channel in range(3)
  ]
  result = correlate(image, kernel)
  assert result.dtype == dtype
  np.testing.assert_allclose(result, np.stack(expected, 2), atol=1e-4)


def test_a_part_is_filtered_as_in_the_whole_bit_for_bit() -> None:
  image = np.random.default_rng(0).normal(size=(40, 50, 3)).astype(np.float32)
  kernel = gaussian_kernel(1.2, 0.7, angle=1.0)
  reach = radius(1.2)
  part = correlate(image[10:35, 7:40], kernel)[reach:-reach, reach:-reach]
  whole = correlate(image, kernel)
  np.testing.assert_array_equal(
    part, whole[10 + reach : 35 - reach, 7 + reach : 40 - reach]
  )


def test_a_path_is_spread_bilinearly() -> None:
  points = np.array([[0.0, 0.0], [-1.5, 2.25], [2.0, -3.0]])
  expected = np.zeros((7, 7))
  expected[3, 3] += 1
  expected[5, 0] += 1
  for row, down in ((1, 0.5), (2, 0.5)):
    expected[row, 5] += 0.75 * down
    expected[row, 6] += 0.25 * down
  np.testing.assert_allclose(path_kernel(points), expected / 3, atol=1e-12)
  np.testing.assert_array_equal(path_kernel(np.zeros((4, 2))), [[1.0]])


@pytest.mark.parametrize(("length", "degrees"), [(9, 90), (20.5, 30), (40, 0)])
def test_a_line_has_its_length_and_its_direction(
  length: float, degrees: float
) -> None:
  angle = np.deg2rad(degrees)
  kernel = line_kernel(length, angle)
  reach = len(kernel) // 2
  y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
  along = x * np.cos(angle) - y * np.sin(angle)  # anticlockwise: upwards
  across = x * np.sin(angle) + y * np.cos(angle)
  assert kernel.sum() == pytest.approx(1)
  spread = np.sum(kernel * along**2)
  assert spread == pytest.approx(length**2 / 12, rel=0.1)
  assert np.sum(kernel * across**2) < 0.4
  np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)
