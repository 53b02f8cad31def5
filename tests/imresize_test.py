"""imresize against MATLAB's files, published baselines and hand computation."""

import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from semanir_jax.evaluation import metrics
from semanir_jax.images.color import to_y
from semanir_jax.images.imresize import imresize

SET5 = ("baby", "bird", "butterfly", "head", "woman")


def _read(path: pathlib.Path) -> np.ndarray:
  image = np.asarray(Image.open(path))
  return image[:, :, None] if image.ndim == 2 else image


def _modcrop(image: np.ndarray, scale: int) -> np.ndarray:
  height, width = (side - side % scale for side in image.shape[:2])
  return image[:height, :width]


def _set5_pairs(
  root: pathlib.Path, scale: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """(low-resolution file, clean image cropped to scale times its size)."""
  for name in SET5:
    folder = root / "set5" / "lr_bicubic" / f"x{scale}"
    small = _read(folder / f"{name}x{scale}.png")
    clean = _read(root / "set5" / "hr" / f"{name}.png")
    yield small, _modcrop(clean, scale)


@pytest.mark.parametrize(
  ("scale", "rounding"),
  [(2, "per_pass"), (3, "per_pass"), (4, "per_pass"), (8, "once")],
)
def test_matlab_files_bit_for_bit(
  shared_data: pathlib.Path, scale: int, rounding: str
) -> None:
  for small, clean in _set5_pairs(shared_data, scale):
    ours = imresize(clean, 1 / scale, rounding=rounding)
    np.testing.assert_array_equal(ours, small)


@pytest.mark.parametrize(
  ("scale", "expected"),
  [
    (2, [33.678, 0.9304, 33.645, 0.9293, 0.9321, 31.795]),
    (3, [30.404, 0.8690, 30.386, 0.8678, 0.8726, 28.625]),
    (4, [28.431, 0.8113, 28.418, 0.8102, 0.8171, 26.695]),
  ],
)
def test_set5_bicubic_baseline_in_every_variant(
  shared_data: pathlib.Path, scale: int, expected: list[float]
) -> None:
  """Protocols 2: the shipped files, enlarged with one rounding."""
  rows = []
  for small, clean in _set5_pairs(shared_data, scale):
    pair = imresize(small, scale, rounding="once"), clean
    crop = {"crop_px": scale}
    rounded = crop | {"channel": "y_rounded"}
    rows.append(
      [
        metrics.psnr(*pair, **crop, channel="y"),
        metrics.ssim(*pair, **crop, channel="y"),
        metrics.psnr(*pair, **rounded),
        metrics.ssim(*pair, **rounded),
        metrics.ssim(*pair, **rounded, variant="zero_pad"),
        metrics.psnr(*pair, **crop),
      ]
    )
  half_digit = np.array([5e-4, 5e-5, 5e-4, 5e-5, 5e-5, 5e-4])
  assert (np.abs(np.mean(rows, axis=0) - expected) <= half_digit).all()


def _srcnn(clean: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
  """Rounded Y, down and up in floating point, one rounding at the end."""
  luma = to_y(clean, rounded=True)
  small = imresize(luma, 1 / scale, rounding="never")
  large = imresize(small, scale, rounding="never")
  return metrics.to_uint8(large / 255.0), luma.astype(np.uint8)


def _rgb(clean: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
  """Resized as RGB (gray too), each image rounded once."""
  clean = np.broadcast_to(clean, (*clean.shape[:2], 3))
  small = imresize(clean, 1 / scale, rounding="once")
  return imresize(small, scale, rounding="once"), clean


@pytest.mark.parametrize(
  ("protocol", "folder", "expected"),
  [
    (_srcnn, "set5/hr", [33.661, 30.392, 28.421]),
    (_srcnn, "set14", [30.232, 27.541, 26.000]),
    (_rgb, "set5/hr", [33.682, 30.405, 28.431]),
    (_rgb, "set14", [30.330, 27.634, 26.092]),
  ],
)
def test_bicubic_baselines_of_the_manifest(
  shared_data: pathlib.Path,
  protocol: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]],
  folder: str,
  expected: list[float],
) -> None:
  images = [_read(p) for p in sorted((shared_data / folder).glob("*.png"))]
  for scale, value in zip((2, 3, 4), expected, strict=True):
    pairs = [protocol(_modcrop(image, scale), scale) for image in images]
    psnrs = [metrics.psnr(*p, crop_px=scale, channel="y") for p in pairs]
    assert np.mean(psnrs) == pytest.approx(value, abs=5e-4)


def test_enlarging_by_hand() -> None:
  # Taps at 1.75 1.25 .75 .25 px: -3/128 -9/128 29/128 111/128, edges mirrored.
  image = np.array([0, 128], np.uint8)[None, :, None]
  flat = np.broadcast_to(image, (3, 2, 1))  # rows alike stay alike
  for row in imresize(flat, 2, rounding="never"):
    assert row[:, 0].tolist() == [-12.0, 26.0, 102.0, 140.0]
  assert imresize(image, 2)[0, :, 0].tolist() == [0, 26, 102, 140]
  column = imresize(image.swapaxes(0, 1), 2, rounding="never")
  assert column.shape == (4, 2, 1)
  assert column[:, 0, 0].tolist() == [-12.0, 26.0, 102.0, 140.0]


def test_shrinking_by_hand() -> None:
  # Taps at 3.5 2.5 1.5 .5 px: -1.5 -4.5 14.5 55.5 / 128, edges mirrored.
  image = np.array([0, 0, 0, 128], np.uint8)[None, :, None]
  image = np.repeat(image, 2, axis=0)
  small = imresize(image, 1 / 2, rounding="never")
  assert small[:, :, 0].tolist() == [[-6.0, 70.0]]
  assert imresize(image, 1 / 2)[:, :, 0].tolist() == [[0, 70]]


def test_rows_come_first_and_halves_round_up() -> None:
  # Two pixels shrink to their mean. Rows: (.5, 1.5), in uint8 (1, 2), whose
  # mean 1.5 gives 2. Columns first would give (1, 1), then 1. At once: 1.
  image = np.array([[0, 2], [1, 1]], np.uint8)[:, :, None]
  assert imresize(image, 1 / 2, rounding="per_pass").tolist() == [[[2]]]
  assert imresize(image, 1 / 2, rounding="once").tolist() == [[[1]]]
  image = np.array([[0, 0], [1, 0]], np.uint8)[:, :, None]
  assert imresize(image, 1 / 2, rounding="per_pass").tolist() == [[[1]]]
  assert imresize(image, 1 / 2, rounding="once").tolist() == [[[0]]]
  assert imresize(image, 1 / 2, rounding="never").tolist() == [[[0.25]]]


def test_sides_round_up_and_channels_are_independent() -> None:
  image = np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)
  small = imresize(image, 1 / 3)
  assert small.shape == (2, 3, 3)
  for channel in range(3):
    alone = imresize(image[:, :, channel : channel + 1], 1 / 3)
    np.testing.assert_array_equal(small[:, :, channel : channel + 1], alone)
  assert imresize(image, 1.5).shape == (8, 12, 3)


