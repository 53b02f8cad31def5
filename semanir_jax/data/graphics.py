"""Flat graphics in saturated colours, as logos, charts and screens have them.

Photographs hardly have them, so that a network that learned from photographs
alone takes the tinge that JPEG leaves for the colour, or pulls colours towards
those of photographs.
"""

import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_OVERSAMPLING = 4  # of half of them, for smooth edges as text has them
_MOST_SHAPES = 24


def draw_graphic(
  rng: np.random.Generator, height: int, width: int
) -> np.ndarray:
  """Draws boxes, discs, polygons, lines and letters on a plain ground.

  Half of the graphics have smooth edges, the others those of whole pixels.
  Most colours are as saturated as they get, the others any, gray or white.

  Args:
    rng: source of all that is drawn.
    height: px.
    width: px.

  Returns:
    `[height, width, 3]` uint8.
  """
  zoom = _OVERSAMPLING if rng.random() < 0.5 else 1
  size = zoom * width, zoom * height
  picture = Image.new("RGB", size, _color(rng))
  draw = ImageDraw.Draw(picture)
  draw.fontmode = "1"  # letters of whole pixels; else Pillow smooths them
  for _ in range(rng.integers(3, _MOST_SHAPES + 1)):
    _draw_shape(rng, draw, size)
  return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def _color(rng: np.random.Generator) -> tuple[int, ...]:
  kind = rng.random()
  if kind < 0.6:  # one channel at an end, another at the other, one anywhere
    return tuple(map(int, rng.permutation([0, 255, int(rng.integers(256))])))
  if kind < 0.8:
    return tuple(map(int, rng.integers(256, size=3)))
  return (int(rng.choice([0, 255, int(rng.integers(256))])),) * 3


def _draw_shape(
  rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: tuple[int, int]
) -> None:
  """Draws one shape of a twentieth to a half of the sides, anywhere."""
  color = _color(rng)
  corner = rng.random(2) * size - 0.1 * np.array(size)
  extent = np.exp(rng.uniform(np.log(0.05), np.log(0.5), 2)) * size
  box = [*map(int, corner), *map(int, corner + extent + 1)]
  kind = rng.integers(5)
  if kind == 0:
    draw.rectangle(box, fill=color)
  elif kind == 1:
    draw.ellipse(box, fill=color)
  elif kind == 2:
    points = corner + rng.random((int(rng.integers(3, 7)), 2)) * extent
    draw.polygon([tuple(map(float, point)) for point in points], fill=color)
  elif kind == 3:
    draw.line(box, fill=color, width=int(rng.integers(1, 9)))
  else:
    letters = rng.choice(list(string.ascii_letters + string.digits), 12)
    font = ImageFont.load_default(max(8, 0.4 * float(extent.max())))
    draw.text((box[0], box[1]), "".join(letters), fill=color, font=font)
