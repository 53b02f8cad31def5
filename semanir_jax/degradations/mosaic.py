"""A sensor's Bayer mosaic, filled in by linear filters."""

import dataclasses
from typing import ClassVar

import numpy as np

from semanir_jax.degradations import bayer
from semanir_jax.degradations.base import Context, Pair, Rng, modcrop
from semanir_jax.images.color import to_unit


@dataclasses.dataclass(frozen=True)
class Demosaic:
  """Takes an RGGB mosaic and fills it in by Malvar's filters, unclipped.

  The network gets a full-size RGB image, as GRL's does, and corrects it.

  Source: protocols 3.4.
  """

  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 2

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    del rng
    image = modcrop(image, self.multiple)
    sensor = bayer.mosaic(image).sum(axis=2, dtype=np.uint8)
    return bayer.fill_in(sensor), to_unit(image)

  def context(self, rng: Rng) -> Context:
    del rng
    return 2, 2, 2, 2  # radius of the filters, even: red stays at (0, 0)