@pytest.mark.parametrize("scale", [1 / 8, 1 / 3, 1 / 2, 0.7, 1, 1.5, 3, 8])
def test_flat_images_stay_flat(scale: float) -> None:
  image = np.full((9, 1, 3), 201, np.uint8)
  assert (imresize(image, scale) == 201).all()
  assert (imresize(image, scale, rounding="once") == 201).all()


def test_scale_one_returns_the_image() -> None:
  image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
  before = image.copy()
  result = imresize(image, 1)
  result[:] = 0
  np.testing.assert_array_equal(image, before)
  np.testing.assert_array_equal(imresize(image, 1), image)


@pytest.mark.parametrize(
  ("image", "options", "message"),
  [
    (np.zeros((4, 4), np.uint8), {}, "channel axis"),
    (np.zeros((4, 0, 3), np.uint8), {}, r"H, W > 0.*\(4, 0, 3\)"),
    (np.zeros((4, 4, 3)), {}, "float64; quantise.*rounding='never'"),
    (np.zeros((4, 4, 3), np.uint16), {"rounding": "never"}, "uint16"),
    (np.zeros((4, 4, 3), np.uint8), {"scale": 0.0}, "scale=0.0"),
    (np.zeros((4, 4, 3), np.uint8), {"scale": float("nan")}, "scale=nan"),
    (np.zeros((4, 4, 3), np.uint8), {"rounding": "twice"}, "rounding='twice'"),
  ],
)
def test_unfit_input_is_refused(
  image: np.ndarray, options: dict[str, object], message: str
) -> None:
  with pytest.raises(ValueError, match=message):
    imresize(image, **({"scale": 0.5} | options))
