"""Measures PSNR, SSIM and PSNR-B as the restoration literature does.

Every metric takes two uint8 images `[H, W, C]` (C = 3 RGB or 1 gray) and works
in float64. What changes published numbers is an argument, never a guess: the
channel, the border crop and the SSIM variant. The value for a data set is the
mean of the values of its images.
"""

from typing import Literal, get_args

import numpy as np

from semanir_jax.images.color import check_uint8, to_y

Channel = Literal["rgb", "y", "y_rounded"]
SsimVariant = Literal["valid", "zero_pad", "3d"]

_BLOCK = 8  # px, side of a JPEG block
_RADIUS = 5  # px, of the 11-tap window of SSIM
# scipy's name of each variant's border; "valid" crops what its border touches.
_SSIM_BORDER = {"valid": "mirror", "zero_pad": "constant", "3d": "nearest"}


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Quantises a float image: clip to [0, 1], x 255, round half to even.

  Args:
    image: any shape, floating point, nominal range [0, 1]; finite.

  Returns:
    uint8, same shape.

  Raises:
    ValueError: the image is not floating point, or holds NaN or infinity.

  Source: protocols 1.5.
  """
  image = np.asarray(image)
  if not np.issubdtype(image.dtype, np.floating):
    raise ValueError(
      f"to_uint8 takes a float image in [0, 1], got {image.dtype}; an integer"
      " image needs no quantisation"
    )
  if not np.isfinite(image).all():
    raise ValueError(
      "the image holds NaN or infinity, which has no uint8 value; find the"
      " operation that produced it"
    )
  # float32 is not widened: its halves survive x / 255 * 255 in float32 only.
  image = image.astype(np.result_type(image, np.float32))
  return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)


def psnr(
  a: np.ndarray,
  b: np.ndarray,
  *,
  crop_px: int = 0,
  channel: Channel = "rgb",
) -> float:
  """Measures the peak signal-to-noise ratio: 10 log10(255^2 / mean((a - b)^2)).

  Args:
    a: `[H, W, C]` uint8, RGB or gray.
    b: the other image, same shape.
    crop_px: pixels left out on every side; the scale in super-resolution, 0
      elsewhere.
    channel: "rgb" takes the mean over all samples; "y" and "y_rounded" compare
      the luma of `to_y`. They agree for gray images.

  Returns:
    dB; infinity for identical images.

  Raises:
    ValueError: dtype or shape is wrong, or nothing is left after the crop.

  Source: protocols 1.2.
  """
  a, b = _prepare(a, b, crop_px, channel)
  return _decibel(float(np.mean(np.square(a - b))))


def psnr_float(a: np.ndarray, b: np.ndarray, *, crop_px: int = 0) -> float:
  """Measures PSNR of a result that is clipped and not rounded to 8 bits.

  It is -10 log10(mean((a - b / 255)^2)), over all samples.

  Args:
    a: `[H, W, C]` float, nominal range [0, 1].
    b: the clean image, uint8, same shape.
    crop_px: as of `psnr`.

  Returns:
    dB; infinity for identical images.

  Raises:
    ValueError: as of `psnr`.

  Source: PromptIR, AdaIR, MoCE-IR, whose figures are of such results.
  """
  # float32 is not widened before, as in `to_uint8`: levels stay whole.
  levels = (np.clip(np.asarray(a), 0.0, 1.0) * 255.0).astype(np.float64)
  _, target = _prepare(to_uint8(a), b, crop_px, "rgb")
  rows, columns = (slice(crop_px, side - crop_px) for side in levels.shape[:2])
  return _decibel(float(np.mean(np.square(levels[rows, columns] - target))))


def ssim(
  a: np.ndarray,
  b: np.ndarray,
  *,
  variant: SsimVariant = "valid",
  crop_px: int = 0,
  channel: Channel = "rgb",
) -> float:
  """Measures the mean structural similarity, by 11 Gaussian taps, sigma 1.5.

  SSIM = (2 ma mb + C1) (2 sab + C2) / ((ma^2 + mb^2 + C1) (saa + sbb + C2)),
  with local means m and covariances s, C1 = 2.55^2 and C2 = 7.65^2.

  Args:
    a: `[H, W, C]` uint8, RGB or gray.
    b: the other image, same shape.
    variant: "valid" keeps only windows inside the image, per channel (SwinIR,
      KAIR, BasicSR, HAT, MATLAB's ssim_index). "zero_pad" sees zeros outside,
      per channel (GRL; 0.003 to 0.007 higher on usual data). "3d" also filters
      over the channels, edges repeated on all three axes (NAFNet, MATLAB's
      ssim of an RGB array); of one channel it is MATLAB's ssim of a gray image.
    crop_px: pixels left out on every side, before filtering.
    channel: as in `psnr`.

  Returns:
    SSIM in [-1, 1]; 1 for identical images. Never compare across variants.

  Raises:
    ValueError: as `psnr`; or an option is unknown; or the image is smaller than
      the window of "valid".

  Source: protocols 1.3. Departure: GRL rounds its taps to 6 decimals, which
  changes SSIM by less than 1e-6.
  """
  if variant not in _SSIM_BORDER:
    raise ValueError(
      f"variant={variant!r} is not one of {', '.join(_SSIM_BORDER)}"
    )
  a, b = _prepare(a, b, crop_px, channel)
  size = 2 * _RADIUS + 1
  if variant == "valid" and min(a.shape[:2]) < size:
    raise ValueError(
      f"variant='valid' needs {size} px on each side, got {a.shape[:2]} after"
      f" crop_px={crop_px}; crop less, use variant='zero_pad', or leave the"
      " image out"
    )
  return float(np.mean(_ssim_map(a, b, variant)))


def psnr_b(
  restored: np.ndarray,
  target: np.ndarray,
  *,
  crop_px: int = 0,
  channel: Channel = "rgb",
) -> float:
  """Measures PSNR, and charges steps of `restored` across 8x8 block borders.

  PSNR-B = mean over channels of 10 log10(255^2 / (MSE + BEF)), where BEF is the
  blocking effect factor of the restored image: the order of the arguments
  matters.

  Args:
    restored: `[H, W, C]` uint8, RGB or gray, both sides at least 16 px.
    target: the clean image, same shape.
    crop_px: pixels left out on every side; a multiple of 8, or the borders
      would not be those of the JPEG blocks.
    channel: as in `psnr`. FBCNN's colour PSNR-B takes BEF on Y only; none of
      these options is that.

  Returns:
    dB; infinity for identical images without blocking.

  Raises:
    ValueError: as `psnr`; or the crop or the sides do not fit the blocks.

  Source: protocols 1.4 (SwinIR, KAIR, GRL).
  """
  if crop_px % _BLOCK:
    raise ValueError(
      f"crop_px={crop_px} moves the {_BLOCK}x{_BLOCK} block grid of PSNR-B; use"
      f" a multiple of {_BLOCK} (the protocol uses 0)"
    )
  restored, target = _prepare(restored, target, crop_px, channel)
  if min(restored.shape[:2]) < 2 * _BLOCK:
    raise ValueError(
      f"PSNR-B needs {2 * _BLOCK} px on each side, two blocks, got"
      f" {restored.shape[:2]}; use psnr for so small an image"
    )
  mse = np.mean(np.square(restored - target), axis=(0, 1))
  total = mse + _blocking_effect(restored)
  return float(np.mean([_decibel(error) for error in total.tolist()]))


def _ssim_map(a: np.ndarray, b: np.ndarray, variant: SsimVariant) -> np.ndarray:
  """Maps the local SSIM of two float64 images `[H, W, C]`: `[C, H, W]`.

  The map of "valid" lacks 5 px on every side.
  """
  from scipy import ndimage  # 0.3 s that most programs save

  # Whole planes: twice as fast as filtering interleaved channels.
  a, b = (np.ascontiguousarray(x.transpose(2, 0, 1)) for x in (a, b))
  taps = np.exp(-0.5 * np.square(np.arange(-_RADIUS, _RADIUS + 1) / 1.5))
  taps /= taps.sum()

  def local_mean(x: np.ndarray) -> np.ndarray:
    for axis in (0, 1, 2) if variant == "3d" else (1, 2):
      x = ndimage.correlate1d(x, taps, axis, mode=_SSIM_BORDER[variant])
    if variant == "valid":
      x = x[:, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    return x

  mean_a, mean_b = local_mean(a), local_mean(b)
  product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
  covariance = local_mean(a * b) - product
  variances = local_mean(a * a + b * b) - squares  # of a plus of b
  c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
  similarity = (2.0 * product + c1) * (2.0 * covariance + c2)
  return similarity / ((squares + c1) * (variances + c2))


def _blocking_effect(image: np.ndarray) -> np.ndarray:
  """Returns the BEF of each channel of float64, in squared levels, `[C]`."""
  height, width = image.shape[:2]
  vertical = np.square(np.diff(image, axis=0))
  horizontal = np.square(np.diff(image, axis=1))
  across = vertical[_BLOCK - 1 :: _BLOCK].sum(axis=(0, 1))
  across = across + horizontal[:, _BLOCK - 1 :: _BLOCK].sum(axis=(0, 1))
  within = vertical.sum(axis=(0, 1)) + horizontal.sum(axis=(0, 1)) - across
  # The references' counts: one border too few where a side is no multiple of 8.
  num_across = height * (width // _BLOCK - 1) + width * (height // _BLOCK - 1)
  num_within = height * (width - 1) + width * (height - 1) - num_across
  excess = across / num_across - within / num_within
  eta = np.log2(_BLOCK) / np.log2(min(height, width))
  return np.where(excess > 0.0, eta * excess, 0.0)


def _decibel(mse: float) -> float:
  """Returns 10 log10(255^2 / mse); infinity for 0."""
  return float(10.0 * np.log10(255.0**2 / mse)) if mse else float("inf")


def _prepare(
  a: np.ndarray, b: np.ndarray, crop_px: int, channel: str
) -> tuple[np.ndarray, np.ndarray]:
  """Checks, crops and converts both images to `[H, W, C]` float64, 0 to 255."""
  if channel not in get_args(Channel):
    raise ValueError(f"channel={channel!r} is not one of {get_args(Channel)}")
  check_uint8(a)
  check_uint8(b)
  if a.shape != b.shape:
    raise ValueError(
      f"the images have shapes {a.shape} and {b.shape}; crop the target to the"
      " size of the restored image (modcrop: a multiple of the scale) and give"
      " both the same channels"
    )
  if crop_px < 0 or 2 * crop_px >= min(a.shape[:2]):
    raise ValueError(
      f"crop_px={crop_px} must be at least 0 and leave some of {a.shape[:2]}"
    )
  inside = slice(crop_px, -crop_px or None)
  a, b = a[inside, inside], b[inside, inside]
  if channel == "rgb":
    return a.astype(np.float64), b.astype(np.float64)
  rounded = channel == "y_rounded"
  return to_y(a, rounded=rounded), to_y(b, rounded=rounded)
