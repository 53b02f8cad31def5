"""Range, luma and gray of images, as the test sets and the metrics define them.

Two gray conversions are in use and must not be mixed: the gray sets of JPEG
work (LIVE1, BSDS500, Urban100) are BT.601 luma, 16 to 235; BSD68 of denoising
is MATLAB's rgb2gray, 0 to 255.
"""

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601

# MATLAB's rgb2gray: the luma row of the inverse of its NTSC matrix.
_RGB2GRAY = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])


def check_uint8(image: np.ndarray) -> None:
  """Refuses all but uint8 `[H, W, 1]` and `[H, W, 3]` with H, W >= 1.

  Raises:
    ValueError: names the dtype and the shape found, and the remedy.
  """
  shape, dtype = np.shape(image), getattr(image, "dtype", type(image))
  if dtype != np.uint8 or len(shape) != 3 or shape[2] not in (1, 3):
    raise ValueError(
      f"expected a uint8 image [H, W, 1 or 3], got {dtype} {shape}; quantise"
      " floats with metrics.to_uint8, drop an alpha channel, and give a gray"
      " image its channel axis (image[..., None])"
    )
  if 0 in shape:
    raise ValueError(f"the image is empty: shape {shape}; skip or replace it")


def to_unit(pixels: np.ndarray) -> np.ndarray:
  """Maps integers to float32 in [0, 1], by their depth; keeps float32."""
  if pixels.dtype == np.float32:
    return pixels
  return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def is_gray(image: np.ndarray) -> bool:
  """Says whether all C channels of `[H, W, C]` are equal."""
  first = image[:, :, :1]
  return bool((image[:1] == first[:1]).all() and (image == first).all())


def to_luma(image: np.ndarray) -> np.ndarray:
  """BT.601 luma in full range, that of JPEG files.

  Args:
    image: `[H, W, 3]` RGB, uint8 or float32, of any scale.

  Returns:
    `[H, W, 1]` float32 on the scale of the input, not rounded.
  """
  return (image @ _LUMA)[:, :, None]


def to_y(image: np.ndarray, *, rounded: bool = False) -> np.ndarray:
  """Computes BT.601 studio-swing luma.

  Y = (65.481 R + 128.553 G + 24.966 B) / 255 + 16, from 16 to 235.

  Args:
    image: `[H, W, C]` uint8, RGB or gray. A gray image is its own luma and
      keeps its 0 to 255 range: it is not squeezed into the studio swing.
    rounded: to the nearest integer, as MATLAB's rgb2ycbcr, KAIR and GRL do;
      False keeps the fraction, as SwinIR, BasicSR and HAT do. The difference
      in PSNR is 0.01 to 0.03 dB.

  Returns:
    `[H, W, 1]` float64 in [0, 255].

  Raises:
    ValueError: not a uint8 `[H, W, 1 or 3]` image.

  Source: protocols 1.1.
  """
  check_uint8(image)
  if image.shape[2] == 1:
    return image.astype(np.float64)
  # 255000 (Y - 16) is an integer, so that halves round up exactly (194 of the
  # 256^3 colours are halves).
  luma = image.astype(np.int64) @ np.array([65_481, 128_553, 24_966])
  luma = luma[:, :, None]
  if rounded:
    return ((luma + 127_500) // 255_000 + 16).astype(np.float64)
  return luma / 255_000.0 + 16.0


def gray_y(image: np.ndarray) -> np.ndarray:
  """Makes the gray image of the JPEG test sets: BT.601 luma, rounded.

  Args:
    image: `[H, W, C]` uint8, RGB or gray; gray comes back unchanged.

  Returns:
    `[H, W, 1]` uint8, 16 to 235 for RGB.

  Raises:
    ValueError: not a uint8 `[H, W, 1 or 3]` image.

  Source: protocols 3.3; OpenCV's gray would move LIVE1's q 10 baseline from
  27.77 to 27.02 dB.
  """
  return to_y(image, rounded=True).astype(np.uint8)


def rgb2gray(image: np.ndarray) -> np.ndarray:
  """Makes BSD68's gray image: MATLAB's rgb2gray.

  Gray = 0.2989 R + 0.5870 G + 0.1140 B.

  Args:
    image: `[H, W, C]` uint8, RGB or gray; gray comes back unchanged.

  Returns:
    `[H, W, 1]` uint8, 0 to 255.

  Raises:
    ValueError: not a uint8 `[H, W, 1 or 3]` image.

  Source: data MANIFEST ("What the checks settled"). BSD68's own files differ
  from it by at most 1 level.
  """
  check_uint8(image)
  if image.shape[2] == 1:
    return image.copy()
  gray = image.astype(np.float64) @ _RGB2GRAY
  return np.floor(gray + 0.5).astype(np.uint8)[:, :, None]
