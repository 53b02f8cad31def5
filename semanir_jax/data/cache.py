"""Decoded images kept in memory, for sources that are read again and again."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from semanir_jax.data.sources import Source


class CachedRecords:
  """Reads several sources as one, and keeps as many decoded records as fit.

  What is kept stays: with every record used once per epoch in random order,
  replacing records would only lower the share of hits. A copy in another
  process starts with nothing kept.
  """

  def __init__(self, sources: Sequence[Source], cache_bytes: int) -> None:
    """Reads `sources` in this order, and keeps up to `cache_bytes`."""
    self._sources = list(sources)
    self._cache_bytes = self._free_bytes = cache_bytes
    self._ends = np.cumsum([len(source) for source in self._sources])
    self._kept: dict[int, dict[str, Any]] = {}
    self._lock = threading.Lock()

  def __getstate__(self) -> tuple[list[Source], int]:
    return self._sources, self._cache_bytes

  def __setstate__(self, state: tuple[list[Source], int]) -> None:
    self.__init__(*state)

  def __len__(self) -> int:
    return int(self._ends[-1]) if self._sources else 0

  def __getitem__(self, index: int) -> dict[str, Any]:
    record = self._kept.get(index)
    if record is not None:
      return record
    which = int(np.searchsorted(self._ends, index, side="right"))
    source = self._sources[which]
    record = source[index - int(self._ends[which]) + len(source)]
    size = sum(getattr(value, "nbytes", 0) for value in record.values())
    with self._lock:
      if size <= self._free_bytes and index not in self._kept:
        self._free_bytes -= size
        self._kept[index] = record
    return record

  def forget(self) -> None:
    """Frees what is kept."""
    with self._lock:
      self._kept = {}
      self._free_bytes = self._cache_bytes
