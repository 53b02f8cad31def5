"""Raindrops on a pane before the lens, out of focus."""

import dataclasses
from typing import ClassVar, NamedTuple

import numpy as np

from semanir_jax.degradations import scene
from semanir_jax.degradations.base import (
  Context,
  Pair,
  Rng,
  check_interval,
  draw_integer,
  draw_log_uniform,
  draw_uniform,
  ends,
)
from semanir_jax.degradations.camera import round_to_uint8
from semanir_jax.degradations.filters import radius
from semanir_jax.images.color import check_uint8, to_unit

_Interval = float | tuple[float, float]
_WOBBLE = 0.15
_FARTHEST = 1.17  # outline from the middle, in radii, at most


class _Drop(NamedTuple):
  """A drop: its middle in px of the image, and its radius, px."""

  row: int
  column: int
  radius: float


@dataclasses.dataclass(frozen=True)
class Raindrop:
  """Puts drops on an image that show their surroundings upside down.

  A drop is a lens out of focus. With u the place in a drop in radii, |u| = 1 on
  its outline, and c its middle,

    I = (1 - a) G + a (1 - rim |u|^4) ((1 - s) g B(p) + s sky),
    p = c - view (0.6 + 0.4 |u|^2) u,  a = opacity smoothstep((1 - |u|) / soft),

  B being J smoothed, s the share of a drop's light that comes from a gray sky,
  and G = (1 - glare) J + glare sky what the wet pane lets through. Drops that
  touch run together into one of both areas, no larger than the largest radius.
  Drops lie on a scene (`scene`), of which an image may be a window; outside of
  the image J is mirrored. The result is clipped and rounded to 8 bits.

  Attributes:
    drops: in a scene of 480 x 720 px, and in proportion in larger ones, before
      they run together; one integer, or (low, high), both included.
    radius_px: 1 to 100; one number, or (low, high) to draw the logarithm of
      each drop's uniformly.
    view_px: half of the surroundings that a drop shows; one number, or
      (low, high).
    blur_px: deviation of the Gaussian that smooths them, up to 20; one number,
      or (low, high).
    soft: width of the border, in radii; one number above 0, or (low, high).
    opacity: 0 to 1; one number, or (low, high).
    rim: how much darker a drop is at its rim, 0 to 1; one number, or
      (low, high).
    brightness: g; one number, or (low, high).
    sky: 0 to 1; one number, or (low, high).
    share: s, 0 to 1; one number, or (low, high).
    glare: 0 to 1; one number, or (low, high).

  All but the radius are those of all drops of an image; g and s vary by a fifth
  among them.

  Source: real_degradations 4; calibrated on four pairs of RainDrop (Qian et al.
  2018).
  """

  drops: int | tuple[int, int] = (60, 400)
  radius_px: _Interval = (5.0, 50.0)
  view_px: _Interval = (30.0, 80.0)
  blur_px: _Interval = (2.0, 8.0)
  soft: _Interval = (0.15, 0.8)
  opacity: _Interval = (0.8, 1.0)
  rim: _Interval = (0.3, 0.5)
  brightness: _Interval = (0.9, 1.4)
  sky: _Interval = (0.6, 0.95)
  share: _Interval = (0.2, 0.9)
  glare: _Interval = (0.0, 0.2)
  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 1

  def __post_init__(self) -> None:
    check_interval("drops", self.drops, 0, 2000)
    check_interval("radius_px", self.radius_px, 1.0, 100.0)
    check_interval("view_px", self.view_px, 0.0, 200.0)
    check_interval("blur_px", self.blur_px, 0.0, 20.0)
    check_interval("soft", self.soft, 0.01, 1.0)
    check_interval("opacity", self.opacity, 0.0, 1.0)
    check_interval("rim", self.rim, 0.0, 1.0)
    check_interval("brightness", self.brightness, 0.0, 4.0)
    for field in ("sky", "share", "glare"):
      check_interval(field, getattr(self, field), 0.0, 1.0)

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    check_uint8(image)
    lens = _Lens(
      view=draw_uniform(rng, self.view_px),
      blur=draw_uniform(rng, self.blur_px),
      soft=draw_uniform(rng, self.soft),
      opacity=draw_uniform(rng, self.opacity),
      rim=draw_uniform(rng, self.rim),
      brightness=draw_uniform(rng, self.brightness),
      sky=draw_uniform(rng, self.sky),
      share=draw_uniform(rng, self.share),
    )
    clean = to_unit(image)
    glare = np.float32(draw_uniform(rng, self.glare))
    wet = clean + glare * (np.float32(lens.sky) - clean)
    where = scene.place(rng, image.shape)
    for row, column, size in self._draw_drops(rng, where):
      # Drawn for all, seen or not: a window shows what the whole scene does.
      form = np.random.RandomState(draw_integer(rng, 0, 2**31 - 1))
      drop = _Drop(int(row) - where.top, int(column) - where.left, size)
      lens.show(form, clean, wet, drop)
    return to_unit(round_to_uint8(255.0 * wet)), clean

  def context(self, rng: Rng) -> Context:
    """Returns how far a drop that touches a patch sees beyond it."""
    del rng
    largest = int(np.ceil(_FARTHEST * ends(self.radius_px)[1]))
    blur = radius(ends(self.blur_px)[1])
    # Up to two cells more, where what a drop shows is shrunk.
    side = largest + int(np.ceil(ends(self.view_px)[1])) + blur + 20
    return side, side, side, side

  def _draw_drops(self, rng: Rng, where: scene.Scene) -> np.ndarray:
    """Draws the drops of a scene, those that touched run together.

    Returns row and column, px of the scene, and radius of each, `[n, 3]`.
    """
    low, high = ends(self.drops)
    number = low if low == high else draw_integer(rng, int(low), int(high))
    area = where.height * where.width / np.prod(scene.LEAST_PX)
    drops = np.zeros((0, 3))
    for _ in range(round(number * area)):
      size = draw_log_uniform(rng, self.radius_px)
      place = where.height * rng.random(), where.width * rng.random()
      drops = _add(drops, np.floor([*place, 0.0]) + [0.0, 0.0, size], self)
    return drops


