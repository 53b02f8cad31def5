"""All degradations: purity, options and the anchors of the test sets."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from semanir_jax.degradations import (
  Bicubic,
  Demosaic,
  GaussianNoise,
  Haze,
  Jpeg,
  Mixture,
  MotionBlur,
  Rain,
  Raindrop,
  Snow,
)
from semanir_jax.evaluation import metrics
from semanir_jax.images.color import gray_y

ALL = (
  GaussianNoise((0, 50)),
  Bicubic(3),
  Jpeg((10, 40)),
  Demosaic(),
  MotionBlur(),
  Rain(),
  Snow(),
  Raindrop(),
  Haze(),
  Mixture((GaussianNoise(25), Jpeg(10), Demosaic())),
)


def _rng(seed: int = 0) -> np.random.Generator:
  return np.random.default_rng(seed)


def _random(*shape: int) -> np.ndarray:
  return _rng(7).integers(0, 256, shape, dtype=np.uint8)


def _smooth(height: int, width: int) -> np.ndarray:
  """A colour image with gradients and edges, as JPEG likes them."""
  y, x = np.mgrid[:height, :width]
  planes = [2 * x + y, 255 * (x // 9 % 2), 128 + 90 * np.sin(y / 5)]
  return np.stack(planes, axis=-1).astype(np.uint8)


def _read_all(folder: pathlib.Path) -> list[np.ndarray]:
  images = [
    np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))
  ]
  return [i[:, :, None] if i.ndim == 2 else i for i in images]


@pytest.mark.parametrize("degradation", ALL, ids=lambda d: type(d).__name__)
def test_a_degradation_is_pure(degradation) -> None:
  image = _random(31, 47, 3)
  before, state = image.copy(), np.random.get_state()[1].copy()
  lq, hq = degradation(_rng(3), image)
  again, _ = degradation(_rng(3), image)
  np.testing.assert_array_equal(lq, again)
  np.testing.assert_array_equal(image, before)
  np.testing.assert_array_equal(np.random.get_state()[1], state)
  assert lq.dtype == hq.dtype == np.float32
  multiple, scale = degradation.multiple, degradation.scale
  height, width = 31 // multiple * multiple, 47 // multiple * multiple
  assert hq.shape == (height, width, 3)
  assert lq.shape == (height // scale, width // scale, 3)
  expected = image[:height, :width].astype(np.float32) / np.float32(255)
  np.testing.assert_array_equal(hq, expected)


@pytest.mark.parametrize(
  "degradation",
  [GaussianNoise(5), Bicubic(2), Jpeg(90), MotionBlur(), Rain(), Raindrop()],
  ids=repr,
)
def test_gray_images_stay_gray(degradation) -> None:
  lq, hq = degradation(_rng(), _random(16, 24, 1))
  assert hq.shape == (16, 24, 1)
  assert lq.shape == (16 // degradation.scale, 24 // degradation.scale, 1)


def test_gray_images_cannot_be_demosaicked() -> None:
  with pytest.raises(ValueError, match="RGB"):
    Demosaic()(_rng(), _random(16, 16, 1))


@pytest.mark.parametrize("degradation", ALL, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize(
  "image",
  [np.zeros((8, 8, 3)), _random(8, 8, 4), _random(8, 8), _random(0, 8, 3)],
  ids=["float", "alpha", "2-D", "empty"],
)
def test_unfit_images_are_refused(degradation, image: np.ndarray) -> None:
  with pytest.raises(ValueError, match="uint8 image|empty"):
    degradation(_rng(), image)


def test_noise_is_drawn_row_by_row_in_rgb_or_bgr() -> None:
  image = _random(5, 4, 3)
  draws = [1.76405235, 0.40015721, 0.97873798, 2.2408932]
  for order, first in (("rgb", draws[:3]), ("bgr", draws[2::-1])):
    noise = GaussianNoise(25, channel_order=order)
    lq, hq = noise(np.random.RandomState(0), image)
    pixel = (lq - hq)[0, 0] * 255 / 25
    np.testing.assert_allclose(pixel, first, rtol=0, atol=1e-5)
    second = (lq - hq)[0, 1, 0 if order == "rgb" else 2] * 255 / 25
    assert second == pytest.approx(draws[3], abs=1e-5)


def test_stored_noise_is_what_a_file_holds() -> None:
  image = _random(9, 7, 3)
  lq, hq = GaussianNoise(50)(np.random.RandomState(0), image)
  stored, same = GaussianNoise(50, stored=1.0)(np.random.RandomState(0), image)
  assert lq.min() < 0 and lq.max() > 1
  np.testing.assert_array_equal(metrics.to_uint8(stored), metrics.to_uint8(lq))
  np.testing.assert_allclose(stored * 255, np.rint(stored * 255), atol=1e-4)
  np.testing.assert_array_equal(same, hq)


def test_truncated_noise_is_the_cast_of_the_all_in_one_papers() -> None:
  image = _random(40, 30, 3)
  noise = np.random.RandomState(0).normal(0.0, 1.0, image.shape)
  cast = np.clip(image + 25 * noise, 0, 255).astype(np.uint8)
  degradation = GaussianNoise(25, stored=1.0, rounding="down")
  lq, _ = degradation(np.random.RandomState(0), image)
  np.testing.assert_array_equal(np.rint(255 * lq), cast)
  assert np.mean(255 * lq - np.clip(image + 25 * noise, 0, 255)) < -0.4
  every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
  still = GaussianNoise(0, stored=1.0, rounding="down")(_rng(), every)
  np.testing.assert_array_equal(*still)


def test_the_share_of_stored_noise_is_that_of_the_images() -> None:
  rng, image = np.random.RandomState(0), _random(9, 7, 3)
  noise = GaussianNoise(50, stored=0.25)
  stored = [noise(rng, image)[0].min() >= 0 for _ in range(400)]
  assert 70 <= sum(stored) <= 130  # 3.5 standard deviations


@pytest.mark.parametrize(
  ("folder", "channel_order", "expected"),
  [
    (
      "set12",
      "rgb",
      [(24.6385, 24.7036), (20.2015, 20.3688), (14.1809, 14.7878)],
    ),
    (
      "mcmaster",
      "bgr",
      [(24.6126, 25.1142), (20.1757, 20.8903), (14.1551, 15.3692)],
    ),
  ],
)
def test_noise_level_of_the_test_sets(
  shared_data: pathlib.Path,
  folder: str,
  channel_order: str,
  expected: list[tuple[float, float]],
) -> None:
  """PSNR of the noisy input, as it is and clipped to uint8."""
  images = _read_all(shared_data / folder)
  for sigma, values in zip((15, 25, 50), expected, strict=True):
    noise = GaussianNoise(sigma, channel_order=channel_order)
    psnrs = []
    for image in images:
      lq, hq = noise(np.random.RandomState(0), image)
      mse = np.mean(np.square(lq - hq, dtype=np.float64))
      clipped = metrics.psnr(metrics.to_uint8(lq), image)
      psnrs.append((-10 * np.log10(mse), clipped))
    np.testing.assert_allclose(
      np.mean(psnrs, axis=0), values, rtol=0, atol=5e-5
    )


@pytest.mark.parametrize("sigma", [(25.0,), (25.0, 25.0)])
def test_one_number_may_stand_alone_in_a_tuple(sigma) -> None:
  image = np.full((4, 5, 3), 128, np.uint8)
  noisy = [
    GaussianNoise(value)(np.random.RandomState(0), image)
    for value in (25.0, sigma)
  ]
  np.testing.assert_array_equal(noisy[0][0], noisy[1][0])


def test_blind_noise_fills_its_range() -> None:
  image = np.full((64, 64, 1), 128, np.uint8)
  noise, rng = GaussianNoise((10, 50)), _rng()
  sigmas = []
  for _ in range(200):
    lq, hq = noise(rng, image)
    sigmas.append(255 * np.std(lq - hq))
  assert 9.5 < min(sigmas) < 12 and 48 < max(sigmas) < 52
  assert np.mean(sigmas) == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
  ("scale", "rounding"), [(2, "per_pass"), (3, "per_pass"), (8, "once")]
)
def test_bicubic_input_is_the_test_file(
  shared_data: pathlib.Path, scale: int, rounding: str
) -> None:
  folder = shared_data / "set5"
  clean = np.asarray(Image.open(folder / "hr" / "bird.png"))
  path = folder / "lr_bicubic" / f"x{scale}" / f"birdx{scale}.png"
  lq, hq = Bicubic(scale, rounding)(_rng(), clean)
  np.testing.assert_array_equal(
    metrics.to_uint8(lq), np.asarray(Image.open(path))
  )
  assert hq.shape[0] == scale * lq.shape[0]


# LIVE1's SSIM and PSNR-B are in tests/evaluate_test.py, of quality 10.
JPEG_COLUMNS = {
  ("classic5", "gray"): [
    (27.8211, 0.7595, 25.2090),
    (30.1233, 0.8344, 27.5014),
    (31.4840, 0.8666, 28.9395),
    (32.4284, 0.8849, 29.9213),
  ],
  ("live1", "gray"): [(27.7698,), (30.0720,), (31.4074,), (32.3548,)],
  ("live1", "colour"): [(25.6925,), (28.0607,), (29.3659,), (30.2803,)],
}


@pytest.mark.parametrize(("folder", "form"), JPEG_COLUMNS)
def test_jpeg_columns(
  shared_data: pathlib.Path, folder: str, form: str
) -> None:
  """PSNR, valid SSIM and PSNR-B of the compressed images, q 10 20 30 40."""
  images = _read_all(shared_data / folder)
  if form == "gray":
    images = [gray_y(image) for image in images]
  columns = JPEG_COLUMNS[folder, form]
  for quality, expected in zip((10, 20, 30, 40), columns, strict=True):
    rows = []
    for image in images:
      lq, _ = Jpeg(quality)(_rng(), image)
      pair = metrics.to_uint8(lq), image
      measures = (metrics.psnr, metrics.ssim, metrics.psnr_b)[: len(expected)]
      rows.append([measure(*pair) for measure in measures])
    np.testing.assert_allclose(
      np.mean(rows, axis=0), expected, rtol=0, atol=5e-5
    )


def test_jpeg_halves_the_resolution_of_colour_only() -> None:
  image = np.zeros((32, 32, 3), np.uint8)
  image[:, ::2, 0] = image[:, 1::2, 2] = 200  # columns red, blue, red, ...
  lq, _ = Jpeg(100)(_rng(), image)
  chroma = lq[..., 0] - lq[..., 2]
  assert np.abs(chroma[:, ::2] - chroma[:, 1::2]).max() < 0.02
  image[:, ::2] = 200
  image[:, 1::2] = 0
  lq, hq = Jpeg(100)(_rng(), image)
  assert np.abs(lq - hq).max() < 0.02


def test_blind_jpeg_draws_both_ends_and_nothing_else() -> None:
  image, rng = _smooth(32, 32), _rng()
  expected = [Jpeg(q)(rng, image)[0].tobytes() for q in (10, 11)]
  drawn = {Jpeg((10, 11))(rng, image)[0].tobytes() for _ in range(40)}
  assert drawn == set(expected)
  assert len(drawn) == 2
