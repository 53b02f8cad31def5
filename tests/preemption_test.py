"""Preemption notices, in one process; tests/two_processes_test.py has two."""

import os
import signal
import threading

import pytest

from semanir_jax.training.preemption import Preemption
from tests import small

pytestmark = pytest.mark.slow


def test_a_notice_is_seen_after_the_step_and_stays():
  before = signal.getsignal(signal.SIGTERM)
  with Preemption(small.one_device_mesh()) as preemption:
    assert not preemption.after_step() and not preemption.agreed()
    os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.after_step() and preemption.agreed()
    assert preemption.after_step()
    preemption.leave(1)
  assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_ctrl_c_leaves_at_once(ctrl_c):
  with Preemption(small.one_device_mesh()) as preemption:
    os.kill(os.getpid(), signal.SIGINT)
    assert preemption.after_step()
    with pytest.raises(KeyboardInterrupt):
      preemption.leave(1)
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)


def test_a_ctrl_c_that_is_ignored_stays_so(ctrl_c):
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  with Preemption(small.one_device_mesh()) as preemption:
    os.kill(os.getpid(), signal.SIGINT)
    assert not preemption.after_step()


def test_in_another_thread_the_handler_is_left_alone():
  before = signal.getsignal(signal.SIGTERM)
  seen = []

  def enter() -> None:
    with Preemption(small.one_device_mesh()) as preemption:
      seen.append(signal.getsignal(signal.SIGTERM) == before)
      seen.append(preemption.after_step())

  thread = threading.Thread(target=enter)
  thread.start()
  thread.join()
  assert seen == [True, False]
