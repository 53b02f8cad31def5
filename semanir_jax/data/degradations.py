"""Degradations: clean image -> (network input, target), whole or by patch.

A degradation is a frozen dataclass of its options. Called with a random
generator and a clean uint8 image, it returns what the network gets (lq) and
what it should return (hq), both float32 with nominal range [0, 1]; lq is never
clipped. Neither the image nor any global random state is changed.
"""

import dataclasses
import difflib
import math
from typing import Any, Protocol

import numpy as np

from semanir_jax.data.basic_degradations import (
  Bicubic,
  Context,
  Demosaic,
  GaussianNoise,
  Jpeg,
  Pair,
  Rng,
  modcrop,
)

__all__ = (
  "Bicubic",
  "Degradation",
  "Demosaic",
  "GaussianNoise",
  "Jpeg",
  "Mixture",
  "degrade_patch",
  "make",
  "modcrop",
)


class Degradation(Protocol):
  """What the pipeline needs to know of a degradation."""

  @property
  def scale(self) -> int:
    """Side of hq / side of lq; 1 except in super-resolution."""

  @property
  def multiple(self) -> int:
    """Sides of hq are multiples of this; `__call__` crops what is over."""

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    """Degrades uint8 `[H, W, C]`; (lq `[H / scale, W / scale, C]`, hq)."""

  def context(self, rng: Rng) -> Context:
    """px (top, bottom, left, right) that a patch needs around it."""


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


def degrade_patch(
  rng: Rng,
  image: np.ndarray,
  *,
  top: int,
  left: int,
  size: int,
  degradation: Degradation | Mixture,
) -> Pair:
  """Degrades one square patch as if the whole image had been degraded.

  The patch is degraded together with its context, then cut out: equal to the
  patch of the degraded image, and for JPEG equal in distribution (the coding
  grid lies at random).

  Args:
    rng: source of all randomness.
    image: `[H, W, C]` uint8, clean.
    top: first row of the patch; `left` its first column. Multiples of
      `degradation.multiple`.
    left: see `top`.
    size: side of the patch in clean px; a multiple of `degradation.multiple`.
    degradation: what to apply.

  Returns:
    lq `[size / scale, size / scale, C]` and hq `[size, size, C]`, float32.

  Raises:
    ValueError: the patch is off the grid or leaves the image.
  """
  multiple = degradation.multiple
  image = modcrop(image, multiple)
  height, width = image.shape[:2]
  if top % multiple or left % multiple or size % multiple:
    raise ValueError(
      f"{top=}, {left=} and {size=} must be multiples of {multiple} for"
      f" {degradation}"
    )
  if not (0 < size and 0 <= top <= height - size and 0 <= left <= width - size):
    raise ValueError(
      f"a patch of {size} px at ({top}, {left}) leaves the {height}x{width}"
      " image; choose a smaller patch or skip the image"
    )
  if isinstance(degradation, Mixture):
    degradation = degradation.sample(rng)  # each member has its own context
  above, below, before, after = degradation.context(rng)
  first_row, first_column = max(top - above, 0), max(left - before, 0)
  rows = slice(first_row, top + size + below)
  columns = slice(first_column, left + size + after)
  lq, hq = degradation(rng, image[rows, columns])

  def cut(degraded: np.ndarray, scale: int) -> np.ndarray:
    """Copies the patch, so that its context can be freed."""
    row, column = (top - first_row) // scale, (left - first_column) // scale
    side = size // scale
    return degraded[row : row + side, column : column + side].copy()

  return cut(lq, degradation.scale), cut(hq, 1)


def make(name: str, **options: Any) -> Degradation | Mixture:
  """Builds a degradation from the words of a config.

  Args:
    name: "noise", "bicubic", "jpeg", "demosaic" or "mixture".
    **options: fields of the dataclass. The members of a mixture may be given as
      dicts, `{"name": "noise", "sigma_255": 25}`.

  Raises:
    ValueError: an unknown name or option (the nearest known one is named), a
      missing option, or a value out of range.
  """
  cls = _BY_NAME.get(name)
  if cls is None:
    raise ValueError(
      f"unknown degradation {_nearest(name, list(_BY_NAME))} (docs/data.md says"
      " how to add one)"
    )
  fields = dataclasses.fields(cls)
  for option in options:
    if option not in (known := [field.name for field in fields]):
      raise ValueError(f"{name} has no option {_nearest(option, known)}")
  for field in fields:
    if field.default is dataclasses.MISSING and field.name not in options:
      raise ValueError(f"{name} needs the option {field.name!r}")
  if cls is Mixture:
    members = options["degradations"]
    options["degradations"] = [m if callable(m) else make(**m) for m in members]
  # Config files give lists; a frozen dataclass holds tuples.
  values = (tuple(v) if isinstance(v, list) else v for v in options.values())
  return cls(**dict(zip(options, values, strict=True)))


_BY_NAME = {
  "noise": GaussianNoise,
  "bicubic": Bicubic,
  "jpeg": Jpeg,
  "demosaic": Demosaic,
  "mixture": Mixture,
}


def _nearest(word: str, known: list[str]) -> str:
  """Says what an unknown word may have meant."""
  close = difflib.get_close_matches(word, known, n=1)
  hint = f"did you mean {close[0]!r}" if close else f"known: {', '.join(known)}"
  return f"{word!r}; {hint}"
