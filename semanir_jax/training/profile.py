"""A trace of a few steps, for TensorBoard's or XProf's profile view."""

import contextlib

import jax
from absl import logging

from semanir_jax.machine import files

FOLDER = "profile"  # inside a workdir

_AFTER = 10  # steps left out: compilation, and caches that fill
_STEPS = 5


class Profile:
  """Traces `_STEPS` steps of a run, once."""

  def __init__(self, workdir: str, first_step: int, num_steps: int) -> None:
    """Plans the trace, earlier in a run of few steps.

    Args:
      workdir: the trace goes to its `profile` folder.
      first_step: the run's next step.
      num_steps: its last.
    """
    self._folder = files.as_path(workdir).absolute() / FOLDER
    self._written = contextlib.ExitStack()
    last = min(first_step + _AFTER + _STEPS - 1, num_steps)
    self._last = last
    self._first = max(first_step, last - _STEPS + 1)
    self._running = False

  def before(self, step: int) -> None:
    """Starts the trace where it is due; call before a step."""
    if step == self._first:
      # JAX writes to disks alone.
      local = self._written.enter_context(files.local_folder(self._folder))
      jax.profiler.start_trace(str(local))
      self._running = True

  def after(self, step: int, outputs: object) -> None:
    """Ends the trace where it is due; call after a step, with its outputs."""
    if step == self._last and self._running:
      jax.block_until_ready(outputs)
      self.close()

  def close(self) -> None:
    """Ends a trace that is under way."""
    if self._running:
      jax.profiler.stop_trace()
      self._running = False
      self._written.close()
      logging.info("profile of the last steps: %s", self._folder)
