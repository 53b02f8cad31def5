"""Maps of a scene: an image is all of it, or a window of it at random.

What varies over a whole picture, as depth does, varies less over a patch. A map
is therefore drawn for a scene of at least 480 x 720 px; an image with smaller
sides sees a window of it, placed uniformly. So a training patch has the values
that a patch of a whole picture has.
"""

import dataclasses

import numpy as np

from semanir_jax.degradations.base import Rng, draw_integer, draw_uniform

LEAST_PX = (480, 720)  # of a scene; the images of RainDrop and Outdoor-Rain
_STEP_PX = 4  # between the samples of a map; all maps are smooth


@dataclasses.dataclass(frozen=True)
class Scene:
  """Where an image lies in a scene, px.

  Attributes:
    height: of the scene.
    width: of the scene.
    top: row of the scene that the image begins with.
    left: its column.
    rows: of the image.
    columns: of the image.
  """

  height: int
  width: int
  top: int
  left: int
  rows: int
  columns: int

  def grid(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns y `[m, 1]` and x `[1, n]`, px, of the samples of a map."""
    y = np.arange(0, self.height + _STEP_PX, _STEP_PX, dtype=np.float64)
    x = np.arange(0, self.width + _STEP_PX, _STEP_PX, dtype=np.float64)
    return y[:, None], x[None, :]

  def view(self, samples: np.ndarray) -> np.ndarray:
    """Interpolates a map linearly at the pixels of the image.

    Args:
      samples: `[m, n]`, on the grid.

    Returns:
      `[rows, columns, 1]` float32.
    """
    y = self.top + np.arange(self.rows)
    x = self.left + np.arange(self.columns)
    lines = _between(samples, y).T
    return _between(lines, x).T[:, :, None].astype(np.float32)


def place(rng: Rng, shape: tuple[int, ...]) -> Scene:
  """Places an image in a scene; two numbers are drawn, whatever its size.

  Args:
    rng: source of all randomness.
    shape: `[H, W, ...]` of the image.
  """
  rows, columns = shape[:2]
  height, width = max(rows, LEAST_PX[0]), max(columns, LEAST_PX[1])
  top = draw_integer(rng, 0, height - rows)
  left = draw_integer(rng, 0, width - columns)
  return Scene(height, width, top, left, rows, columns)


def draw_noise(rng: Rng, scene: Scene, cells: int) -> np.ndarray:
  """Draws smooth noise: numbers in 0 to 1 on a lattice, and in between.

  Args:
    rng: source of all randomness.
    scene: whose grid it is on.
    cells: of the lattice, along either side.

  Returns:
    `[m, n]` float64 in 0 to 1.
  """
  lattice = rng.uniform(0.0, 1.0, (cells + 1, cells + 1))
  y, x = scene.grid()
  rows = _smooth_between(lattice, cells * y.ravel() / y.max())
  return _smooth_between(rows.T, cells * x.ravel() / x.max()).T


def draw_blob(
  rng: Rng, scene: Scene, *, share: tuple[float, float], border_px: float
) -> np.ndarray:
  """Draws a wobbly ellipse with a soft border, anywhere in the scene.

  Args:
    rng: source of all randomness.
    scene: whose grid it is on.
    share: limits of its radii, as shares of the scene's shorter side.
    border_px: width of the border, 4 or more.

  Returns:
    `[m, n]` float64: 1 within, 0 outside.
  """
  y, x = scene.grid()
  y = y - scene.height * rng.random()
  x = x - scene.width * rng.random()
  side = min(scene.height, scene.width)
  radii = side * rng.uniform(*share), side * rng.uniform(*share)
  distance, angle = turn(y, x, radii, np.pi * rng.random())
  inside = (outline(rng, angle, 0.3) - distance) * min(radii) / border_px
  return smoothstep(0.5 + inside)


def turn(
  y: np.ndarray, x: np.ndarray, radii: tuple[float, float], angle: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns distance, in radii, and direction from the middle of an ellipse."""
  along = (x * np.cos(angle) + y * np.sin(angle)) / radii[0]
  across = (y * np.cos(angle) - x * np.sin(angle)) / radii[1]
  return np.hypot(along, across), np.arctan2(across, along)


def outline(rng: Rng, angle: np.ndarray, wobble: float) -> np.ndarray:
  """Draws an outline about 1: its distance from the middle, by direction.

  It is at most 1 + 1.083 `wobble`.
  """
  radius = np.ones_like(angle)
  for lobes in (2, 3, 4):
    size, phase = wobble / lobes * rng.random(), 2 * np.pi * rng.random()
    radius += size * np.cos(lobes * angle + phase)
  return radius


def draw_nearness(rng: Rng, scene: Scene) -> np.ndarray:
  """Draws how near everything is: a ground, relief, and things that stand out.

  d = w ramp + (1 - w) noise, w = 0.3 to 0.9, where the ramp grows from a
  horizon, tilted a little, to the lower edge; up to four blobs are nearer than
  what is around them, or farther. A Gaussian of 5 px smooths it.

  Returns:
    `[m, n]` float64 on the scene's grid, 0 (far) to 1.

  Source: real_degradations 3 (0.6 ramp and 0.4 noise; randomised here).
  """
  from scipy import ndimage  # 0.3 s that most programs save

  y, x = scene.grid()
  tilt = rng.normal(0.0, 0.1) * (x / scene.width - 0.5)
  horizon = rng.uniform(-0.3, 0.6)
  ramp = (y / scene.height + tilt - horizon) / (1.0 - horizon)
  noise = draw_noise(rng, scene, draw_integer(rng, 2, 6))
  weight = rng.uniform(0.3, 0.9)
  near = weight * np.clip(ramp, 0.0, 1.0) + (1.0 - weight) * noise
  for _ in range(draw_integer(rng, 0, 4)):
    blob = draw_blob(rng, scene, share=(0.05, 0.4), border_px=8.0)
    near += rng.uniform(-0.25, 0.35) * blob
  near = np.clip(near, 0.0, 1.0)
  return ndimage.gaussian_filter(near, 5.0 / _STEP_PX, mode="nearest")


def veil(image: np.ndarray, transmission: np.ndarray, air: float) -> np.ndarray:
  """Lays air of one gray over an image: I t + A (1 - t).

  Args:
    image: I, `[H, W, C]` float, 0 to 1.
    transmission: t, `[H, W, 1]`, 0 to 1.
    air: A, 0 to 1.
  """
  return image * transmission + air * (1.0 - transmission)


def smoothstep(x: np.ndarray) -> np.ndarray:
  """Rises from 0 at 0 to 1 at 1 without a kink, 3 x^2 - 2 x^3."""
  x = np.clip(x, 0.0, 1.0)
  return x * x * (3.0 - 2.0 * x)


def draw_direction(rng: Rng, degrees: tuple[float, float]) -> float:
  """Draws an angle in degrees; returns it in radians."""
  return np.deg2rad(draw_uniform(rng, degrees))


def _between(samples: np.ndarray, px: np.ndarray) -> np.ndarray:
  """Interpolates along the first axis, samples `_STEP_PX` apart."""
  first, rest = np.divmod(px, _STEP_PX)
  rest = (rest / _STEP_PX)[:, None]
  return samples[first] * (1.0 - rest) + samples[first + 1] * rest


def _smooth_between(lattice: np.ndarray, at: np.ndarray) -> np.ndarray:
  """Interpolates along the first axis, without a kink at its samples."""
  first = np.minimum(at.astype(int), len(lattice) - 2)
  rest = smoothstep(at - first)[:, None]
  return lattice[first] * (1.0 - rest) + lattice[first + 1] * rest
