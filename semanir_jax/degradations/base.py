"""What all degradations share: their promises, their types and their checks."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from semanir_jax.images.color import check_uint8

Rng = np.random.Generator | np.random.RandomState
Pair = tuple[np.ndarray, np.ndarray]
Context = tuple[int, int, int, int]
Number = TypeVar("Number", int, float)


class Degradation(Protocol):
  """Says what the pipeline needs to know of a degradation."""

  @property
  def scale(self) -> int:
    """Returns side of hq / side of lq; 1 except in super-resolution."""
    ...

  @property
  def multiple(self) -> int:
    """Returns what sides of hq are multiples of; `__call__` crops the rest."""
    ...

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    """Degrades uint8 `[H, W, C]`; (lq `[H / scale, W / scale, C]`, hq)."""
    ...

  def context(self, rng: Rng) -> Context:
    """Returns the px (top, bottom, left, right) needed around a patch."""
    ...


def modcrop(image: np.ndarray, multiple: int) -> np.ndarray:
  """Crops bottom and right so that both sides are multiples of `multiple` px.

  Args:
    image: `[H, W, C]` uint8, gray or RGB.
    multiple: 1 or more.

  Returns:
    A view of the image.

  Raises:
    ValueError: not such an image, or a side is shorter than `multiple`.
  """
  check_uint8(image)
  height, width = (side - side % multiple for side in image.shape[:2])
  if not (height and width):
    raise ValueError(
      f"an image of shape {image.shape} is smaller than {multiple} px, the"
      " least this degradation can work on; skip the image"
    )
  return image[:height, :width]


def check_share(field: str, share: float, of: str) -> None:
  """Raises ValueError unless an option is a share of the `of`, 0 to 1."""
  if not isinstance(share, (int, float)) or not 0 <= share <= 1:
    raise ValueError(
      f"{field}={share!r} must be a share of the {of}, between 0 and 1"
    )


def check_interval(
  field: str,
  value: Number | Sequence[Number],
  lowest: Number,
  highest: Number,
) -> tuple[Number, Number]:
  """Returns (low, high) of an option that is one number or two.

  Raises:
    ValueError: it is not; integer limits ask for integers.
  """
  low_high = tuple(value) if isinstance(value, Sequence) else (value,)
  if len(low_high) == 1:  # as ml_collections makes of --config....=25
    low_high *= 2
  kinds = int if isinstance(lowest, int) else (int, float)
  numbers = [x for x in low_high if isinstance(x, kinds)]
  if len(numbers) != 2 or not lowest <= numbers[0] <= numbers[1] <= highest:
    kind = "integer" if kinds is int else "number"
    raise ValueError(
      f"{field}={value!r} must be one {kind} between {lowest} and {highest}, or"
      " two, (low, high)"
    )
  return numbers[0], numbers[1]


def draw_integer(rng: Rng, low: int, high: int) -> int:
  """Draws from low ... high, both included, by either kind of generator."""
  return low + int(rng.random() * (high - low + 1))


def happens(rng: Rng, share: float) -> bool:
  """Draws whether; nothing is drawn where it is certain."""
  return share == 1 or (share > 0 and rng.random() < share)


def ends(value: float | Sequence[float]) -> tuple[float, float]:
  """Returns (low, high) of an option that `check_interval` has accepted."""
  low_high = tuple(value) if isinstance(value, Sequence) else (value,)
  return low_high[0], low_high[-1]


def draw_uniform(rng: Rng, value: float | Sequence[float]) -> float:
  """Draws between low and high; nothing is drawn where they are equal."""
  low, high = ends(value)
  return low if low == high else float(rng.uniform(low, high))


def draw_log_uniform(rng: Rng, value: float | Sequence[float]) -> float:
  """Draws a logarithm uniformly; nothing where low and high are equal."""
  low, high = ends(value)
  if low == high:
    return low
  return float(np.exp(rng.uniform(*np.log([low, high]))))


def check_log_interval(
  field: str, value: float | Sequence[float], highest: float, instead: str
) -> None:
  """Raises ValueError unless `draw_log_uniform` can draw of an option.

  Args:
    field: its name.
    value: one number, 0 or more, or (low, high), low above 0.
    highest: that `high` may be.
    instead: what to set for none at all, for the message.
  """
  low, high = check_interval(field, value, 0.0, highest)
  if low == 0.0 < high:
    raise ValueError(
      f"{field}={value} has no logarithm to draw at 0; give a small number, or"
      f" {instead}"
    )
