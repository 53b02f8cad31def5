"""Bicubic shrinking, for super-resolution."""

import dataclasses
from typing import Literal

import numpy as np

from semanir_jax.degradations.base import Context, Pair, Rng, modcrop
from semanir_jax.images import imresize
from semanir_jax.images.color import to_unit


@dataclasses.dataclass(frozen=True)
class Bicubic:
  """Shrinks the image with MATLAB's bicubic imresize, rounded to uint8.

  Attributes:
    scale: factor, 2 or more.
    rounding: "per_pass" gives the x2, x3 and x4 test files of SwinIR bit for
      bit, "once" its x8 files.

  Source: protocols 2 and 3.1; MANIFEST ("MATLAB bicubic").
  """

  scale: int
  rounding: Literal["per_pass", "once"] = "per_pass"

  def __post_init__(self) -> None:
    if not isinstance(self.scale, int) or self.scale < 2:
      raise ValueError(f"scale={self.scale!r} must be an integer, 2 or more")
    if self.rounding not in ("per_pass", "once"):
      raise ValueError(
        f"rounding={self.rounding!r} is neither 'per_pass' nor 'once'"
      )

  @property
  def multiple(self) -> int:
    return self.scale

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    del rng
    image = modcrop(image, self.multiple)
    small = imresize.imresize(image, 1 / self.scale, rounding=self.rounding)
    return to_unit(small), to_unit(image)

  def context(self, rng: Rng) -> Context:
    del rng
    side = 2 * self.scale  # half of the stretched kernel
    return side, side, side, side
