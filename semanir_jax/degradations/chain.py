"""Degradations one after another, as a file that was saved in between."""

import dataclasses
import math
from typing import Any

import numpy as np

from semanir_jax.degradations.base import Context, Pair, Rng, modcrop


@dataclasses.dataclass(frozen=True)
class Chain:
  """Applies several degradations, each to what the one before has made.

  Between two of them the image is clipped and rounded to 8 bits, as a file
  holds it; what the last one makes is not. The target is the first one's.

  Attributes:
    degradations: at least one, in order; chains too, but no mixture (make a
      mixture of chains).
  """

  degradations: tuple[Any, ...]

  def __post_init__(self) -> None:
    if not self.degradations:
      raise ValueError("degradations is empty; a chain needs at least one")
    for member in self.degradations:
      if not hasattr(member, "context"):
        raise ValueError(
          f"a chain holds {type(member).__name__.lower()!r}, which has no one"
          " context; make a mixture of chains instead"
        )

  @property
  def scale(self) -> int:
    return math.prod(member.scale for member in self.degradations)

  @property
  def multiple(self) -> int:
    """Returns the least with which no member has to crop."""
    scales = self._scales_before()
    pairs = zip(self.degradations, scales, strict=True)
    return math.lcm(*(member.multiple * scale for member, scale in pairs))

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    image = modcrop(image, self.multiple)
    first, *others = self.degradations
    lq, hq = first(rng, image)
    for member in others:
      stored = np.rint(np.clip(lq, 0.0, 1.0) * 255.0).astype(np.uint8)
      lq, _ = member(rng, stored)
    return lq, hq

  def context(self, rng: Rng) -> Context:
    """Returns the sum of all, in px of the target; top and left on the grid."""
    pairs = zip(self.degradations, self._scales_before(), strict=True)
    contexts = [
      scale * np.array(member.context(rng)) for member, scale in pairs
    ]
    # Up to whole multiples: the patch stays in step with mosaics and shrinking.
    needed = np.sum(contexts, axis=0)
    sides = -(-needed // self.multiple) * self.multiple
    above, below, before, after = map(int, sides)
    return above, below, before, after

  def _scales_before(self) -> list[int]:
    """By how much the input of each member is smaller than the target."""
    scales = [1]
    for member in self.degradations[:-1]:
      scales.append(scales[-1] * member.scale)
    return scales
