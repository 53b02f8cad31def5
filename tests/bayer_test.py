"""The Bayer mosaic and Malvar's filters, against literals and test sets."""

import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from semanir_jax import degradations
from semanir_jax.degradations import bayer
from semanir_jax.evaluation import metrics

# Eighths; from Malvar, He and Cutler's figure, as in protocols 3.4.
GREEN = [
  [0, 0, -1, 0, 0],
  [0, 0, 2, 0, 0],
  [-1, 2, 4, 2, -1],
  [0, 0, 2, 0, 0],
  [0, 0, -1, 0, 0],
]
IN_ROW = [
  [0, 0, 0.5, 0, 0],
  [0, -1, 0, -1, 0],
  [-1, 4, 5, 4, -1],
  [0, -1, 0, -1, 0],
  [0, 0, 0.5, 0, 0],
]
OPPOSITE = [
  [0, 0, -1.5, 0, 0],
  [0, 2, 0, 2, 0],
  [-1.5, 0, 6, 0, -1.5],
  [0, 2, 0, 2, 0],
  [0, 0, -1.5, 0, 0],
]


def _random(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_mosaic_keeps_red_green_green_blue() -> None:
  image = np.arange(1, 13, dtype=np.uint8).reshape(2, 2, 3)
  expected = [[[1, 0, 0], [0, 5, 0]], [[0, 8, 0], [0, 0, 12]]]
  assert bayer.mosaic(image).tolist() == expected
  odd = bayer.mosaic(_random(5, 3, 3))
  assert (np.count_nonzero(odd, axis=2) <= 1).all()
  np.testing.assert_array_equal(odd[:4, :2], bayer.mosaic(odd[:4, :2]))


@pytest.mark.parametrize("shape", [(8, 10), (7, 9), (2, 2)])
def test_malvar_equals_the_published_kernels(shape: tuple[int, int]) -> None:
  sensor = _random(*shape)

  def filtered(kernel: list[list[float]]) -> np.ndarray:
    weights = np.array(kernel) / 8
    return ndimage.correlate(sensor.astype(float), weights, mode="mirror")

  green, opposite = filtered(GREEN), filtered(OPPOSITE)
  in_row, in_column = filtered(IN_ROW), filtered(np.transpose(IN_ROW).tolist())
  result = bayer.malvar(sensor)
  for row in range(shape[0]):
    for column in range(shape[1]):
      known = sensor[row, column]
      choices = {
        (0, 0): (known, green, opposite),
        (0, 1): (in_row, known, in_column),
        (1, 0): (in_column, known, in_row),
        (1, 1): (opposite, green, known),
      }[row % 2, column % 2]
      expected = [c if c is known else c[row, column] for c in choices]
      assert result[row, column].tolist() == expected  # exact in float32


def test_malvar_is_not_clipped() -> None:
  sensor = np.zeros((6, 6), np.uint8)
  sensor[2, 2] = 255  # red
  result = bayer.malvar(sensor)
  assert result[2, 2].tolist() == [255.0, 255 / 2, 255 * 0.75]
  assert result[4, 2, 1] == -255 / 8
  assert result[4, 2, 2] == -255 * 1.5 / 8


def test_malvar_returns_flat_colours_of_gray_exactly() -> None:
  assert (bayer.malvar(np.full((6, 4), 77, np.uint8)) == 77).all()


def test_a_gray_image_has_no_mosaic() -> None:
  with pytest.raises(ValueError, match=r"RGB image.*\(4, 4, 1\)"):
    bayer.mosaic(_random(4, 4, 1))


def test_a_sensors_image_is_filled_in_as_training_fills_it_in() -> None:
  image = _random(6, 8, 3)
  expected, _ = degradations.Demosaic()(np.random.default_rng(0), image)
  sensor = bayer.mosaic(image).sum(axis=2, dtype=np.uint8)
  assert expected.min() < 0 and expected.max() > 1  # not clipped
  np.testing.assert_array_equal(bayer.fill_in(sensor), expected)
  unit = sensor / np.float32(255)
  for same in (sensor.astype(np.uint16) * 257, unit):
    filled = bayer.fill_in(same)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(filled, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 4), (4, 7), (1, 1)])
def test_a_sensors_image_of_odd_sides_is_refused(shape) -> None:
  with pytest.raises(
    ValueError, match="even sides, not {}x{} px".format(*shape)
  ):
    bayer.fill_in(_random(*shape))


def _kodak_crop(image: np.ndarray) -> np.ndarray:
  """The 500x500 form of the denoising papers (MANIFEST)."""
  if image.shape[1] > image.shape[0]:
    return image[6:506, 134:634]
  return image[134:634, 6:506]


def _whole(image: np.ndarray) -> np.ndarray:
  return image


@pytest.mark.parametrize(
  ("folder", "form", "mosaic", "malvar", "malvar_border_10"),
  [
    ("mcmaster", _whole, 9.168, 34.4515, 34.4254),
    ("kodak24", _kodak_crop, 8.432, 35.3681, 35.2945),
    # The paper's 35.78 is the 768x512 form, border 10: 35.7765.
    ("kodak24", _whole, 8.555, None, 35.7765),
    ("cbsd68", _whole, 8.434, 34.5073, None),
  ],
)
def test_psnr_of_mosaic_and_malvar_on_the_test_sets(
  shared_data: pathlib.Path,
  form: Callable[[np.ndarray], np.ndarray],
  folder: str,
  mosaic: float,
  malvar: float | None,
  malvar_border_10: float | None,
) -> None:
  """Mosaic: whole images; Malvar: cropped to multiples of 8, rounded uint8."""
  sums = np.zeros(3)
  paths = sorted((shared_data / folder).glob("*.png"))
  for path in paths:
    image = form(np.asarray(Image.open(path)))
    sums[0] += metrics.psnr(bayer.mosaic(image), image)
    lq, _ = degradations.Demosaic()(
      np.random.default_rng(0), degradations.modcrop(image, 8)
    )
    pair = metrics.to_uint8(lq), degradations.modcrop(image, 8)
    if malvar:
      sums[1] += metrics.psnr(*pair)
    if malvar_border_10:
      sums[2] += metrics.psnr(*pair, crop_px=10)
  expected = [mosaic, malvar or 0.0, malvar_border_10 or 0.0]
  errors = np.abs(sums / len(paths) - expected)
  assert (errors <= [5e-4, 5e-5, 5e-5]).all(), sums / len(paths)
