"""Metrics against hand computation, naive loops, scikit-image and MATLAB."""

import itertools
import pathlib

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from semanir_jax.evaluation import metrics
from semanir_jax.images.imresize import imresize


def _noise_pair(*shape: int) -> tuple[np.ndarray, np.ndarray]:
  """Two correlated random images."""
  rng = np.random.default_rng(0)
  a = rng.integers(0, 256, shape)
  b = np.clip(a + rng.integers(-60, 61, shape), 0, 255)
  return a.astype(np.uint8), b.astype(np.uint8)


def _flat(level: int, *shape: int) -> np.ndarray:
  return np.full(shape, level, np.uint8)


def test_to_uint8_clips_and_rounds_half_to_even() -> None:
  for dtype in (np.float16, np.float32, np.float64):
    image = np.array([-1.0, 0.0, 1.0, 7.0], dtype)
    assert metrics.to_uint8(image).tolist() == [0, 0, 255, 255]
  for dtype in (np.float32, np.float64):
    halves = (np.arange(0, 255) + 0.5).astype(dtype)
    expected = [2 * ((i + 1) // 2) for i in range(255)]  # 0 2 2 4 4 ...
    assert metrics.to_uint8(halves / dtype(255)).tolist() == expected
    levels = np.arange(256, dtype=dtype)
    assert metrics.to_uint8(levels / dtype(255)).tolist() == list(range(256))


def test_to_uint8_refuses_what_has_no_value() -> None:
  for value in (np.nan, np.inf):
    with pytest.raises(ValueError, match="NaN or infinity"):
      metrics.to_uint8(np.array([0.5, value]))
  with pytest.raises(ValueError, match="int64"):
    metrics.to_uint8(np.array([1, 2]))


def test_psnr_literals() -> None:
  a = _flat(100, 6, 8, 3)
  assert metrics.psnr(a, a) == float("inf")
  assert metrics.psnr(_flat(0, 2, 2, 1), _flat(255, 2, 2, 1)) == 0.0
  # 20 log10(255)
  assert metrics.psnr(a, a + 1) == pytest.approx(48.130803608679, abs=1e-11)
  assert metrics.psnr(a + 1, a) == metrics.psnr(a, a + 1)
  one = a.copy()
  one[2, 3, 1] = 112  # 144 / (6 * 8 * 3) = 1: one mean over all samples
  assert metrics.psnr(a, one) == pytest.approx(48.130803608679, abs=1e-11)
  # Luma moves by 12 * 128.553 / 255 = 6.0496 in one of 48 pixels.
  expected = 10 * np.log10(255**2 / ((12 * 128.553 / 255) ** 2 / 48))
  assert metrics.psnr(a, one, channel="y") == pytest.approx(expected, abs=1e-9)
  # 16 + 100 * 219 / 255 = 101.88 and 107.93: 102 and 108.
  expected = 10 * np.log10(255**2 / (36 / 48))
  value = metrics.psnr(a, one, channel="y_rounded")
  assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_crop_leaves_out_that_many_pixels_on_every_side(metric) -> None:
  a, b = _noise_pair(24, 28, 3)
  cut = slice(3, -3)
  expected = metric(a[cut, cut], b[cut, cut])
  assert metric(a, b, crop_px=3) == expected
  assert metric(a, b) != expected


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.psnr_b])
def test_a_gray_image_has_one_value_whatever_the_channel(metric) -> None:
  a, b = _noise_pair(24, 28, 1)
  values = {metric(a, b, channel=c) for c in ("rgb", "y", "y_rounded")}
  assert len(values) == 1


def test_psnr_of_a_float_result_is_clipped_and_not_rounded() -> None:
  target = _flat(100, 12, 14, 3)
  result = np.full((12, 14, 3), 100.4 / 255)
  expected = 10 * np.log10(255**2 / 0.4**2)
  assert metrics.psnr_float(result, target) == pytest.approx(expected)
  assert metrics.psnr(metrics.to_uint8(result), target) == np.inf
  result[0] = 1.3  # the border is left out
  inner = metrics.psnr_float(result, target, crop_px=1)
  assert inner == pytest.approx(expected)
  white, beyond = _flat(255, 12, 14, 3), np.full((12, 14, 3), 1.7)
  assert metrics.psnr_float(beyond, white) == np.inf
  a, b = _noise_pair(20, 24, 3)
  value = metrics.psnr_float(a / np.float32(255), b)
  assert value == pytest.approx(metrics.psnr(a, b), abs=1e-6)
  with pytest.raises(ValueError, match="crop the target"):
    metrics.psnr_float(result, b)


