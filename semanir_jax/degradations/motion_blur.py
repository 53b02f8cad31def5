"""Motion blur of a camera that shakes and of things that move."""

import dataclasses
from typing import ClassVar

import numpy as np

from semanir_jax.degradations import scene
from semanir_jax.degradations.base import (
  Context,
  Pair,
  Rng,
  check_interval,
  check_log_interval,
  check_share,
  draw_integer,
  draw_log_uniform,
  draw_uniform,
  ends,
  happens,
)
from semanir_jax.degradations.camera import (
  UNIT_PX,
  compress,
  draw_deviation,
  draw_phases,
  round_to_uint8,
)
from semanir_jax.degradations.filters import correlate, path_kernel
from semanir_jax.images.color import check_uint8, to_unit

_Interval = float | tuple[float, float]
_LONGEST_PX = 64.0  # a kernel of 65 px
_STEPS = 64  # of a path
_GAMMA = 2.2
_LIGHT = 0.9  # values above it are lights that the clean picture has clipped
_LARGEST_255 = 50.0


@dataclasses.dataclass(frozen=True)
class MotionBlur:
  """Blurs along smooth, nearly straight paths, in linear light.

  A path has 64 steps of equal length. Its heading begins anywhere and changes
  at each step by a normal number of deviation `jitter`; the middle of the path
  is the moment that the target shows. With L = (x / 255)^2.2, region i and its
  kernel k_i,

    y = 255 (sum_i w_i (k_i * L))^(1 / 2.2),  sum_i w_i = 1,

  then noise is added, of variance shot_255^2 y / 255 + read_255^2, and y is
  clipped, rounded to 8 bits and, sometimes, compressed. Regions are drawn for a
  scene (`scene`): one is all that no wobbly ellipse of another covers.

  Attributes:
    length_px: of a path, 0 to 64; one number, or (low, high).
    jitter: deviation of the heading at each step, radians; one number, or
      (low, high).
    regions: with kernels of their own, 1 to 5; one integer, or (low, high),
      both included.
    border_px: width of the borders between them; one number, or (low, high).
    lights: share of the images whose whitest values, above 0.9, are brighter
      than white before the blur, up to `light` times at 1, and clipped after.
    light: factor of such lights, 1 or more; one number, or (low, high), low
      above 0, to draw its logarithm uniformly.
    read_255: noise, as of `Photo`, up to 50.
    shot_255: noise, as of `Photo`, up to 50.
    jpeg: share of the images that are compressed, with 4:2:0 chroma.
    quality: of JPEG, 1 to 100; one integer, or (low, high), both included.

  Sources: real_degradations 2 (lengths and jitter, measured on GoPro); SBDD
  (Carbajal et al.; regions, linear light); RSBlur (saturation, noise after the
  blur).
  """

  length_px: _Interval = (2.0, 25.0)
  jitter: _Interval = (0.02, 0.08)
  regions: int | tuple[int, int] = (1, 5)
  border_px: _Interval = (8.0, 32.0)
  lights: float = 0.5
  light: _Interval = (1.0, 6.0)
  read_255: _Interval = (0.3, 4.0)
  shot_255: _Interval = (0.3, 8.0)
  jpeg: float = 0.2
  quality: int | tuple[int, int] = (60, 98)
  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 1

  def __post_init__(self) -> None:
    check_interval("length_px", self.length_px, 0.0, _LONGEST_PX)
    check_interval("jitter", self.jitter, 0.0, 1.0)
    check_interval("regions", self.regions, 1, 5)
    check_interval("border_px", self.border_px, 4.0, 200.0)
    check_share("lights", self.lights, "images")
    check_interval("light", self.light, 1.0, 100.0)
    for field in ("read_255", "shot_255"):
      value = getattr(self, field)
      check_log_interval(field, value, _LARGEST_255, "0 for no noise")
    check_share("jpeg", self.jpeg, "images")
    check_interval("quality", self.quality, 1, 100)

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    check_uint8(image)
    gain = draw_log_uniform(rng, self.light) if happens(rng, self.lights) else 1
    linear = _linear_light(gain)[image]
    low, high = ends(self.regions)
    count = low if low == high else draw_integer(rng, int(low), int(high))
    kernels = [path_kernel(self._path(rng)) for _ in range(int(count))]
    blurred = correlate(linear, kernels[0])
    where = scene.place(rng, image.shape)
    for kernel in kernels[1:]:
      weight = where.view(
        scene.draw_blob(
          rng,
          where,
          share=(0.1, 0.5),
          border_px=draw_uniform(rng, self.border_px),
        )
      )
      if weight.any():  # it may lie beside this window of the scene
        blurred += weight * (correlate(linear, kernel) - blurred)
    pixels = 255.0 * np.clip(blurred, 0.0, 1.0) ** (1.0 / _GAMMA)
    sigma = draw_deviation(
      rng, pixels, read_255=self.read_255, shot_255=self.shot_255
    )
    if sigma.any():
      pixels = pixels + sigma * rng.normal(0.0, 1.0, sigma.shape)
    stored = round_to_uint8(pixels)
    if happens(rng, self.jpeg):
      low, high = ends(self.quality)
      stored = compress(stored, draw_integer(rng, int(low), int(high)))
    return to_unit(stored), to_unit(image)

  def context(self, rng: Rng) -> Context:
    """Returns half of the longest path, and the room of a grid of JPEG."""
    side = int(np.ceil(ends(self.length_px)[1] / 2))
    if not self.jpeg:
      return side, side, side, side
    side += UNIT_PX
    above, before = draw_phases(rng)
    return side + above, side, side + before, side

  def _path(self, rng: Rng) -> np.ndarray:
    """Draws a path, `[65, 2]` px, whose middle is at 0."""
    step = draw_uniform(rng, self.length_px) / _STEPS
    turns = draw_uniform(rng, self.jitter) * rng.normal(0.0, 1.0, _STEPS)
    heading = 2 * np.pi * rng.random() + np.cumsum(turns)
    moves = step * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
    return points - points[_STEPS // 2]


def _linear_light(gain: float) -> np.ndarray:
  """Returns the light of each of 256 levels, `[256]` float32, white at 1.

  Lights are `gain` times as bright at white, and less so down to `_LIGHT`.
  """
  x = np.arange(256) / 255.0
  lights = 1.0 + (gain - 1.0) * scene.smoothstep((x - _LIGHT) / (1.0 - _LIGHT))
  return (lights * x**_GAMMA).astype(np.float32)
