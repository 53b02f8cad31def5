"""Denoisers without a network, with the noise estimated, as users pick them.

Each takes and returns uint8 `[H, W, 3]`. Their packages are of the
extra `studies` and imported when they are asked for.
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np

from semanir_jax.evaluation.metrics import to_uint8
from semanir_jax.images.color import to_luma

Filter = Callable[[np.ndarray], np.ndarray]


def opencv_nlm(image: np.ndarray) -> np.ndarray:
  """OpenCV's fastNlMeansDenoisingColored with windows of 7 and 21 px.

  It filters lightness and colours. The strength is 0.6 of the luma's noise,
  the 10 of OpenCV's documentation where each channel has noise of 25.
  """
  luma = to_luma(image)
  strength = 0.6 * _estimated_sigma(luma)
  cv2 = _module("cv2")
  return cv2.fastNlMeansDenoisingColored(
    np.ascontiguousarray(image), None, strength, strength, 7, 21
  )


def skimage_wavelet(image: np.ndarray) -> np.ndarray:
  """scikit-image's denoise_wavelet (BayesShrink) on YCbCr."""
  _module("pywt")  # or scikit-image fails inside
  restoration = _module("skimage.restoration")
  result = restoration.denoise_wavelet(
    image / 255.0, channel_axis=-1, convert2ycbcr=True, rescale_sigma=True
  )
  return to_uint8(result)


def skimage_nlm(image: np.ndarray) -> np.ndarray:
  """scikit-image's denoise_nl_means, h = 0.8 sigma as in its gallery."""
  unit = image / 255.0
  sigma = _estimated_sigma(unit)
  result = _module("skimage.restoration").denoise_nl_means(
    unit,
    h=0.8 * sigma,
    sigma=sigma,
    patch_size=5,
    patch_distance=6,
    fast_mode=True,
    channel_axis=-1,
  )
  return to_uint8(result)


def bm3d(image: np.ndarray) -> np.ndarray:
  """CBM3D of the package bm3d, its default profile."""
  unit = image / 255.0
  # It divides by the deviation: noise of a tenth of a level is as good as none.
  sigma = max(_estimated_sigma(unit), 0.1 / 255.0)
  return to_uint8(_module("bm3d").bm3d_rgb(unit, sigma))


# Denoisers, and the module and the package that each of them needs.
FILTERS: Mapping[str, tuple[Filter, str, str]] = {
  "opencv_nlm": (opencv_nlm, "cv2", "opencv-python-headless"),
  "skimage_wavelet": (skimage_wavelet, "pywt", "PyWavelets"),
  "skimage_nlm": (skimage_nlm, "skimage.restoration", "scikit-image"),
  "bm3d": (bm3d, "bm3d", "bm3d"),
}


def open_filter(name: str) -> tuple[Filter, str]:
  """Finds a denoiser, and the version of what computes it.

  Args:
    name: of `FILTERS`.

  Raises:
    ValueError: its package is not installed.
  """
  run, module, package = FILTERS[name]
  _module(module)
  if name == "skimage_wavelet":
    package = "scikit-image"
  return run, f"{package} {importlib.metadata.version(package)}"


def _estimated_sigma(image: np.ndarray) -> float:
  """Standard deviation of white noise, by the finest wavelets' median; mean
  over the channels, on the scale of the image.
  """
  _module("pywt")
  return float(
    _module("skimage.restoration").estimate_sigma(
      image, channel_axis=-1, average_sigmas=True
    )
  )


def _module(name: str) -> ModuleType:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    package = next(p for _, module, p in FILTERS.values() if module == name)
    raise ValueError(
      f"{package} is not installed; pip install {package}, or leave its"
      " method out (--methods)"
    ) from error
