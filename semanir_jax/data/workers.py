"""Worker processes of grain: signals spare them, the run's end does not."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

# Of a scheduler, and Ctrl-C: they reach all processes of a group.
_NOTICES = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def notices_later() -> Iterator[None]:
  """Blocks SIGTERM and SIGINT in what this thread starts meanwhile, threads and
  processes.

  A worker needs seconds until `live_as_long_as_the_run` is called in it. This
  process loses no signal: it comes when the block ends.
  """
  # Else it is started with the first worker, and unblocks them.
  resource_tracker.ensure_running()
  before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOTICES)
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def live_as_long_as_the_run(worker_index: int, worker_count: int) -> None:
  """Prepares a worker for the end of the process that started it.

  A notice reaches the whole group of processes, but the run needs batches until
  its step is saved, and ends its workers itself. If it is killed it cannot, and
  they would wait forever.
  """
  del worker_index, worker_count
  for notice in _NOTICES:
    signal.signal(notice, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)
