"""How this process takes memory from the system."""

import ctypes
import sys

# Of glibc's `mallopt`.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
  """Has freed memory stay with the process, for its next use.

  glibc gives every large array back to the system when it is freed, and the
  system clears each page of the next one: on a CPU, a tenth of the time of a
  forward pass. The process keeps what it once needed until it ends, so this is
  for programs that end. Call it before other threads run. Where the C library
  is not glibc it does nothing.
  """
  if not sys.platform.startswith("linux"):
    return
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is not None:
    mallopt(_MMAP_MAX, 0)  # no array has a mapping of its own
    mallopt(_ARENA_MAX, 1)  # of threads, whose heaps hold 64 MiB each
    mallopt(_TRIM_THRESHOLD, -1)  # never
