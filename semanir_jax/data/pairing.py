"""Sizes of degraded and clean images that belong together."""

import numpy as np


def image_size(image: np.ndarray) -> tuple[int, int]:
  """Returns height and width of `[H, W, C]`."""
  height, width, _ = image.shape
  return height, width


def pair_scale(lq: tuple[int, int], hq: tuple[int, int]) -> int:
  """Returns target side / input side, 0 where the sizes do not belong.

  Args:
    lq: height and width of the input.
    hq: of the target; up to `scale - 1` px more than the input shows, as where
      a target is not cut to whole pixels of its input, or less, as where the
      input's sides are rounded up (DIV2K x8).
  """
  least = max(1, hq[0] // lq[0])

  def rest_px(scale: int) -> int:
    return max(abs(h - scale * s) for s, h in zip(lq, hq, strict=True))

  scale = min((least, least + 1), key=rest_px)
  return scale if rest_px(scale) < scale else 0


def cut_pair(
  lq: np.ndarray, hq: np.ndarray, scale: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the part at the upper left that both images show (modcrop).

  Args:
    lq: `[h, w, C]`, the input.
    hq: `[H, W, C]`, the target.
    scale: target side / input side.
  """
  height, width = (
    min(small, large // scale)
    for small, large in zip(lq.shape[:2], hq.shape[:2], strict=True)
  )
  return lq[:height, :width], hq[: scale * height, : scale * width]
