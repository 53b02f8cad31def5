"""What tests of degradations of a scene share: windows of one scene."""

from typing import Any

import numpy as np
import pytest

from semanir_jax.degradations import degrade_patch, scene

_AT = (37, 101)  # of the image in its scene, px


def random_image(*shape: int) -> np.ndarray:
  return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def check_patches(
  monkeypatch: pytest.MonkeyPatch, degradation: Any, image: np.ndarray
) -> None:
  """Checks that patches equal the whole's, all seen in the same scene.

  At the corners, at the borders and inside; nothing may be drawn by pixel.
  """
  _place_at(monkeypatch, 0, 0)
  whole_lq, whole_hq = degradation(np.random.RandomState(5), image)
  assert not np.array_equal(whole_lq, whole_hq)
  above, _, before, _ = degradation.context(np.random.RandomState(5))
  size = 24
  height, width = image.shape[:2]
  for top in (0, 3, height // 2, height - size):
    for left in (0, 5, width // 2, width - size):
      _place_at(monkeypatch, max(top - above, 0), max(left - before, 0))
      lq, hq = degrade_patch(
        np.random.RandomState(5),
        image,
        top=top,
        left=left,
        size=size,
        degradation=degradation,
      )
      cut = slice(top, top + size), slice(left, left + size)
      np.testing.assert_array_equal(hq, whole_hq[cut])
      np.testing.assert_array_equal(lq, whole_lq[cut])


def _place_at(monkeypatch: pytest.MonkeyPatch, down: int, right: int) -> None:
  """Has images begin so many px below and right of one place in the scene."""

  def place(rng: Any, shape: tuple[int, ...]) -> scene.Scene:
    del rng
    return scene.Scene(480, 720, _AT[0] + down, _AT[1] + right, *shape[:2])

  monkeypatch.setattr(scene, "place", place)
