"""Says whether the Pallas kernels for TPUs are compiled or interpreted."""

import contextlib
import contextvars
from collections.abc import Iterator

_interpreted: contextvars.ContextVar[bool] = contextvars.ContextVar(
  "interpreted", default=False
)


@contextlib.contextmanager
def interpret() -> Iterator[None]:
  """Lets the kernels traced inside run as plain operations, on any machine.

  The programs have to be written for `platform="tpu"`, or they hold no kernel.
  """
  token = _interpreted.set(True)
  try:
    yield
  finally:
    _interpreted.reset(token)


def is_interpreted() -> bool:
  """Says whether the caller is inside `interpret`."""
  return _interpreted.get()
