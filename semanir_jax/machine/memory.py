"""Memory: how much of it is free, and what to say where it runs out."""

import contextlib
import pathlib
from collections.abc import Iterator

import jax
import psutil

_CGROUP = pathlib.Path("/sys/fs/cgroup")


class OutOfMemoryError(ValueError):
  """Says what did not fit the memory, and what to do."""


@contextlib.contextmanager
def explain_out_of_memory(message: str) -> Iterator[None]:
  """Raises `OutOfMemoryError(message)` where the memory runs out inside, of the
  host or of a device.
  """
  try:
    yield
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
      raise OutOfMemoryError(message) from error
    raise


def free_memory() -> int:
  """Returns the bytes that each device of this process may still use.

  Devices that say what they have are asked; CPUs share the machine's memory.
  """
  devices = jax.local_devices()
  stats = devices[0].memory_stats()
  if stats and "bytes_limit" in stats:
    return stats["bytes_limit"] - stats["bytes_in_use"]
  return _free_host_memory() // len(devices)


def _free_host_memory() -> int:
  """Returns what the system, and a container's limit, leave."""
  free = psutil.virtual_memory().available
  try:
    limit = int((_CGROUP / "memory.max").read_text())
    used = int((_CGROUP / "memory.current").read_text())
    lines = (_CGROUP / "memory.stat").read_text().splitlines()
  except (OSError, ValueError):  # no container, or one without a limit
    return free
  # Files that were read count as used until somebody needs their place.
  kinds = dict(line.split() for line in lines)
  cached = sum(int(kinds.get(f"{k}active_file", 0)) for k in ("", "in"))
  return max(0, min(free, limit - used + cached))
