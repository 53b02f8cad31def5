"""Restores an image in its 8 flips and turns: the self-ensemble.

What papers mark with a plus ("SwinIR+") [Timofte et al. 2016, Seven ways to
improve example-based single image super resolution].
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from semanir_jax.degradations import bayer

Restore = Callable[[np.ndarray], np.ndarray]


def check_turnable(degradation: Mapping[str, Any]) -> None:
  """Refuses what is another degradation once it is turned.

  Args:
    degradation: of a training run or a test set. A network of a mixture with
      mosaics in it is let through: its other inputs can be turned.

  Raises:
    ValueError: it is a mosaic.
  """
  if bayer.is_mosaic(degradation):
    raise ValueError(
      "a turned mosaic has its colour filters elsewhere; leave out"
      " self_ensemble for demosaicking"
    )


def mean_of_8(restore: Restore, images: np.ndarray) -> np.ndarray:
  """Takes the mean over the flips and quarter turns of a batch, turned back.

  Args:
    restore: `[B, H, W, C]` float32 to `[B, H * S, W * S, C']` float32, for
      batches of `[B, W, H, C]` too.
    images: `[B, H, W, C]` float32 in [0, 1].

  Returns:
    `[B, H * S, W * S, C']` float32.
  """
  total = None
  for turns, step in itertools.product(range(4), (1, -1)):
    turned = np.rot90(images, turns, axes=(1, 2))[:, :, ::step]
    restored = restore(np.ascontiguousarray(turned))[:, :, ::step]
    back = np.rot90(restored, -turns, axes=(1, 2))
    total = back if total is None else total + back
  assert total is not None  # of eight
  return total / np.float32(8)
