"""Falling snow: layers of flakes, from far and sharp to near and soft."""

import dataclasses
from typing import ClassVar

import numpy as np

from semanir_jax.degradations.base import (
  Context,
  Pair,
  Rng,
  check_interval,
  draw_integer,
  draw_log_uniform,
  draw_uniform,
  ends,
  happens,
)
from semanir_jax.degradations.camera import round_to_uint8
from semanir_jax.degradations.filters import line_kernel
from semanir_jax.images.color import check_uint8, to_unit

_Interval = float | tuple[float, float]
_SHAPES = 6  # of the flakes of a layer


@dataclasses.dataclass(frozen=True)
class Snow:
  """Lays gray snow over an image: J (1 - z) + a z.

  1 - z is the product of 1 - p over all flakes. The flakes of a layer are discs
  and polygons of about one radius, spread along about one line as they fall,
  and smoothed; the larger they are, the nearer and fainter they are. Their
  number is Poisson's, such that the mean of z is `coverage`.

  Attributes:
    coverage: mean of z, above 0 and below 0.8; one number, or (low, high) to
      draw its logarithm uniformly.
    layers: 1 to 8; one integer, or (low, high), both included.
    radius_px: of the flakes of a layer, 0.3 to 50; one number, or (low, high)
      to draw its logarithm uniformly.
    fall: length of the line they fall along, in radii; one number, or
      (low, high).
    angle: of that line, degrees, 90 for straight down; one number, or
      (low, high). Layers differ from it by about 5.
    opacity: p in the middle of the smallest flakes, 0 to 1; one number, or
      (low, high). It falls with the root of the radius.
    white: a, 0 to 1; one number, or (low, high).

  Source: real_degradations 4; Snow100K (DesnowNet), whose masks have means of
  0.02 to 0.25.
  """

  coverage: _Interval = (0.02, 0.25)
  layers: int | tuple[int, int] = (2, 4)
  radius_px: _Interval = (0.8, 16.0)
  fall: _Interval = (0.0, 4.0)
  angle: _Interval = (50.0, 130.0)
  opacity: _Interval = (0.5, 1.0)
  white: _Interval = (0.75, 1.0)
  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 1

  def __post_init__(self) -> None:
    low, _ = check_interval("coverage", self.coverage, 0.0, 0.8)
    if not low:
      raise ValueError(
        f"coverage={self.coverage} is no snow at 0; mix clean images in instead"
      )
    check_interval("layers", self.layers, 1, 8)
    check_interval("radius_px", self.radius_px, 0.3, 50.0)
    check_interval("fall", self.fall, 0.0, 20.0)
    check_interval("angle", self.angle, -180.0, 180.0)
    check_interval("opacity", self.opacity, 0.05, 1.0)
    check_interval("white", self.white, 0.0, 1.0)

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    check_uint8(image)
    white = draw_uniform(rng, self.white)
    mask = self.draw_mask(rng, image.shape)
    snowy = to_unit(image) * (1.0 - mask) + white * mask
    return to_unit(round_to_uint8(255.0 * snowy)), to_unit(image)

  def context(self, rng: Rng) -> Context:
    del rng
    return 0, 0, 0, 0

  def draw_mask(self, rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Draws z, `[H, W, 1]` float32 in 0 to 1, of an image's shape."""
    coverage = draw_log_uniform(rng, self.coverage)
    low, high = ends(self.layers)
    layers = draw_integer(rng, int(low), int(high))
    # Each adds its part to the logarithm of 1 - z.
    parts = rng.uniform(0.2, 1.0, layers)
    parts *= -np.log1p(-coverage) / parts.sum()
    angle = draw_uniform(rng, self.angle)
    free = np.ones(shape[:2], np.float32)
    for part in parts:
      flakes = self._flakes(rng, angle + rng.normal(0.0, 5.0))
      _strew(rng, free, flakes, part)
    return 1.0 - free[:, :, None]

  def _flakes(self, rng: Rng, angle: float) -> list[np.ndarray]:
    """Draws the flakes of a layer, `[2 r + 1, 2 r + 1]` float32 each."""
    from scipy import ndimage  # 0.3 s that most programs save

    size = draw_log_uniform(rng, self.radius_px)
    fall = draw_uniform(rng, self.fall)
    smallest = ends(self.radius_px)[0]
    opacity = draw_uniform(rng, self.opacity) * np.sqrt(smallest / size)
    flakes = []
    for _ in range(_SHAPES):
      radius = size * rng.uniform(0.6, 1.4)
      line = line_kernel(
        fall * radius * rng.uniform(0.7, 1.3),
        np.deg2rad(angle + rng.normal(0.0, 5.0)),
      )
      shape = np.pad(_polygon(rng, radius), len(line) // 2 + int(radius) + 2)
      flake = ndimage.convolve(shape, line, mode="constant")
      flake = ndimage.gaussian_filter(flake, 0.3 * radius, mode="constant")
      flakes.append((opacity * flake / flake.max()).astype(np.float32))
    return flakes


def _polygon(rng: Rng, radius: float) -> np.ndarray:
  """Draws a filled polygon of 3 to 7 corners or, as often, a disc.

  Its border is a pixel wide. `[2 r + 1, 2 r + 1]` float64, 0 to 1.
  """
  reach = int(np.ceil(1.3 * radius)) + 1
  y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
  if happens(rng, 0.5):
    distance = np.hypot(y, x) - radius
  else:
    sides = draw_integer(rng, 3, 7)
    turned = 2 * np.pi * (np.arange(sides) + rng.random()) / sides
    heights = radius * rng.uniform(0.6, 1.2, sides)
    planes = [
      y * np.sin(angle) + x * np.cos(angle) - height
      for angle, height in zip(turned, heights, strict=True)
    ]
    # Long corners are cut off.
    distance = np.maximum(np.max(planes, axis=0), np.hypot(y, x) - 1.3 * radius)
  return np.clip(0.5 - distance, 0.0, 1.0)


def _strew(
  rng: Rng, free: np.ndarray, flakes: list[np.ndarray], part: float
) -> None:
  """Multiplies `free`, `[H, W]`, by 1 - p of flakes at random places.

  Flakes also lie half outside. Every flake takes its share of `part`, the mean
  of -log of the factors' expectation.
  """
  # A flake of half the side r begins up to 2 r before the image.
  reach = 2 * max(len(flake) // 2 for flake in flakes)
  canvas = np.ones([side + 2 * reach for side in free.shape], np.float32)
  for flake in flakes:
    factor, side = 1.0 - flake, len(flake)
    places = [length - side + 1 for length in canvas.shape]
    mean = part / len(flakes) * np.prod(places) / flake.sum()
    corners = rng.uniform(0.0, places, (rng.poisson(mean), 2)).astype(int)
    for row, column in corners:
      canvas[row : row + side, column : column + side] *= factor
  free *= canvas[reach:-reach, reach:-reach]
