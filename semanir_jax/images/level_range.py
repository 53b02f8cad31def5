"""Which integers of an image file are black and white.

A container of 16 bits often holds samples of 10, 12 or 14, as sensors and
scanners give them: white is 1023 there, not 65535. The file does not say so.
"""

import dataclasses

import numpy as np

MOST_LEVEL = 65_535
_USUAL_BITS = (8, 10, 12, 14)  # of samples in 16
_MOST_UNIT = 2.0  # white is 1, and noise exceeds it by no more than 1


@dataclasses.dataclass(frozen=True)
class LevelRange:
  """The black and the white level, in the integers of a file.

  Attributes:
    black: None for 0.
    white: None for the largest integer of the file's type.

  Raises:
    ValueError: they are no levels of 16 bits, or black is not below white.
  """

  black: int | None = None
  white: int | None = None

  def __post_init__(self) -> None:
    for name, level in (("black", self.black), ("white", self.white)):
      whole = level is None or isinstance(level, int | np.integer)
      if not whole or not 0 <= (level or 0) <= MOST_LEVEL:
        raise ValueError(
          f"{name}_level={level}: give a whole number from 0 to {MOST_LEVEL},"
          " in the integers of the file"
        )
    self._check_order(MOST_LEVEL)

  def __bool__(self) -> bool:
    """Says whether a level was given."""
    return self != FULL_RANGE

  def ends(self, dtype: np.dtype) -> tuple[int, int]:
    """Returns black and white of uint8 or uint16 integers.

    Raises:
      ValueError: the type does not hold a level.
    """
    top = int(np.iinfo(dtype).max)
    for name, level in (("black", self.black), ("white", self.white)):
      if level is not None and level > top:
        raise ValueError(
          f"{name}_level={level} is above {top}, the most that"
          f" {np.iinfo(dtype).bits} bits hold; leave it out"
        )
    return self._check_order(top)

  def check(self, pixels: np.ndarray) -> None:
    """Refuses levels that an image contradicts.

    Args:
      pixels: of any shape, uint8 or uint16.

    Raises:
      ValueError: the type does not hold them, or a value lies further from them
        than noise does.
    """
    if not self:
      return
    black, white = self.ends(pixels.dtype)
    for value in (int(pixels.min()), int(pixels.max())):
      if not 1 - _MOST_UNIT <= (value - black) / (white - black) <= _MOST_UNIT:
        raise ValueError(
          f"has the value {value}, far from black_level={black} and"
          f" white_level={white}; give the levels of this file"
        )

  def to_unit(self, pixels: np.ndarray) -> np.ndarray:
    """Maps integers to float32, black to 0 and white to 1; keeps float32."""
    if pixels.dtype == np.float32:
      return pixels
    black, white = self.ends(pixels.dtype)
    offset = pixels.astype(np.float32) - np.float32(black)
    return offset / np.float32(white - black)

  def to_8_bits(self, pixels: np.ndarray) -> np.ndarray:
    """Maps integers to 0 to 255, rounded, in less memory than as floats."""
    black, white = self.ends(pixels.dtype)
    gain = white - black
    levels = pixels.clip(black, white).astype(np.int32)
    levels -= black
    levels *= 255
    levels += gain // 2
    levels //= gain
    return levels.astype(np.uint8)

  def from_unit(
    self,
    restored: np.ndarray,
    dtype: np.dtype,
    span: tuple[int, int] | None = None,
  ) -> np.ndarray:
    """Rounds floats, black at 0 and white at 1, to the integers of a file.

    Args:
      restored: float32, not clipped.
      dtype: uint8 or uint16.
      span: the least and the largest integer; None for black and white.
    """
    black, white = self.ends(dtype)
    clipped = self.clip(restored, dtype, span)
    return (np.rint(clipped * np.float32(white - black)) + black).astype(dtype)

  def clip(
    self,
    restored: np.ndarray,
    dtype: np.dtype,
    span: tuple[int, int] | None = None,
  ) -> np.ndarray:
    """Clips floats as `from_unit` does; they stay floats."""
    black, white = self.ends(dtype)
    low, high = (
      (level - black) / (white - black) for level in span or (black, white)
    )
    return np.clip(restored, low, high)

  def span(self, pixels: np.ndarray) -> tuple[int, int]:
    """Returns the least and the largest integer that a result may have.

    They are black and white; where the input goes beyond, as below the black
    level of a sensor, they are the input's.
    """
    black, white = self.ends(pixels.dtype)
    if not self:
      return black, white
    return min(black, int(pixels.min())), max(white, int(pixels.max()))

  def _check_order(self, top: int) -> tuple[int, int]:
    black = 0 if self.black is None else int(self.black)
    white = top if self.white is None else int(self.white)
    if black >= white:
      raise ValueError(
        f"black_level={black} is not below white_level={white}; give the"
        " smallest and the largest level of the file"
      )
    return black, white


FULL_RANGE = LevelRange()


def unsaid_white_level(pixels: np.ndarray) -> int | None:
  """Finds the white level that 16-bit integers seem to have.

  Args:
    pixels: uint8 or uint16.

  Returns:
    1023 for integers of at most 10 bits, 4095 of 12, ...; None where they need
    more than 14, are 8-bit ones, or all black.
  """
  if pixels.dtype != np.uint16:
    return None
  largest = int(pixels.max())
  levels = [2**bits - 1 for bits in _USUAL_BITS if 0 < largest < 2**bits]
  return levels[0] if levels else None
