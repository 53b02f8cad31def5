"""MATLAB's bicubic imresize, bit for bit.

The low-resolution images of the super-resolution test sets were made with it,
and a resizer that differs (cv2.INTER_CUBIC has no antialiasing) moves even the
bicubic baseline by 0.6 dB.
"""

import functools
import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
  from scipy import sparse

Rounding = Literal["per_pass", "once", "never"]

_KERNEL_WIDTH = 4.0  # input px of the cubic kernel before it is stretched


def imresize(
  image: np.ndarray, scale: float, *, rounding: Rounding = "per_pass"
) -> np.ndarray:
  """Resizes an image like MATLAB's `imresize(image, scale, "bicubic")`.

  Cubic kernel with a = -0.5, stretched by 1 / scale when shrinking (that is the
  antialiasing), edge pixels mirrored; rows are resized before columns.

  Args:
    image: `[H, W, C]`; uint8, or floating point with rounding="never".
    scale: output side / input side, above 0; 1 / 4 makes an image four times
      smaller. Sides that are no multiple of 4 are then rounded up.
    rounding: where values are rounded (half up) and clipped to uint8.
      "per_pass": after the rows and again after the columns; the x2, x3 and x4
      files of Set5 were made so. "once": at the end only; the x8 files of Set5
      and the enlarged image of the bicubic baselines. "never": nowhere, nothing
      is clipped, and calls may be chained, as MATLAB does with a double image
      (the protocol of SRCNN).

  Returns:
    `[ceil(H * scale), ceil(W * scale), C]`; uint8, or float64 on the scale of
    the input with rounding="never".

  Raises:
    ValueError: not an image `[H, W, C]`, a dtype that the rounding does not
      fit, a scale that is not positive, or an unknown rounding.

  Source: protocols 2; MANIFEST ("MATLAB bicubic").
  """
  if rounding not in get_args(Rounding):
    raise ValueError(f"{rounding=} is not one of {get_args(Rounding)}")
  if np.ndim(image) != 3 or 0 in image.shape:
    raise ValueError(
      f"imresize takes an image [H, W, C] with H, W > 0, got {np.shape(image)};"
      " give a gray image its channel axis (image[..., None])"
    )
  floating = np.issubdtype(image.dtype, np.floating)
  if image.dtype != np.uint8 and not (floating and rounding == "never"):
    raise ValueError(
      f"imresize(rounding={rounding!r}) takes uint8, got {image.dtype};"
      " quantise with metrics.to_uint8, or resize floats with rounding='never'"
    )
  if not (math.isfinite(scale) and scale > 0.0):
    raise ValueError(f"scale={scale} must be a positive number, 1 / 4 say")
  columns = _resize_rows(image, scale)
  if rounding == "per_pass":
    columns = _round_uint8(columns)
  # The second pass works on rows as well: contiguous memory, twice as fast.
  result = _resize_rows(columns.swapaxes(0, 1), scale)
  if rounding != "never":
    result = _round_uint8(result)
  return np.ascontiguousarray(result.swapaxes(0, 1))


def _resize_rows(image: np.ndarray, scale: float) -> np.ndarray:
  """Resizes the first axis of `[H, W, C]`; float64."""
  height, *rest = image.shape
  rows = image.reshape(height, -1).astype(np.float64)
  return (_weights(height, float(scale)) @ rows).reshape(-1, *rest)


@functools.lru_cache(maxsize=128)
def _weights(size: int, scale: float) -> "sparse.csr_array":
  """Weighs input rows for each output row: `[size * scale, size]`.

  It is cached, since training asks for the same few sizes over and over.
  """
  from scipy import sparse  # 0.5 s that most programs save

  shrink = min(scale, 1.0)
  width = _KERNEL_WIDTH / shrink
  num_taps = math.ceil(width) + 2
  num_outputs = math.ceil(size * scale)
  # Pixels are counted from 1, as in MATLAB: a pixel's centre is its number.
  centre = np.arange(1, num_outputs + 1) / scale + 0.5 * (1.0 - 1.0 / scale)
  taps = np.floor(centre - width / 2)[:, None] + np.arange(num_taps)
  weights = shrink * _cubic(shrink * (centre[:, None] - taps))
  weights /= weights.sum(axis=1, keepdims=True)
  # ... 3 2 1 | 1 2 3 ... n | n n-1 ...
  position = (taps.astype(np.int64) - 1) % (2 * size)
  source = np.where(position < size, position, 2 * size - 1 - position)
  used = weights.any(axis=0)
  weights, source = weights[:, used], source[:, used]
  row_ends = np.arange(num_outputs + 1) * weights.shape[1]
  return sparse.csr_array(
    (weights.ravel(), source.ravel(), row_ends), shape=(num_outputs, size)
  )


def _cubic(x: np.ndarray) -> np.ndarray:
  """Evaluates Keys' cubic convolution kernel, a = -0.5, zero beyond 2."""
  x = np.abs(x)
  near = 1.5 * x**3 - 2.5 * x**2 + 1.0
  far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
  return np.where(x <= 1.0, near, np.where(x <= 2.0, far, 0.0))


def _round_uint8(image: np.ndarray) -> np.ndarray:
  """Rounds half up and clips to 0 to 255, as MATLAB's uint8() does."""
  return np.clip(np.floor(image + 0.5), 0.0, 255.0).astype(np.uint8)
