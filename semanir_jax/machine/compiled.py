"""Compiled code: where it is kept between runs, and what compiling costs."""

import dataclasses
import functools
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from semanir_jax.machine import files

_SECONDS = "/jax/core/compile/backend_compile_duration"
_HIT = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass
class Compiled:
  """Counts what was compiled so far in this process.

  Attributes:
    programs: compiled or read from where they are kept.
    kept: those that were read.
    seconds: spent on all of them.
  """

  programs: int = 0
  kept: int = 0
  seconds: float = 0.0


@functools.cache
def count_compiled() -> Compiled:
  """Returns the count, which goes on; the first call begins it."""
  counted = Compiled()

  def add_seconds(event: str, duration_secs: float, **_: Any) -> None:
    if event == _SECONDS:
      counted.programs += 1
      counted.seconds += duration_secs

  def add_hit(event: str, **_: Any) -> None:
    counted.kept += event == _HIT

  jax.monitoring.register_event_duration_secs_listener(add_seconds)
  jax.monitoring.register_event_listener(add_hit)
  return counted


def keep_compiled_in(folder: str) -> None:
  """Keeps compiled code in a folder or a bucket that all processes see.

  Who can write there can have this program run his code.

  Args:
    folder: "" leaves it where the program or the environment put it.

  Raises:
    ValueError: it cannot be made or written.
  """
  if not folder:
    return
  try:
    if jax.process_index() == 0:
      files.make_folder(folder)
  except OSError as error:
    raise ValueError(
      f"config.compilation_cache_dir={folder}: cannot be used"
      f" ({error.strerror}); choose another folder"
    ) from error
  jax.config.update("jax_compilation_cache_dir", folder)
  if files.is_bucket(folder):
    # A bound would lock the folder for every program that is read.
    jax.config.update("jax_compilation_cache_max_size", -1)
  compilation_cache.reset_cache()  # or what was used before stays
