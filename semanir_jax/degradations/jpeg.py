"""JPEG compression."""

import dataclasses
from typing import ClassVar

import numpy as np

from semanir_jax.degradations.base import (
  Context,
  Pair,
  Rng,
  check_interval,
  check_share,
  draw_integer,
)
from semanir_jax.degradations.camera import UNIT_PX, compress, draw_phases
from semanir_jax.images.color import check_uint8, to_unit


@dataclasses.dataclass(frozen=True)
class Jpeg:
  """Compresses with libjpeg: gray, or colour with 4:2:0 chroma.

  Attributes:
    quality: 1 to 100; one number, or (low, high), both included, to draw it
      uniformly for each image (blind).
    aligned: share of the training patches whose corner is a corner of the file,
      so that the 8x8 blocks lie in them as in a picture that nobody has cropped
      since; in the others they lie anywhere. KAIR's is 0.5, GRL's 0.

  Source: protocols 3.3 (Pillow decodes to the same pixels as OpenCV), 5.3.
  """

  quality: int | tuple[int, int]
  aligned: float = 0.0
  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 1

  def __post_init__(self) -> None:
    check_interval("quality", self.quality, 1, 100)
    check_share("aligned", self.aligned, "patches")

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    check_uint8(image)
    low, high = check_interval("quality", self.quality, 1, 100)
    quality = low if low == high else draw_integer(rng, low, high)
    return to_unit(compress(image, quality)), to_unit(image)

  def context(self, rng: Rng) -> Context:
    # Nothing is drawn for 0: the seeds of such trainings keep their batches.
    if self.aligned and rng.random() < self.aligned:
      return 0, UNIT_PX, 0, UNIT_PX
    # A random phase of the 16x16 coding units (4:2:0), and one whole unit more
    # on every side, since the decoder smooths chroma across units.
    above, before = draw_phases(rng)
    return UNIT_PX + above, UNIT_PX, UNIT_PX + before, UNIT_PX
