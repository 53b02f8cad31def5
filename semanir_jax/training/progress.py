"""Progress of a run: one line with rate and time left, and its numbers."""

import contextlib
import time
from collections.abc import Iterator, Mapping

import jax
from absl import logging

from semanir_jax.machine import distributed
from semanir_jax.machine.devices import chip_of
from semanir_jax.machine.progress import Progress, format_duration
from semanir_jax.training.record import memory_gib


class RunProgress:
  """Measures the rate of steps and the share of time spent waiting for input.

  Validation and saving are left out of both. The time left has them in it, and
  from the second report on not what came before the first, the compilation.
  """

  def __init__(self, step: int, num_steps: int) -> None:
    """Starts at `step` of `num_steps`."""
    self._num_steps, self._first_reported = num_steps, step
    self._chip = chip_of(jax.devices()[0].device_kind)
    self._since_first_report: Progress | None = None
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
    """Logs a line and starts the next interval; all processes call it.

    Args:
      step: updates made.
      scalars: `loss` and others, means over the interval.

    Returns:
      For TensorBoard, of the interval: `steps_per_second`, `images_per_second`,
      `input_wait_share` (0 to 1, of the process that waits most, which all
      others wait for in the step), `teraflops_per_device` (per second, see
      `setup.step_flops`), `mfu`, that as a share of the device's peak, where
      the device is known; and the memory used so far (`memory_gib`).
    """
    now = time.monotonic()
    seconds = max(now - self._start, 1e-9)
    rate = (step - self._step) / seconds
    rest = self._num_steps - step
    if self._since_first_report is None:
      left = rest / max(rate, 1e-9)
      self._since_first_report = Progress(rest, "steps")
      self._first_reported = step
    else:
      self._since_first_report.advance(step - self._first_reported)
      left = self._since_first_report.seconds_left
    waits = distributed.gather(self._waited / seconds)
    slowest = max(range(len(waits)), key=waits.__getitem__)
    teraflops = self._flops / seconds / jax.device_count() / 1e12
    rates = {
      "steps_per_second": rate,
      "images_per_second": self._images / seconds,
      "input_wait_share": waits[slowest],
      "teraflops_per_device": teraflops,
    }
    utilization = ""
    if self._chip is not None:
      rates["mfu"] = teraflops / self._chip.peak_teraflops
      utilization = f" MFU {100 * rates['mfu']:.1f} %,"
    logging.info(
      "step %d of %d, loss %#.4g, learning rate %.2e, %.2f steps/s,"
      " %.1f images/s, %.0f %% waiting for input%s,%s %s left",
      step,
      self._num_steps,
      scalars["loss"],
      scalars["learning_rate"],
      rate,
      rates["images_per_second"],
      100 * waits[slowest],
      f" (process {slowest})" if len(waits) > 1 else "",
      utilization,
      format_duration(left),
    )
    self._restart(step)
    return rates | memory_gib()
