"""White Gaussian noise."""

import dataclasses
from typing import ClassVar, Literal

import numpy as np

from semanir_jax.degradations.base import (
  Context,
  Pair,
  Rng,
  check_interval,
  check_share,
)
from semanir_jax.images.color import check_uint8, to_unit


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
  """Adds white Gaussian noise, which is not clipped by default.

  Attributes:
    sigma_255: standard deviation on the 0 to 255 scale; one number, or
      (low, high) to draw it uniformly for each image (blind denoising).
    channel_order: which colour gets the first of each pixel's three draws. The
      colour tests of SwinIR draw for BGR images, those of Restormer and KAIR
      for RGB; it matters only where a seed must give the same noise as theirs.
    stored: share of the images whose noise is clipped and rounded to 8 bits, as
      a file holds it.
    rounding: "nearest", or "down" as the cast to uint8 of the all-in-one papers
      (PromptIR, AdaIR, MoCE-IR); of `stored` images alone.

  For the test form, pass one number and a fresh np.random.RandomState(0) per
  image: the first draws are then the noise, in float64, row by row.

  Source: protocols 3.2.
  """

  sigma_255: float | tuple[float, float]
  channel_order: Literal["rgb", "bgr"] = "rgb"
  stored: float = 0.0
  rounding: Literal["nearest", "down"] = "nearest"
  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 1

  def __post_init__(self) -> None:
    check_interval("sigma_255", self.sigma_255, 0.0, 255.0)
    if self.channel_order not in ("rgb", "bgr"):
      raise ValueError(
        f"channel_order={self.channel_order!r} is neither 'rgb' nor 'bgr'"
      )
    check_share("stored", self.stored, "images")
    if self.rounding not in ("nearest", "down"):
      raise ValueError(
        f"rounding={self.rounding!r} is neither 'nearest' nor 'down'"
      )

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    check_uint8(image)
    low, high = check_interval("sigma_255", self.sigma_255, 0.0, 255.0)
    sigma = low if low == high else rng.uniform(low, high)
    noise = rng.normal(0.0, sigma / 255.0, image.shape)
    if self.channel_order == "bgr":
      noise = noise[:, :, ::-1]
    noisy = image / 255.0 + noise
    # Drawn behind the noise, so that a seed's noise is the same for any share.
    if self.stored and rng.random() < self.stored:
      levels = 255.0 * np.clip(noisy, 0.0, 1.0)
      down = self.rounding == "down"
      levels = np.floor(levels) if down else np.rint(levels)
      noisy = levels / 255.0
    return noisy.astype(np.float32), to_unit(image)

  def context(self, rng: Rng) -> Context:
    del rng
    return 0, 0, 0, 0
