"""A notice to any process, or its failure, stops all after the same step."""

import collections
import enum
import signal
import threading
from types import FrameType
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from semanir_jax.machine import sharding

# Of a program that has saved and wants to be started again: EX_TEMPFAIL of
# sysexits.h, "try again later".
EXIT_CODE = 75

_STEPS_IN_FLIGHT = 2  # between asking the other processes and reading answers


class Stop(enum.IntEnum):
  """Says why to stop after a step; of several processes the greatest counts."""

  NO = 0
  PREEMPTED = 1
  FAILED = 2


class Preemption:
  """Listens to SIGTERM, and to Ctrl-C once, while it is entered.

  Schedulers (Slurm, Kubernetes, preemptible VMs) send SIGTERM some seconds
  before they kill, often to one process only. Python's handler runs between two
  instructions, so the step that is being computed is finished first. A second
  Ctrl-C is Python's own KeyboardInterrupt, at once.
  """

  def __init__(self, mesh: Mesh) -> None:
    """Prepares the exchange between the processes of a mesh."""
    self._noticed = self._interrupted = False
    self._rows = sharding.batch_sharding(mesh)
    self._greatest = jax.jit(
      lambda flags: flags.max(), out_shardings=sharding.replicated(mesh)
    )
    self._votes: collections.deque[jax.Array] = collections.deque()
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> "Preemption":
    # Python lets only the main thread set handlers; in another one (a notebook,
    # a test) whoever runs the process decides.
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        # A shell has its background jobs ignore the Ctrl-C of its terminal.
        if signal.getsignal(number) is not signal.SIG_IGN:
          self._previous[number] = signal.signal(number, self._notice)
    return self

  def __exit__(self, *unused: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _notice(self, number: int, frame: FrameType | None) -> None:
    del frame
    self._noticed = True
    again = ""
    if number == signal.SIGINT:
      self._interrupted = True
      signal.signal(number, self._previous[number])
      again = "; once more: at once, without saving"
    name = signal.Signals(number).name
    logging.warning("%s: saving after this step, then leaving%s", name, again)

  @property
  def notice_steps(self) -> int:
    """Returns how many steps before the last possible one `after_step` must be
    told of a failure.
    """
    return 1 if jax.process_count() == 1 else 1 + _STEPS_IN_FLIGHT

  def after_step(self, *, failed: bool = False) -> Stop:
    """Says whether to stop now, and why; call once a step, in every process.

    Several processes get the same answer after the same step: their notices are
    exchanged on the devices, without waiting, and read two steps later.

    Args:
      failed: this process cannot do step `notice_steps` from here, or one
        before that.
    """
    own = Stop.FAILED if failed else Stop(self._noticed)
    if jax.process_count() == 1:
      return own
    flags = np.full(len(jax.local_devices()), own, np.int32)
    self._votes.append(self._greatest(sharding.to_global(flags, self._rows)))
    if len(self._votes) <= _STEPS_IN_FLIGHT:
      return Stop.NO
    return Stop(int(self._votes.popleft()))

  def agreed(self) -> bool:
    """Says whether any process was noticed; waits for all to call it."""
    if jax.process_count() == 1:
      return self._noticed
    flag = np.asarray(self._noticed)
    return bool(np.any(multihost_utils.process_allgather(flag)))

  def leave(self, step: int) -> None:
    """Says how to go on from a saved step.

    Raises:
      KeyboardInterrupt: this process was noticed by Ctrl-C.
    """
    logging.warning(
      "preempted: saved step %d; the same command goes on from it", step
    )
    if self._interrupted:
      raise KeyboardInterrupt