def _add(drops: np.ndarray, drop: np.ndarray, options: Raindrop) -> np.ndarray:
  """Adds a drop, which takes in all that it touches, again and again."""
  largest = ends(options.radius_px)[1]
  while True:
    apart = np.hypot(*(drops[:, :2] - drop[:2]).T)
    touched = apart < drops[:, 2] + drop[2]
    if not touched.any():
      return np.concatenate([drops, drop[None]])
    parts = np.concatenate([drops[touched], drop[None]])
    drops = drops[~touched]
    areas = parts[:, 2] ** 2
    drop = np.rint(areas @ parts / areas.sum())  # places are whole pixels
    drop[2] = min(np.sqrt(areas.sum()), largest)


class _Lens(NamedTuple):
  """What the drops of an image have in common, see `Raindrop`."""

  view: float
  blur: float
  soft: float
  opacity: float
  rim: float
  brightness: float
  sky: float
  share: float

  def show(
    self,
    rng: Rng,
    clean: np.ndarray,
    wet: np.ndarray,
    drop: _Drop,
  ) -> None:
    """Draws the form of a drop, and puts it on `wet`, `[H, W, C]` float32."""
    radii = tuple(drop.radius * rng.uniform(0.85, 1.0, 2))
    turned = np.pi * rng.random()
    gain = self.brightness * rng.uniform(0.8, 1.2)
    share = min(self.share * rng.uniform(0.8, 1.2), 1.0)
    reach = int(np.ceil(_FARTHEST * drop.radius))
    sides = zip((drop.row, drop.column), wet.shape[:2], strict=True)
    box = tuple(
      slice(max(at - reach, 0), min(at + reach + 1, side)) for at, side in sides
    )
    if any(part.start >= part.stop for part in box):
      return  # beside this window of the scene
    y = np.arange(box[0].start, box[0].stop)[:, None] - float(drop.row)
    x = np.arange(box[1].start, box[1].stop)[None, :] - float(drop.column)
    distance, angle = scene.turn(y, x, radii, turned)
    distance /= scene.outline(rng, angle, _WOBBLE)
    alpha = self.opacity * scene.smoothstep((1.0 - distance) / self.soft)
    pull = -self.view * (0.6 + 0.4 * distance**2) / drop.radius
    pull = np.where(distance < 1.0, pull, 0.0)
    seen = self._surroundings(clean, drop, y * pull, x * pull)
    shade = 1.0 - self.rim * np.minimum(distance, 1.0) ** 4
    light = (1.0 - share) * gain * seen + share * self.sky
    seen = np.minimum(light * shade[:, :, None], 1.0)
    wet[box] += (alpha[:, :, None] * (seen - wet[box])).astype(np.float32)

  def _surroundings(
    self, clean: np.ndarray, drop: _Drop, y: np.ndarray, x: np.ndarray
  ) -> np.ndarray:
    """Returns the smoothed picture y and x px from the middle of a drop."""
    from scipy import ndimage  # 0.3 s that most programs save

    reach = int(np.ceil(max(np.abs(y).max(), np.abs(x).max()))) + 1
    # What will be smooth is first shrunk: several times less to compute.
    step = max(1, int(self.blur / 2.0))
    cells = -(-(reach + radius(self.blur)) // step)
    around = np.arange(-cells * step, (cells + 1) * step)
    rows = _mirrored(drop.row + around, clean.shape[0])
    columns = _mirrored(drop.column + around, clean.shape[1])
    part = clean[rows[:, None], columns[None, :]]
    if step > 1:
      count = 2 * cells + 1
      part = part.reshape(count, step, count, step, -1).mean(axis=(1, 3))
    if self.blur:
      sigma = self.blur / step
      part = ndimage.gaussian_filter(part, (sigma, sigma, 0.0))
    places = (np.stack([y, x]) - (step - 1) / 2.0) / step + cells
    planes = [
      ndimage.map_coordinates(part[:, :, channel], places, order=1)
      for channel in range(clean.shape[2])
    ]
    return np.stack(planes, axis=2)


def _mirrored(at: np.ndarray, side: int) -> np.ndarray:
  """Returns indices within a side: outside, the picture is mirrored."""
  at = at % (2 * side)
  return np.minimum(at, 2 * side - 1 - at)
