"""Several processes as one run: how they find and how they answer each other.

Every process runs the same program; most read other images. What they exchange
here is plain Python: a few numbers, names, an error.
"""

import atexit
import contextlib
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import flags, logging
from jax.experimental import multihost_utils

_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Several processes; found from the cluster (Cloud TPU, Slurm, Open MPI,"
  " Kubernetes). Give this or the next three.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator_address", None, "HOST:PORT of process 0."
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "How many processes there are.", 1
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Number of this process, from 0.", 0
)

_FAREWELL_SECONDS = 20


def initialize(*, timeout_seconds: float = 300) -> None:
  """Connects to the other processes that the flags name; without flags there
  are none. Call it before any device is used. Process 0 alone logs progress.

  Args:
    timeout_seconds: to wait until all processes are there.

  Raises:
    ValueError: the flags contradict each other, or nobody answers.
  """
  places = (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)
  given: dict[str, Any] = {flag.name: flag.value for flag in places}
  missing = [f"--{name}" for name, value in given.items() if value is None]
  if len(missing) == len(given):
    given = {}
    if not _DISTRIBUTED.value:
      return
  elif missing:
    raise ValueError(f"{' and '.join(missing)} must be given as well")
  else:
    _check(**given)
  # SIGTERM is Python's business (training/preemption.py), not this service's.
  jax.config.update("jax_enable_preemption_service", False)
  _connect(given, timeout_seconds)
  _leave_soon()
  if jax.process_index() > 0:
    logging.set_verbosity(logging.WARNING)


def _check(
  coordinator_address: str, num_processes: int, process_id: int
) -> None:
  """Refuses flags that cannot mean anything."""
  if process_id >= num_processes:
    raise ValueError(
      f"--process_id={process_id} must be less than"
      f" --num_processes={num_processes}: they count from 0"
    )
  host, _, port = coordinator_address.rpartition(":")
  if not host or not port.isdigit():
    raise ValueError(
      f"--coordinator_address={coordinator_address} must be HOST:PORT, as"
      " 10.0.0.1:1234"
    )


def _connect(given: Mapping[str, Any], timeout_seconds: float) -> None:
  """Does `jax.distributed.initialize`, but with errors that can be read."""
  errors = []

  def connect() -> None:
    try:
      # Where its own timeout ends, JAX aborts the program: ours comes first.
      never = 10 * round(timeout_seconds) + 1000
      jax.distributed.initialize(**given, initialization_timeout=never)
    except Exception as error:
      errors.append(error)

  thread = threading.Thread(target=connect, daemon=True)
  thread.start()
  thread.join(timeout_seconds)
  if thread.is_alive():
    raise ValueError(
      f"after {timeout_seconds:g} s not all processes have met"
      f" ({_as_flags(given)}); check that all of them run, each with its own"
      " number, and that they reach the first one"
    )
  if errors:
    raise ValueError(
      f"cannot start as one of several processes ({_as_flags(given)}):"
      f" {errors[0]}"
    )


def _leave_soon() -> None:
  """Lets this process wait for the others at its end, but not for minutes.

  JAX lets a process that failed wait 5 minutes for the others, who meanwhile
  wait for its part of a computation.
  """
  leaving = threading.Event()

  def watch() -> None:
    leaving.wait()
    time.sleep(_FAREWELL_SECONDS)
    print("error: the other processes go on, this one leaves", file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
  atexit.register(leaving.set)  # the last to register is called first


def _as_flags(given: Mapping[str, Any]) -> str:
  """Returns what was asked for, as on the command line."""
  if not given:
    return "--distributed"
  return " ".join(f"--{name}={value}" for name, value in given.items())


def gather(value: Any) -> list[Any]:
  """Returns the values of all processes; all must call it, in one order.

  Args:
    value: a plain object; numbers arrive as they are, float64 included. Small:
      every device holds those of all processes for a moment.
  """
  if jax.process_count() == 1:
    return [value]
  data = np.frombuffer(pickle.dumps(value), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(data.size))
  # Powers of two: each size of array is a program to compile.
  padded = np.zeros(1 << int(sizes.max() - 1).bit_length(), np.uint8)
  padded[: data.size] = data
  rows = multihost_utils.process_allgather(padded)
  return [
    pickle.loads(row[:size].tobytes())
    for row, size in zip(rows, sizes, strict=True)
  ]


@contextlib.contextmanager
def shared_errors() -> Iterator[None]:
  """Raises an error inside, in any process, in all of them.

  Else the others would wait for a process that has left. All must enter it, in
  one order; what is inside must not wait for other processes.

  Raises:
    ValueError: another process failed; its own error is raised as it is.
  """
  error = None
  try:
    yield
  except Exception as caught:
    error = caught
  failed = error is not None
  if jax.process_count() > 1:
    failed = multihost_utils.process_allgather(np.asarray(failed)).any()
  if not failed:
    return
  messages = gather(None if error is None else _described(error))
  if error is not None:
    raise error
  for index, message in enumerate(messages):
    if message is not None:
      raise ValueError(f"process {index}: {message}")


def _described(error: Exception) -> str:
  """Returns the message of bad input; of other errors the type too."""
  if isinstance(error, ValueError | OSError):
    return str(error)
  return f"{type(error).__name__}: {error}"
