"""Rates of a run."""

import logging

import jax
import pytest

from semanir_jax.machine import progress as machine_progress
from semanir_jax.machine.devices import Chip
from semanir_jax.machine.progress import Progress, format_duration
from semanir_jax.training import progress as progress_lib
from semanir_jax.training.progress import RunProgress
from tests import processes


class Clock:
  """A clock that stands unless it is moved."""

  def __init__(self):
    self.now = 100.0

  def monotonic(self) -> float:
    return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
  clock = Clock()
  for module in (machine_progress, progress_lib):
    monkeypatch.setattr(module, "time", clock)
  return clock


def _run(clock: Clock) -> RunProgress:
  """Four steps of 2 s, half a second of each waiting; 10 s of validation."""
  progress = RunProgress(10, 30)
  for _ in range(4):
    with progress.waiting_for_input():
      clock.now += 0.5
    clock.now += 1.5
    progress.count(16, flops=80 * 10**12)
  with progress.paused():
    clock.now += 10
  return progress


def test_rates_are_those_of_the_interval(clock, caplog):
  caplog.set_level(logging.INFO)
  progress = _run(clock)
  rates = progress.report(14, {"loss": 0.5, "learning_rate": 1e-4})
  assert rates.pop("host_memory_gib") > 0
  assert rates == {
    "steps_per_second": pytest.approx(0.5),
    "images_per_second": pytest.approx(8),
    "input_wait_share": pytest.approx(0.25),
    # 40 TFLOP/s, over 8 devices.
    "teraflops_per_device": pytest.approx(5),
  }
  assert "MFU" not in caplog.text  # nobody knows the peak of this CPU
  assert "0.50 steps/s, 8.0 images/s, 25 % waiting for input, 32 s left" in (
    caplog.text
  )
  # The next interval starts from nothing.
  clock.now += 1
  progress.count(3, flops=0)
  rates = progress.report(15, {"loss": 0.5, "learning_rate": 1e-4})
  assert rates["images_per_second"] == pytest.approx(3)
  assert rates["input_wait_share"] == rates["teraflops_per_device"] == 0


def test_the_time_left_has_validation_in_it_and_no_compilation(clock, caplog):
  caplog.set_level(logging.INFO)
  progress = RunProgress(0, 100)
  scalars = {"loss": 0.5, "learning_rate": 1e-4}
  clock.now += 30  # the program is compiled
  for step in range(1, 21):
    clock.now += 1
    progress.count(1, flops=0)
    if step % 10 == 0:
      progress.report(step, scalars)
      with progress.paused():
        clock.now += 5
  first, second = (m.split(", ")[-1] for m in caplog.messages)
  assert first == f"{format_duration(90 * 40 / 10)} left"
  assert second == f"{format_duration(80 * 15 / 10)} left"
  assert "1.00 steps/s" in caplog.messages[1]


def test_the_share_of_a_known_device_is_told(clock, monkeypatch, caplog):
  caplog.set_level(logging.INFO)
  kinds = []

  def chip_of(kind: str) -> Chip:
    kinds.append(kind)
    return Chip(16, 50, 1, 1)

  monkeypatch.setattr(progress_lib, "chip_of", chip_of)
  rates = _run(clock).report(14, {"loss": 0.5, "learning_rate": 1e-4})
  assert kinds == [jax.devices()[0].device_kind]
  assert rates["mfu"] == pytest.approx(0.1)
  assert "25 % waiting for input, MFU 10.0 %, 32 s left" in caplog.text


# A squared error is below 1e-3 for most of a training.
def test_a_small_loss_has_its_four_digits(clock, caplog):
  caplog.set_level(logging.INFO)
  progress = _run(clock)
  progress.report(14, {"loss": 0.00098765, "learning_rate": 1e-4})
  assert "step 14 of 30, loss 0.0009877, learning rate" in caplog.text


@pytest.mark.parametrize(
  ("seconds", "text"),
  [(0.4, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (7322, "2 h 2 min")],
)
def test_durations(seconds, text):
  assert format_duration(seconds) == text


def test_work_tells_its_rate_and_the_time_left(clock):
  progress = Progress(100, "images")
  clock.now += 20
  assert progress.advance(10)
  assert progress.describe() == "0.50 images/s, 3 min 0 s left"
  clock.now += 5
  assert progress.advance(100)
  assert progress.describe() == "4.00 images/s, 0 s left"


@pytest.mark.parametrize(
  ("options", "due"),
  [
    ({}, [1, 2, 3, 4, 5, 6, 7]),
    ({"every": 2.5}, [3, 6, 7]),
    ({"every_seconds": 8}, [2, 4, 6, 7]),
    ({"every": 3, "every_seconds": 16}, [4, 7]),
  ],
)
def test_a_line_is_due_now_and_then_and_at_the_end(clock, options, due):
  progress = Progress(7, "images", **options)
  found = []
  for done in range(1, 8):
    clock.now += 4
    if progress.advance(done):
      found.append(done)
  assert found == due


def test_work_of_no_time_has_a_rate(clock):
  progress = Progress(2, "images")
  assert progress.advance(0)
  progress.advance(2)
  assert progress.rate > 1 and progress.seconds_left == 0


def test_the_process_that_waits_most_for_input_is_named(
  clock, caplog, monkeypatch
):
  caplog.set_level(logging.INFO)
  runs = [RunProgress(10, 30) for _ in range(3)]
  for waited, progress in zip((0.5, 3.5, 2), runs, strict=True):
    with progress.waiting_for_input():
      clock.now += waited
  clock.now += 1  # 7 s in all

  def report(index: int) -> dict[str, float]:
    return runs[index].report(14, {"loss": 0.5, "learning_rate": 1e-4})

  for rates in processes.play(3, report, monkeypatch):
    assert rates["input_wait_share"] == pytest.approx(0.5)
  assert "50 % waiting for input (process 1), " in caplog.text