@pytest.mark.parametrize("variant", ["valid", "zero_pad", "3d"])
def test_ssim_of_identical_images_is_one(variant: str) -> None:
  a, _ = _noise_pair(13, 17, 3)
  assert metrics.ssim(a, a, variant=variant) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("variant", ["valid", "3d"])
def test_ssim_of_flat_images_compares_their_means(variant: str) -> None:
  value = metrics.ssim(
    _flat(100, 12, 12, 3), _flat(110, 12, 12, 3), variant=variant
  )
  # (2 * 100 * 110 + 6.5025) / (100^2 + 110^2 + 6.5025)
  assert value == pytest.approx(22006.5025 / 22106.5025, abs=1e-12)


def test_zero_padded_ssim_of_a_single_pixel() -> None:
  # The centre tap 1 / (1 + 2 (e^(-1/4.5) + e^(-4/4.5) + ...)) is 0.266011725,
  # its square w = 0.070762238; 100 against 110 and zeros all around:
  w = 0.0707622378
  mean_a, mean_b = 100 * w, 110 * w
  cov, var = w * 11000 - mean_a * mean_b, w * 22100 - mean_a**2 - mean_b**2
  expected = (2 * mean_a * mean_b + 6.5025) * (2 * cov + 58.5225)
  expected /= (mean_a**2 + mean_b**2 + 6.5025) * (var + 58.5225)
  value = metrics.ssim(
    _flat(100, 1, 1, 1), _flat(110, 1, 1, 1), variant="zero_pad"
  )
  assert value == pytest.approx(expected, abs=1e-8)


def _naive_ssim(a: np.ndarray, b: np.ndarray, variant: str) -> float:
  """The definition, window by window, with a kernel that is not separated."""
  taps = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
  depth = taps if variant == "3d" else np.array([1.0])
  window = taps[:, None, None] * taps[None, :, None] * depth
  window /= window.sum()
  deep = 5 if variant == "3d" else 0
  pad = 0 if variant == "valid" else 5
  mode = "edge" if variant == "3d" else "constant"
  width = ((pad, pad), (pad, pad), (deep, deep))
  a, b = (np.pad(x.astype(float), width, mode=mode) for x in (a, b))
  values = []
  counts = [s - w + 1 for s, w in zip(a.shape, window.shape, strict=True)]
  for start in itertools.product(*map(range, counts)):
    at = tuple(
      slice(s, s + w) for s, w in zip(start, window.shape, strict=True)
    )
    p, q = a[at], b[at]
    mp, mq = (window * p).sum(), (window * q).sum()
    vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
    cov = (window * (p - mp) * (q - mq)).sum()
    luminance = (2 * mp * mq + 6.5025) / (mp**2 + mq**2 + 6.5025)
    values.append(luminance * (2 * cov + 58.5225) / (vp + vq + 58.5225))
  return float(np.mean(values))


@pytest.mark.parametrize("variant", ["valid", "zero_pad", "3d"])
@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_its_definition(variant: str, channels: int) -> None:
  a, b = _noise_pair(13, 12, channels)
  expected = _naive_ssim(a, b, variant)
  assert metrics.ssim(a, b, variant=variant) == pytest.approx(
    expected, abs=1e-9
  )


