"""The training batches of one process, one after the other."""

import collections
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

import grain
from absl import flags, logging

from semanir_jax.data.cache import CachedRecords
from semanir_jax.data.patches import Example

# Of a scheduler, and Ctrl-C: they reach all processes of a group.
_NOTICES = (signal.SIGTERM, signal.SIGINT)


class TrainIterator(grain.DatasetIterator):
  """Gives batches; its state is how many were taken, and of which records.

  Grain's own states count for each worker; this one can be restored with any
  number of workers and processes (write the state of one process for all).
  """

  def __init__(
    self,
    records: CachedRecords,
    batches: grain.MapDataset,
    read: grain.ReadOptions,
    num_workers: int,
  ) -> None:
    super().__init__()
    self._records = records
    self._batches = batches
    self._read = read
    self._num_workers = num_workers
    self._taken = 0
    self._working = False
    self._ahead: collections.deque[Example] = collections.deque()
    self._error: Exception | None = None
    self._rest: grain.DatasetIterator | None = None

  def __next__(self) -> Example:
    if not self._ahead and self._error is not None:
      raise self._error
    batch = self._ahead.popleft() if self._ahead else self._make()
    self._taken += 1
    return batch

  def look_ahead(self, num_batches: int) -> Exception | None:
    """Waits for the next batches; returns why one of them cannot be made.

    They are not taken yet. `next` raises the same error where it comes to it.
    """
    try:
      while len(self._ahead) < num_batches and self._error is None:
        self._ahead.append(self._make())
    except Exception as error:
      self._error = error
    return self._error

  def _make(self) -> Example:
    self.start_prefetch()
    assert self._rest is not None
    # Workers start when the first batch is asked for.
    starts = self._num_workers and not self._working
    with notices_later() if starts else contextlib.nullcontext():
      batch = next(self._rest)
    self._working = True
    return batch

  def get_state(self) -> dict[str, int]:
    return {"batches_taken": self._taken, "records": len(self._records)}

  def set_state(self, state: dict[str, int]) -> None:
    """Goes on from a position; warns if it is one of another data set."""
    self._stop()
    self._taken = state["batches_taken"]
    # Checkpoints of before 2026-11-27 do not have it.
    records = state.get("records", len(self._records))
    if records != len(self._records):
      logging.warning(
        "%d training images, %d when the checkpoint was saved: the run goes on"
        " with other batches than it would have had",
        len(self._records),
        records,
      )

  def start_prefetch(self) -> None:
    """Starts making batches; `next` does so too."""
    if self._rest is None:
      self._rest = self._start()

  def close(self) -> None:
    """Stops threads and workers, and frees the images that are kept."""
    self._stop()
    self._records.forget()
    super().close()

  def _stop(self) -> None:
    if self._rest is not None:
      self._rest.close()
    self._rest, self._working = None, False
    self._ahead.clear()
    self._error = None

  def _start(self) -> grain.DatasetIterator:
    rest = self._batches.slice(slice(self._taken, None))
    if not self._num_workers:
      return iter(rest.to_iter_dataset(self._read))
    if not flags.FLAGS.is_parsed():  # in notebooks and tests
      flags.FLAGS(sys.argv[:1])
    ahead = self._read.prefetch_buffer_size
    assert isinstance(ahead, int)  # not one that grain would tune
    options = grain.MultiprocessingOptions(
      num_workers=self._num_workers, per_worker_buffer_size=ahead
    )
    dataset = rest.to_iter_dataset(self._read)
    return iter(dataset.mp_prefetch(options, live_as_long_as_the_run))


@contextlib.contextmanager
def notices_later() -> Iterator[None]:
  """Blocks SIGTERM and SIGINT in what this thread starts meanwhile, threads and
  processes.

  A worker needs seconds until `live_as_long_as_the_run` is called in it. This
  process loses no signal: it comes when the block ends.
  """
  if not hasattr(signal, "pthread_sigmask"):  # Windows: no signals of a group
    yield
    return
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
  parent = multiprocessing.parent_process()
  assert parent is not None  # of a worker
  parent.join()
  os._exit(1)
