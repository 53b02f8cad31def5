"""Rain: streaks, and the veil of what is too far to be seen as streaks."""

import dataclasses
from typing import ClassVar

import numpy as np
from PIL import Image

from semanir_jax.degradations import scene
from semanir_jax.degradations.base import (
  Context,
  Pair,
  Rng,
  check_interval,
  check_share,
  draw_integer,
  draw_uniform,
  ends,
  happens,
)
from semanir_jax.degradations.camera import round_to_uint8
from semanir_jax.degradations.filters import (
  correlate,
  gaussian_kernel,
  line_kernel,
  radius,
)
from semanir_jax.images.color import check_uint8, to_unit

_Interval = float | tuple[float, float]
_SHARPEST_PX = 1.0  # the most that the blur of step 1 has


@dataclasses.dataclass(frozen=True)
class Rain:
  """Draws rain as the generator of Outdoor-Rain does, in its order.

  1. `blur`: a Gaussian of min(1, |N(0.5, 0.5)|) px. The target stays sharp.
  2. `streaks`: normal noise of `mean` and `variance`, clipped to [0, 1] and
     enlarged by `zoom`, bicubic; then S, the noise spread along a line of l px
     at an angle, not below 0. I = min(1, I + g (0.2 + 0.04 l + 0.05 u) S),
     g the `strength` and u uniform in 0 to 1.
  3. `veil`: I t + A (1 - t) with t = exp(-beta dep), dep = 1 / (d + 0.1) over
     its maximum, d the nearness, 0 to 1 (`scene.draw_nearness`); A gray.

  The result is clipped and rounded to 8 bits. Thin rain, as of Rain200L, is
  step 2 alone, of noise that is seldom above 0.

  Attributes:
    blur: share of the images that are blurred first.
    streaks: share of the images with streaks.
    mean: of the noise; one number, or (low, high).
    variance: of the noise; one number, or (low, high).
    zoom: 1 or more; one number, or (low, high).
    length_px: l; one integer, or (low, high), both included.
    angles: of which one is drawn, degrees; 90 falls straight down.
    strength: factor of the streaks; one number, or (low, high).
    veil: share of the images with a veil.
    beta: of the veil; one number, or (low, high).
    air: A, 0 to 1; one number, or (low, high).

  Source: real_degradations 3; Li et al. 2019 (Outdoor-Rain), whose depth maps
  are replaced by random ones.
  """

  blur: float = 1.0
  streaks: float = 1.0
  mean: _Interval = (-1.0, -0.8)
  variance: _Interval = (0.7, 1.0)
  zoom: _Interval = (1.01, 1.21)
  length_px: int | tuple[int, int] = (21, 60)
  angles: float | tuple[float, ...] = (80.0, 85.0, 90.0, 95.0, 100.0)
  strength: _Interval = 1.0
  veil: float = 1.0
  beta: _Interval = (2.6, 4.6)
  air: _Interval = (0.25, 0.95)
  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 1

  def __post_init__(self) -> None:
    for field in ("blur", "streaks", "veil"):
      check_share(field, getattr(self, field), "images")
    check_interval("mean", self.mean, -10.0, 1.0)
    check_interval("variance", self.variance, 0.0, 10.0)
    check_interval("zoom", self.zoom, 1.0, 10.0)
    check_interval("length_px", self.length_px, 1, 200)
    for angle in self._angles() or (None,):
      if not isinstance(angle, (int, float)):
        raise ValueError(
          f"angles={self.angles!r} must be one or several numbers of degrees"
        )
    check_interval("strength", self.strength, 0.0, 10.0)
    check_interval("beta", self.beta, 0.0, 20.0)
    check_interval("air", self.air, 0.0, 1.0)

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    check_uint8(image)
    rainy = target = to_unit(image)
    if happens(rng, self.blur):
      sigma = min(_SHARPEST_PX, abs(rng.normal(0.5, 0.5)))
      rainy = correlate(rainy, gaussian_kernel(sigma, sigma))
    if happens(rng, self.streaks):
      rainy = np.minimum(rainy + self._streaks(rng, image.shape), 1.0)
    if happens(rng, self.veil):
      beta, air = draw_uniform(rng, self.beta), draw_uniform(rng, self.air)
      where = scene.place(rng, image.shape)
      depth = 1.0 / (scene.draw_nearness(rng, where) + 0.1)
      transmission = np.exp(-beta * depth / depth.max())
      rainy = scene.veil(rainy, where.view(transmission), air)
    return to_unit(round_to_uint8(255.0 * rainy)), target

  def context(self, rng: Rng) -> Context:
    del rng
    side = radius(_SHARPEST_PX) if self.blur else 0
    return side, side, side, side

  def _angles(self) -> tuple[float, ...]:
    if isinstance(self.angles, (list, tuple)):
      return tuple(self.angles)
    return (self.angles,)

  def _streaks(self, rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Draws what step 2 adds, `[H, W, 1]` float32."""
    mean = draw_uniform(rng, self.mean)
    sigma = np.sqrt(draw_uniform(rng, self.variance))
    zoom = draw_uniform(rng, self.zoom)
    low, high = ends(self.length_px)
    length = draw_integer(rng, int(low), int(high))
    angles = self._angles()
    angle = np.deg2rad(angles[draw_integer(rng, 0, len(angles) - 1)])
    kernel = line_kernel(length, angle)
    gain = 0.2 + 0.04 * length + 0.05 * rng.random()
    gain *= draw_uniform(rng, self.strength)
    # Streaks reach in from outside as they would in a larger picture.
    reach = len(kernel) // 2
    sides = [side + 2 * reach for side in shape[:2]]
    noise = np.clip(rng.normal(mean, sigma, sides), 0.0, 1.0)
    grains = _enlarged(rng, noise.astype(np.float32), zoom)[:, :, None]
    spread = correlate(grains, kernel)
    inner = spread[reach : reach + shape[0], reach : reach + shape[1]]
    return np.float32(gain) * np.maximum(inner, 0.0)


def _enlarged(rng: Rng, noise: np.ndarray, zoom: float) -> np.ndarray:
  """Enlarges `[H, W]` and cuts a window of the same size out of it."""
  height, width = noise.shape
  sides = round(zoom * height), round(zoom * width)
  large = Image.fromarray(noise).resize(sides[::-1], Image.Resampling.BICUBIC)
  top = draw_integer(rng, 0, sides[0] - height)
  left = draw_integer(rng, 0, sides[1] - width)
  return np.asarray(large)[top : top + height, left : left + width]
