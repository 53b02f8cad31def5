"""Progress of a run for people: one line with rate and time left."""

import contextlib
import time
from collections.abc import Iterator, Mapping

from absl import logging


class Progress:
  """Measures steps per second and the share of time spent waiting for input."""

  def __init__(self, step: int, num_steps: int, batch_size: int) -> None:
    """Starts at `step` of `num_steps`, of `batch_size` images each."""
    self._num_steps = num_steps
    self._batch_size = batch_size
    self._restart(step)

  def _restart(self, step: int) -> None:
    self._step, self._start, self._waited = step, time.monotonic(), 0.0

  @contextlib.contextmanager
  def waiting_for_input(self) -> Iterator[None]:
    """Counts the time inside as waiting for input."""
    start = time.monotonic()
    yield
    self._waited += time.monotonic() - start

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves the time inside out of all rates (validation)."""
    start = time.monotonic()
    yield
    self._start += time.monotonic() - start

  def report(self, step: int, scalars: Mapping[str, float]) -> dict[str, float]:
    """Logs a line and starts the next interval.

    Args:
      step: updates made.
      scalars: `loss` and others, means over the interval.

    Returns:
      `steps_per_second`, `images_per_second`, `input_wait_share` (0 to 1) of
      the interval, for TensorBoard.
    """
    seconds = max(time.monotonic() - self._start, 1e-9)
    rate = (step - self._step) / seconds
    left = (self._num_steps - step) / max(rate, 1e-9)
    rates = {
      "steps_per_second": rate,
      "images_per_second": rate * self._batch_size,
      "input_wait_share": self._waited / seconds,
    }
    logging.info(
      "step %d of %d, loss %.5f, learning rate %.2e, %.2f steps/s,"
      " %.1f images/s, %.0f %% waiting for input, %s left",
      step,
      self._num_steps,
      scalars["loss"],
      scalars["learning_rate"],
      rate,
      rates["images_per_second"],
      100 * rates["input_wait_share"],
      duration(left),
    )
    self._restart(step)
    return rates


def duration(seconds: float) -> str:
  """Seconds as `42 s`, `3 min 5 s` or `12 h 7 min`."""
  minutes, rest = divmod(round(seconds), 60)
  if minutes >= 60:
    return f"{minutes // 60} h {minutes % 60} min"
  return f"{minutes} min {rest} s" if minutes else f"{rest} s"
