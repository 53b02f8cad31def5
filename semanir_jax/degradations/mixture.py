"""One of several degradations, drawn for each example."""

import dataclasses
import math

import numpy as np

from semanir_jax.degradations.base import Degradation, Pair, Rng, modcrop


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Applies one of several degradations, drawn anew for each example.

  It has no `context`: that of a patch is the drawn degradation's
  (`degrade_patch`).

  Attributes:
    degradations: at least one, all of the same scale, none a mixture.
    weights: relative frequencies, at least 0; None for equal ones.
  """

  degradations: tuple[Degradation, ...]
  weights: tuple[float, ...] | None = None

  def __post_init__(self) -> None:
    if not self.degradations:
      raise ValueError("degradations is empty; a mixture needs at least one")
    if any(isinstance(member, Mixture) for member in self.degradations):
      raise ValueError("a mixture holds a mixture; list all members in one")
    if len({member.scale for member in self.degradations}) > 1:
      raise ValueError(
        f"a mixture needs one scale, got {self.degradations}; train one model"
        " per scale"
      )
    weights = self.weights
    if weights is None:
      return
    if len(weights) != len(self.degradations) or not (
      min(weights) >= 0.0 and 0.0 < sum(weights) < math.inf
    ):
      raise ValueError(
        f"weights={weights} must be one number, 0 or more, per degradation"
        f" ({len(self.degradations)}), and not all 0"
      )

  @property
  def scale(self) -> int:
    return self.degradations[0].scale

  @property
  def multiple(self) -> int:
    return math.lcm(*(member.multiple for member in self.degradations))

  def sample(self, rng: Rng) -> Degradation:
    """Draws one of the degradations by its weight."""
    ends = np.cumsum(self.weights or [1.0] * len(self.degradations))
    drawn = np.searchsorted(ends, rng.random() * ends[-1], side="right")
    return self.degradations[drawn]

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    return self.sample(rng)(rng, modcrop(image, self.multiple))
