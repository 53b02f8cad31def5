"""Haze, which lets through the less of a thing the farther it is."""

import dataclasses
from typing import ClassVar

import numpy as np

from semanir_jax.degradations import scene
from semanir_jax.degradations.base import (
  Context,
  Pair,
  Rng,
  check_interval,
  draw_uniform,
)
from semanir_jax.degradations.camera import round_to_uint8
from semanir_jax.images.color import check_uint8, to_unit

_Interval = float | tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Haze:
  """Lays haze over an image: J t + A (1 - t), t = exp(-beta min(1 - d, 0.7)).

  d is the nearness, 0 to 1 (`scene.draw_nearness`), A gray. The result is
  rounded to 8 bits.

  Attributes:
    beta: 0 or more; one number, or (low, high).
    air: A, 0 to 1; one number, or (low, high).
    farthest: the most that 1 - d counts, 0 to 1.

  Source: real_degradations 4; OneRestore, whose depth maps are replaced by
  random ones.
  """

  beta: _Interval = (1.0, 2.0)
  air: _Interval = (0.6, 0.9)
  farthest: float = 0.7
  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 1

  def __post_init__(self) -> None:
    check_interval("beta", self.beta, 0.0, 20.0)
    check_interval("air", self.air, 0.0, 1.0)
    check_interval("farthest", self.farthest, 0.0, 1.0)

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    check_uint8(image)
    beta, air = draw_uniform(rng, self.beta), draw_uniform(rng, self.air)
    where = scene.place(rng, image.shape)
    depth = np.minimum(1.0 - scene.draw_nearness(rng, where), self.farthest)
    transmission = where.view(np.exp(-beta * depth))
    hazy = scene.veil(to_unit(image), transmission, air)
    return to_unit(round_to_uint8(255.0 * hazy)), to_unit(image)

  def context(self, rng: Rng) -> Context:
    del rng
    return 0, 0, 0, 0
