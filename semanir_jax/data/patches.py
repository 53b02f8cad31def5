"""One training example: a random patch of a record, turned and degraded.

The picture itself changes first (`augmentation`). The patch is uniform over all
positions on the grid that the degradation asks for, and in one of the 8
orientations. The clean image is turned before it is degraded, so that coding
grids and mosaics lie as in a camera. Images smaller than the patch are mirrored
at their bottom and right borders.

Source: protocols.md 5.3 (crops, 8 orientations). GRL fills small images with
zeros; mirroring keeps them images.
"""

from typing import Any

import grain
import numpy as np
from absl import logging

from semanir_jax.data.augmentation import Augmentation
from semanir_jax.degradations import Degradation, Mixture, degrade_patch
from semanir_jax.images.color import to_unit
from semanir_jax.images.image_file import ImageError

Example = dict[str, np.ndarray]
_NUM_WARNINGS = 5


class RandomPatch(grain.transforms.RandomMap):
  """Makes `{"lq": ..., "hq": ...}`, float32 in [0, 1], of a source's record."""

  def __init__(
    self,
    size: int,
    degradation: Degradation | Mixture | None,
    augmentation: Augmentation,
  ) -> None:
    """Takes the side of hq, px; the degradation, None for pairs; and what
    changes clean images before it.
    """
    self._size = size
    self._degradation = degradation
    self._augmentation = augmentation

  def random_map(
    self, record: dict[str, Any], rng: np.random.Generator
  ) -> Example:
    if self._degradation is None:
      return self._paired(record, rng)
    clean = record["image"] if "image" in record else record["target"]
    clean = self._augmentation(rng, clean, smallest=self._size)
    clean = _large_enough(_turned(clean, _draw_turn(rng)), self._size, record)
    top, left = _corner(rng, clean, self._size, self._degradation.multiple)
    lq, hq = degrade_patch(
      rng,
      clean,
      top=top,
      left=left,
      size=self._size,
      degradation=self._degradation,
    )
    return {"lq": lq, "hq": hq}

  def _paired(
    self, record: dict[str, Any], rng: np.random.Generator
  ) -> Example:
    lq, hq = record["input"], record["target"]
    scale = hq.shape[0] // lq.shape[0]
    if hq.shape[:2] != (scale * lq.shape[0], scale * lq.shape[1]):
      raise ImageError(
        f"{record['name']}: input {lq.shape} and target {hq.shape} are not a "
        "pair; crop the target to the part the input shows (modcrop)"
      )
    size, turn = self._size // scale, _draw_turn(rng)
    lq = _large_enough(_turned(lq, turn), size, record)
    hq = _large_enough(_turned(hq, turn), scale * size, record)
    top, left = _corner(rng, lq, size, 1)
    return {
      "lq": _patch(lq, top, left, size),
      "hq": _patch(hq, scale * top, scale * left, scale * size),
    }


def _draw_turn(rng: np.random.Generator) -> int:
  return int(rng.integers(8))


def _turned(image: np.ndarray, turn: int) -> np.ndarray:
  """Views `[H, W, C]` in orientation `turn` of 8: rotated, then mirrored."""
  rotated = np.rot90(image, turn % 4)
  return rotated if turn < 4 else rotated[::-1]


def _large_enough(
  image: np.ndarray, size: int, record: dict[str, Any]
) -> np.ndarray:
  """Mirrors what is missing below and to the right of a small image.

  The edge is repeated: so the mirrored parts of a pair still belong together.
  """
  below, after = (max(0, size - side) for side in image.shape[:2])
  if not below and not after:
    return image
  logging.log_first_n(
    logging.WARNING,
    "%s is smaller than the patch of %d px: its border is mirrored",
    _NUM_WARNINGS,
    record["name"],
    size,
  )
  return np.pad(image, ((0, below), (0, after), (0, 0)), mode="symmetric")


def _corner(
  rng: np.random.Generator, image: np.ndarray, size: int, multiple: int
) -> tuple[int, int]:
  """Draws the top and left of a patch from all places on the grid."""
  top, left = (
    multiple * int(rng.integers((side - size) // multiple + 1))
    for side in image.shape[:2]
  )
  return top, left


def _patch(image: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
  """Cuts a patch of uint8 as float32 in [0, 1], as degradations do."""
  return to_unit(image[top : top + size, left : left + size])
