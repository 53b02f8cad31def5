"""Runs the parts of a benchmark in a process of their own.

JAX keeps the GPU memory that it has once taken, and so does torch: whichever
came second would measure what is left. A worker's memory goes with it, and so
do a broken CUDA context and the peak of an allocator that cannot be reset.
"""

import contextlib
import importlib
import json
import os
import pathlib
import select
import subprocess
import sys
from typing import Any

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# A worker is alone on the GPU: by default JAX leaves a quarter unused, and what
# it calls out of memory would not be.
_ENVIRONMENT = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"}
# Longer than any case should take, compilation and a choice of tiles included.
_TIMEOUT_S = 300.0
_OURS = ("benchmarks", "semanir_jax")


class Worker:
  """A process that calls functions by name; a context manager."""

  def __init__(self, timeout_s: float = _TIMEOUT_S) -> None:
    self._timeout_s = timeout_s
    self._process: subprocess.Popen[str] | None = None

  def __enter__(self) -> "Worker":
    return self

  def __exit__(self, *error: object) -> None:
    self.stop()

  def stop(self) -> None:
    """Ends the process; the next call starts another."""
    process, self._process = self._process, None
    if process is not None:
      with contextlib.suppress(BrokenPipeError):
        process.communicate()  # end of its input: it leaves

  def call(self, function: str, *arguments: Any) -> Any:
    """Calls a function there.

    Args:
      function: as "benchmarks.attention_jax:measure".
      *arguments: as JSON has them: named tuples arrive as lists.

    Returns:
      What it returns, as JSON; `{"skipped": ...}` where a package is not
      installed; `{"error": ...}` if it raised (the traceback is on stderr),
      died or took longer than the timeout: one case that fails must not end a
      run on a machine that is lent for minutes.
    """
    if self._process is None:
      self._process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.worker"],
        cwd=_ROOT,
        env=_ENVIRONMENT | os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
      )
    pipe = self._process
    answer = ""
    with contextlib.suppress(BrokenPipeError):
      print(json.dumps([function, arguments]), file=pipe.stdin, flush=True)
      # An answer is one line, and nothing else is on its way.
      if not select.select([pipe.stdout], [], [], self._timeout_s)[0]:
        pipe.kill()
        self.stop()
        return {"error": f"no answer in {self._timeout_s:g} s"}
      answer = pipe.stdout.readline()
    if not answer:
      self.stop()
      return {"error": f"the process died with code {pipe.returncode}"}
    kind, value = json.loads(answer)
    if kind == "error":
      self.stop()  # what it left on the device is not known
      return {"error": value}
    return value


def call_here(name: str, arguments: list[Any]) -> Any:
  """What a worker does for a call; a package that lacks is no error."""
  module, _, function = name.partition(":")
  try:
    imported = importlib.import_module(module)
  except ModuleNotFoundError as error:
    if str(error.name).split(".")[0] in _OURS:
      raise
    return {"skipped": f"{error.name} not installed"}
  return getattr(imported, function)(*arguments)


def _serve() -> None:
  """Answers the calls that arrive on stdin, one a line."""
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # what libraries print is no answer
  for line in sys.stdin:
    name, arguments = json.loads(line)
    try:
      answer = ["result", call_here(name, arguments)]
    except Exception as error:
      sys.excepthook(*sys.exc_info())
      first_line = f"{type(error).__name__}: {error}".splitlines()[0]
      answer = ["error", first_line[:200]]
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
  _serve()
