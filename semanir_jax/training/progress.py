"""Progress of a run: one line with rate and time left, and its numbers."""

import contextlib
import time
from collections.abc import Iterator, Mapping

import jax
from absl import logging

from semanir_jax.machine.devices import chip_of
from semanir_jax.training.record import memory_gib


class Progress:
  """Measures the rate of steps and the share of time spent waiting for input.

  Validation and saving are left out of both. The time left has them in it, and
  from the second report on not what came before the first, the compilation.
  """

  def __init__(self, step: int, num_steps: int) -> None:
    """Starts at `step` of `num_steps`."""
    self._num_steps = num_steps
    self._chip = chip_of(jax.devices()[0].device_kind)
    self._first_report: tuple[float, int] | None = None
    self._restart(step)

  def _restart(self, step: int) -> None:
    self._step, self._start, self._waited = step, time.monotonic(), 0.0
    self._images, self._flops = 0, 0

  def count(self, num_images: int, flops: int) -> None:
    """Counts one step: images of its batch, arithmetic of the network."""
    self._images += num_images
    self._flops += flops

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
      For TensorBoard, of the interval: `steps_per_second`, `images_per_second`,
      `input_wait_share` (0 to 1), `teraflops_per_device` (per second, see
      `setup.step_flops`), `mfu`, that as a share of the device's peak, where
      the device is known; and the memory used so far (`memory_gib`).
    """
    now = time.monotonic()
    seconds = max(now - self._start, 1e-9)
    rate = (step - self._step) / seconds
    if self._first_report is None:
      self._first_report = now, step
      seconds_per_step = 1 / max(rate, 1e-9)
    else:
      began, first = self._first_report
      seconds_per_step = (now - began) / max(step - first, 1)
    left = (self._num_steps - step) * seconds_per_step
    teraflops = self._flops / seconds / jax.device_count() / 1e12
    rates = {
      "steps_per_second": rate,
      "images_per_second": self._images / seconds,
      "input_wait_share": self._waited / seconds,
      "teraflops_per_device": teraflops,
    }
    utilization = ""
    if self._chip is not None:
      rates["mfu"] = teraflops / self._chip.peak_teraflops
      utilization = f" MFU {100 * rates['mfu']:.1f} %,"
    logging.info(
      "step %d of %d, loss %#.4g, learning rate %.2e, %.2f steps/s,"
      " %.1f images/s, %.0f %% waiting for input,%s %s left",
      step,
      self._num_steps,
      scalars["loss"],
      scalars["learning_rate"],
      rate,
      rates["images_per_second"],
      100 * rates["input_wait_share"],
      utilization,
      duration(left),
    )
    self._restart(step)
    return rates | memory_gib()


def duration(seconds: float) -> str:
  """Says seconds as `42 s`, `3 min 5 s` or `12 h 7 min`."""
  minutes, rest = divmod(round(seconds), 60)
  if minutes >= 60:
    return f"{minutes // 60} h {minutes % 60} min"
  return f"{minutes} min {rest} s" if minutes else f"{rest} s"