def test_valid_ssim_equals_scikit_image(shared_data: pathlib.Path) -> None:
  clean = np.asarray(Image.open(shared_data / "kodak24" / "kodim05.png"))
  blurred = imresize(imresize(clean, 1 / 2), 2)
  _, full = structural_similarity(
    clean, blurred, full=True, channel_axis=2, data_range=255,
    gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
  )  # fmt: skip
  expected = full[5:-5, 5:-5].mean()
  assert metrics.ssim(clean, blurred) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
  ("name", "expected_psnr", "expected_ssim"),
  [("baboon", 20.419710, 0.391853), ("comic", 20.239912, 0.567738)],
)
def test_basicsr_constants_verified_with_matlab(
  shared_data: pathlib.Path,
  name: str,
  expected_psnr: float,
  expected_ssim: float,
) -> None:
  """x4 bicubic of images cropped to multiples of 12, border 4 (BasicSR)."""
  clean = np.asarray(Image.open(shared_data / "set14" / f"{name}.png"))
  height, width = (side // 12 * 12 for side in clean.shape[:2])
  clean = clean[:height, :width]
  small = imresize(clean, 1 / 4, rounding="once")
  large = imresize(small, 4, rounding="once")
  value = metrics.psnr(large, clean, crop_px=4)
  assert value == pytest.approx(expected_psnr, abs=0.5e-6)
  value = metrics.ssim(large, clean, crop_px=4)
  assert value == pytest.approx(expected_ssim, abs=0.5e-6)


def test_psnr_b_charges_a_step_on_a_block_border() -> None:
  restored = _flat(0, 16, 16, 1)
  restored[:, 8:] = 10
  target = _flat(5, 16, 16, 1)
  # MSE 25. Border pairs: 16 + 16, of which 16 differ by 10: mean 50; others 0.
  # log2(8) / log2(16) = 3 / 4, so BEF = 37.5.
  expected = 10 * np.log10(65025 / 62.5)
  assert metrics.psnr_b(restored, target) == pytest.approx(expected, abs=1e-11)
  assert metrics.psnr_b(target, restored) == metrics.psnr(target, restored)


def test_psnr_b_ignores_a_step_inside_the_blocks() -> None:
  restored = _flat(0, 16, 16, 1)
  restored[:, 7:] = 10
  target = _flat(5, 16, 16, 1)
  assert metrics.psnr_b(restored, target) == metrics.psnr(restored, target)


def test_psnr_b_counts_like_the_references_off_the_grid() -> None:
  restored = _flat(0, 17, 16, 1)
  restored[16:] = 10  # rows 15 and 16 lie across a border that is not counted
  target = _flat(5, 17, 16, 1)
  # 16 steps of 100 over 17 * 1 + 16 * 1 = 33 pairs.
  expected = 10 * np.log10(65025 / (25 + 0.75 * 1600 / 33))
  assert metrics.psnr_b(restored, target) == pytest.approx(expected, abs=1e-11)


def test_psnr_b_takes_the_mean_of_the_channels_in_decibel() -> None:
  a, b = _noise_pair(24, 32, 3)
  a[:, 8:16] //= 2
  single = [
    metrics.psnr_b(a[..., i : i + 1], b[..., i : i + 1]) for i in (0, 1, 2)
  ]
  assert metrics.psnr_b(a, b) == pytest.approx(np.mean(single), abs=1e-11)


def test_psnr_b_of_identical_smooth_images_is_infinite() -> None:
  a = _flat(9, 16, 24, 3)
  assert metrics.psnr_b(a, a) == float("inf")


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.psnr_b])
def test_unfit_pairs_are_refused(metric) -> None:
  a = _flat(0, 32, 32, 3)
  with pytest.raises(
    ValueError, match=r"\(32, 32, 3\).*\(32, 30, 3\).*modcrop"
  ):
    metric(a, a[:, :30])
  with pytest.raises(ValueError, match="channels"):
    metric(a, a[..., :1])
  with pytest.raises(ValueError, match="to_uint8"):
    metric(a, a.astype(np.float32))
  with pytest.raises(ValueError, match="channel='Y'"):
    metric(a, a, channel="Y")
  for crop_px in (16, -8):
    with pytest.raises(ValueError, match="crop_px"):
      metric(a, a, crop_px=crop_px)


def test_unfit_options_are_refused() -> None:
  a = _flat(0, 24, 10, 3)
  with pytest.raises(ValueError, match="variant='same'"):
    metrics.ssim(a, a, variant="same")
  with pytest.raises(ValueError, match="11 px.*zero_pad"):
    metrics.ssim(a, a)
  with pytest.raises(ValueError, match="16 px"):
    metrics.psnr_b(a, a)
  with pytest.raises(ValueError, match="crop_px=4 moves the 8x8 block grid"):
    metrics.psnr_b(a, a, crop_px=4)
