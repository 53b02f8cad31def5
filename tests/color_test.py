"""Luma and gray: literals computed by hand, and what is refused."""

import numpy as np
import pytest

from semanir_jax.images import color

PRIMARIES = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]


def _pixels(*colors: list[int]) -> np.ndarray:
  return np.array([colors], np.uint8)


def test_to_y_is_bt601_studio_swing() -> None:
  y = color.to_y(_pixels(*PRIMARIES))
  assert y.shape == (1, 5, 1)
  assert y.dtype == np.float64
  expected = [16.0, 235.0, 81.481, 144.553, 40.966]
  np.testing.assert_allclose(y[0, :, 0], expected, rtol=0, atol=1e-12)


def test_rounded_y_rounds_to_the_nearest_integer_and_halves_up() -> None:
  y = color.to_y(_pixels(*PRIMARIES), rounded=True)
  assert y[0, :, 0].tolist() == [16, 235, 81, 145, 41]
  # 65481 * 0 + 128553 * 204 + 24966 * 68 = 255000 * 109.5, and two at 36.5.
  y = color.to_y(_pixels([0, 204, 68], [2, 44, 141], [5, 65, 25]), rounded=True)
  assert y[0, :, 0].tolist() == [126, 53, 53]


def test_gray_y_is_the_rounded_luma_in_uint8() -> None:
  image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
  gray = color.gray_y(image)
  assert gray.dtype == np.uint8
  np.testing.assert_array_equal(gray, color.to_y(image, rounded=True))


def test_rgb2gray_is_matlabs() -> None:
  gray = color.rgb2gray(_pixels(*PRIMARIES))
  assert gray.dtype == np.uint8
  assert gray[0, :, 0].tolist() == [0, 255, 76, 150, 29]
  levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
  np.testing.assert_array_equal(color.rgb2gray(levels), levels[:, :, :1])


def test_a_gray_image_is_its_own_luma() -> None:
  gray = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
  for same in (
    color.to_y(gray),
    color.to_y(gray, rounded=True),
    color.gray_y(gray),
    color.rgb2gray(gray),
  ):
    np.testing.assert_array_equal(same, gray)
  color.rgb2gray(gray)[:] = 0
  assert gray.max() == 255


@pytest.mark.parametrize(
  ("image", "message"),
  [
    (np.zeros((4, 4, 3), np.float32), "float32.*to_uint8"),
    (np.zeros((4, 4), np.uint8), r"\(4, 4\).*channel axis"),
    (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\).*alpha"),
    (np.zeros((0, 4, 3), np.uint8), "empty"),
    ([[1, 2]], "list"),
  ],
)
def test_other_images_are_refused(image: object, message: str) -> None:
  for function in (color.to_y, color.gray_y, color.rgb2gray):
    with pytest.raises(ValueError, match=message):
      function(image)
