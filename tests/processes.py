"""Several processes played by threads, to test what they tell each other."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils


def play(
  count: int, work: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> list[Any]:
  """Runs `work(index)` as each of `count` processes at the same time.

  Returns:
    What each returned or raised; a threading.BrokenBarrierError is a process
    that waited in vain.
  """
  here = threading.local()
  meeting = threading.Barrier(count, timeout=10)
  brought: list[Any] = [None] * count
  results: list[Any] = [None] * count

  def process_allgather(array: np.ndarray) -> np.ndarray:
    brought[here.index] = np.asarray(array)
    meeting.wait()
    stacked = np.stack(brought)
    meeting.wait()
    return stacked

  def process(index: int) -> None:
    here.index = index
    try:
      results[index] = work(index)
    except Exception as error:
      results[index] = error

  with monkeypatch.context() as patch:
    patch.setattr(jax, "process_count", lambda: count)
    patch.setattr(jax, "process_index", lambda: here.index)
    patch.setattr(multihost_utils, "process_allgather", process_allgather)
    threads = [
      threading.Thread(target=process, args=(i,)) for i in range(count)
    ]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  return results
