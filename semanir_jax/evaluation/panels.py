"""Draws pictures for people: panels side by side, with a caption each."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP = 6  # px between panels
_BAR = 26  # px, height of the caption bar
_FONT_SIZE = 15


def side_by_side(panels: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
  """Draws images of one size beside each other, captions above.

  Args:
    panels: (caption, `[H, W, C]` uint8 with C = 1 or 3) pairs.

  Returns:
    `[H', W', 3]` uint8.

  Raises:
    ValueError: the images differ in height or width.
  """
  sizes = {image.shape[:2] for _, image in panels}
  if len(sizes) != 1:
    raise ValueError(f"panels of different sizes {sorted(sizes)}")
  height, width = sizes.pop()
  total = len(panels) * (width + _GAP) - _GAP
  canvas = Image.new("RGB", (total, height + _BAR), "white")
  draw = ImageDraw.Draw(canvas)
  font = ImageFont.load_default(size=_FONT_SIZE)
  for i, (caption, image) in enumerate(panels):
    left = i * (width + _GAP)
    rgb = np.broadcast_to(image, (height, width, 3))
    canvas.paste(Image.fromarray(np.ascontiguousarray(rgb)), (left, _BAR))
    draw.text((left + 4, 4), caption, fill="black", font=font)
  return np.asarray(canvas)
