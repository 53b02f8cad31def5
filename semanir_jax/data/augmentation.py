"""Other pictures than a training set holds: smaller, more colourful, drawn.

Photographs that were once JPEG files have hardly any detail in their colours:
in BSDS500 that of R - Y, G - Y and B - Y is 0.16 of that of the luma Y (root
mean squares of the Laplacian), in McMaster 0.87. A network that learned from
the former takes colours to be smooth. Shrinking brings the detail of colours
and luma together (by 2: 0.26), and stronger colours raise it (besides: 0.53
for a saturation of 2).

Images whose levels were rounded to save space have gaps between them, by which
a network could tell clean ones from degraded ones; dither fills the gaps.
"""

import dataclasses
import math

import numpy as np
from PIL import Image

from semanir_jax.data.graphics import draw_graphic
from semanir_jax.images.color import to_luma


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Dithers and shrinks a clean image and strengthens its colours, at random.

  Attributes:
    shrink: smallest and largest factor, old side / new side, at least 1; drawn
      uniformly. (1, 1) leaves the size alone.
    saturation: smallest and largest factor of a colour's distance from its
      luma, at least 0; drawn uniformly. (1, 1) leaves the colours alone.
    dither: levels, at least 0: to every value a whole number between -dither
      and dither is added first, all with the same chance; 1 for images that
      were rounded to multiples of 3.
    graphics: share of the images instead of which a flat graphic in saturated
      colours is drawn (`graphics`), twice as large as a patch.
  """

  shrink: tuple[float, float] = (1.0, 1.0)
  saturation: tuple[float, float] = (1.0, 1.0)
  dither: int = 0
  graphics: float = 0.0

  def __post_init__(self) -> None:
    if not isinstance(self.dither, int) or not 0 <= self.dither <= 127:
      raise ValueError(
        f"config.data.dither={self.dither!r} must be a whole number of levels,"
        " between 0 and 127"
      )
    if not 0 <= self.graphics <= 1:
      raise ValueError(
        f"config.data.graphics={self.graphics} must be a share of the images,"
        " between 0 and 1"
      )
    for name, least in (("shrink", 1.0), ("saturation", 0.0)):
      value = getattr(self, name)
      numbers = all(isinstance(factor, int | float) for factor in value)
      if (
        not numbers
        or len(value) != 2
        or not least <= value[0] <= value[1] < math.inf
      ):
        raise ValueError(
          f"config.data.{name}={value} must be two numbers of at least {least},"
          " the smallest first"
        )

  def check(self, channels: int, *, pairs: bool) -> None:
    """Refuses images that it cannot change.

    Raises:
      ValueError: gray images and another saturation; or pairs as they are,
        whose input it would leave behind, and any change.
    """
    if pairs and self != NO_AUGMENTATION:
      raise ValueError(
        f"config.data.shrink={self.shrink}, saturation={self.saturation},"
        f" dither={self.dither} and graphics={self.graphics} are of clean"
        " images that are degraded next; pairs as they are take (1, 1),"
        " (1, 1), 0 and 0"
      )
    if channels != 3 and self.graphics:
      raise ValueError(
        f"config.data.graphics={self.graphics} is of RGB images, these have"
        f" {channels} channel; give 0"
      )
    if channels != 3 and self.saturation != (1.0, 1.0):
      raise ValueError(
        f"config.data.saturation={self.saturation} is of RGB images, these have"
        f" {channels} channel; give (1, 1)"
      )

  def __call__(
    self, rng: np.random.Generator, image: np.ndarray, *, smallest: int
  ) -> np.ndarray:
    """Returns another image; `image` stays.

    Args:
      rng: of the factors; nothing is drawn for what stays alone.
      image: `[H, W, C]` uint8; RGB if colours change.
      smallest: px; the shorter side does not get smaller than this by it.

    Returns:
      `[H', W', C]` uint8, clipped where a value left the range.
    """
    if self.graphics and rng.random() < self.graphics:
      return draw_graphic(rng, 2 * smallest, 2 * smallest)
    if self.dither:
      image = _dithered(rng, image, self.dither)
    if self.shrink != (1.0, 1.0):
      shorter = min(image.shape[:2])
      factor = min(rng.uniform(*self.shrink), max(shorter / smallest, 1.0))
      image = _shrunk(image, factor)
    if self.saturation != (1.0, 1.0):
      image = _saturated(image, rng.uniform(*self.saturation))
    return image


NO_AUGMENTATION = Augmentation()


def _dithered(
  rng: np.random.Generator, image: np.ndarray, levels: int
) -> np.ndarray:
  added = rng.integers(-levels, levels + 1, image.shape, dtype=np.int16)
  return np.clip(image + added, 0, 255).astype(np.uint8)


def _shrunk(image: np.ndarray, factor: float) -> np.ndarray:
  """Shrinks by Pillow's bicubic with antialiasing."""
  sides = [round(side / factor) for side in image.shape[:2]]
  picture = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
  small = picture.resize(sides[::-1], Image.Resampling.BICUBIC)
  return np.asarray(small).reshape(*sides, image.shape[2])


def _saturated(image: np.ndarray, factor: float) -> np.ndarray:
  luma = to_luma(image)
  colors = luma + np.float32(factor) * (image - luma)
  return np.clip(np.rint(colors), 0, 255).astype(np.uint8)
