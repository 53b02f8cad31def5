"""Says how fast long work goes, and how long it will take."""

import time


class Progress:
  """Counts units of work against the clock, which starts at once."""

  def __init__(
    self,
    total: float,
    unit: str,
    *,
    every: float = 0.0,
    every_seconds: float = 0.0,
  ) -> None:
    """Begins.

    Args:
      total: units of work that lie ahead.
      unit: what they are, in the plural, for the line.
      every: fewest units between two lines that are due.
      every_seconds: fewest seconds between them.
    """
    self._total, self._unit = total, unit
    self._every, self._every_seconds = every, every_seconds
    self._start = self._now = self._told_at = time.monotonic()
    self._done = self._told = 0.0

  def advance(self, done: float) -> bool:
    """Takes note of how many units are done by now, of all of them.

    Returns:
      Whether a line about it is due: enough of both went by since the last one
      that was, or all is done.
    """
    self._done, self._now = done, time.monotonic()
    due = done >= self._total or (
      done - self._told >= self._every
      and self._now - self._told_at >= self._every_seconds
    )
    if due:
      self._told, self._told_at = done, self._now
    return due

  @property
  def rate(self) -> float:
    """Returns units per second, of all that is done."""
    return self._done / max(self._now - self._start, 1e-9)

  @property
  def seconds_left(self) -> float:
    """Returns the seconds that the rest takes at this rate."""
    return (self._total - self._done) / max(self.rate, 1e-9)

  def describe(self) -> str:
    """Says it in words, as "0.25 images/s, 1 min 12 s left"."""
    left = format_duration(self.seconds_left)
    return f"{self.rate:.2f} {self._unit}/s, {left} left"


def format_duration(seconds: float) -> str:
  """Writes seconds as `42 s`, `3 min 5 s` or `12 h 7 min`."""
  minutes, rest = divmod(round(seconds), 60)
  if minutes >= 60:
    return f"{minutes // 60} h {minutes % 60} min"
  return f"{minutes} min {rest} s" if minutes else f"{rest} s"
