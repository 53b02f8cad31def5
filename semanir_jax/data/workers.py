"""Worker processes of grain: SIGTERM spares them, the run's end does not."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker


@contextlib.contextmanager
def sigterm_later() -> Iterator[None]:
  """Blocks SIGTERM in what this thread starts meanwhile, threads and processes.

  A worker needs seconds until `live_as_long_as_the_run` is called in it. This
  process loses no signal: it comes when the block ends.
  """
  # Else it is started with the first worker, and unblocks SIGTERM.
  resource_tracker.ensure_running()
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def live_as_long_as_the_run(worker_index: int, worker_count: int) -> None:
  """Prepares a worker for the end of the process that started it.

  A scheduler's SIGTERM reaches the whole group of processes, but the run needs
  batches until its step is saved, and ends its workers itself. If it is killed
  it cannot, and they would wait forever.
  """
  del worker_index, worker_count
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)
