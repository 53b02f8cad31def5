"""Measures flicker: what changes from frame to frame where nothing moves.

A network that restores each frame alone chooses anew in each, and the eye sees
it. With Y the luma in levels of 255, t a frame after the first and S_t the
pixels where the input stands still since the frame before,

  F = sum_t sum_{p in S_t} |Y_t(p) - Y_{t-1}(p)|  /  sum_t |S_t|

in levels: 0 for a still picture; 2 sigma / sqrt(pi) for one with white noise of
that sigma. The sets are found in the input (in the clean film, where there is
one), and are the same for input, result and clean film.

S_t consists of blocks of 16 x 16 pixels. In each, the means of 4 x 4 pixels of
two neighbouring frames differ by no more than three of their standard
deviations under white noise, and two levels,

  |mean_t - mean_{t-1}| <= 3 sqrt(2) sigma_t / 4 + 2

where sigma_t is the median of the finest diagonal Haar coefficients of frame t,
over 0.6745 [Donoho and Johnstone 1994]: it is of one frame, so motion is not
taken for noise. At a cut no block stands still.

It is like the warping error of Lai et al. (Learning blind video temporal
consistency, ECCV 2018) with no flow, the still blocks in place of its mask of
what is not hidden; and like the temporal flickering of VBench (Huang et al.,
CVPR 2024), a mean absolute difference in videos that stand still.
"""

import numpy as np

BLOCK_PX, MEAN_PX = 16, 4
_DEVIATIONS = 3.0
_LEVELS = 2.0
_MEDIAN_OF_NORMAL = 0.6745


class FlickerMeter:
  """Sums up the flicker of several versions of a film."""

  def __init__(self) -> None:
    self._before: dict[str, np.ndarray] = {}
    self._sums: dict[str, float] = {}
    self._counted = self._pixels = 0

  def add(self, judge: np.ndarray, **versions: np.ndarray) -> dict[str, float]:
    """Takes the next frame of all versions.

    Args:
      judge: `[H, W]` luma in levels of 255, which says where nothing moves.
      **versions: luma that is measured, whole multiples of that size; the same
        names for every frame.

    Returns:
      The flicker of this frame by version; without those where nothing stands
      still, and empty for the first frame.
    """
    before = self._before
    self._before = {"": judge, **versions}
    if not before:
      return {}
    still = still_blocks(before[""], judge)
    self._pixels += still.size
    self._counted += int(still.sum())
    frame = {}
    for name, luma in versions.items():
      scale = luma.shape[0] // judge.shape[0]
      change = np.abs(luma - before[name])
      means = _block_means(change, scale * BLOCK_PX)[still]
      self._sums[name] = self._sums.get(name, 0.0) + float(means.sum())
      if means.size:
        frame[name] = float(means.mean())
    return frame

  def flicker(self) -> dict[str, float]:
    """Returns F of every version; empty where nothing ever stood still."""
    if not self._counted:
      return {}
    return {name: total / self._counted for name, total in self._sums.items()}

  @property
  def share(self) -> float:
    """Returns the share of all blocks that stood still."""
    return self._counted / max(self._pixels, 1)


def still_blocks(before: np.ndarray, after: np.ndarray) -> np.ndarray:
  """Finds the blocks where nothing moves.

  Args:
    before: `[H, W]` luma in levels of 255.
    after: that of the next frame.

  Returns:
    `[H // 16, W // 16]` bool; what is left of a block at the bottom and the
    right is not looked at.
  """
  shift = np.abs(_block_means(after, MEAN_PX) - _block_means(before, MEAN_PX))
  most = _DEVIATIONS * np.sqrt(2) * noise_sigma(after) / MEAN_PX + _LEVELS
  rows, columns = (side // BLOCK_PX for side in after.shape)
  each = BLOCK_PX // MEAN_PX
  cut = shift[: rows * each, : columns * each]
  return (cut <= most).reshape(rows, each, columns, each).all(axis=(1, 3))


def noise_sigma(luma: np.ndarray) -> float:
  """Estimates the standard deviation of white noise in `[H, W]` luma."""
  rows, columns = (side // 2 * 2 for side in luma.shape)
  if not rows or not columns:
    return 0.0
  a, b, c, d = (luma[i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1))
  return float(np.median(np.abs(a - b - c + d)) / 2 / _MEDIAN_OF_NORMAL)


def _block_means(values: np.ndarray, side: int) -> np.ndarray:
  """Returns the means of whole blocks, `[H // side, W // side]`."""
  rows, columns = (length // side for length in values.shape)
  cut = values[: rows * side, : columns * side]
  return cut.reshape(rows, side, columns, side).mean(axis=(1, 3))
