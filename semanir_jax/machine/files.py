"""Files: read whole, written whole, with errors that name them."""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator

Path = str | os.PathLike[str]


class FileError(ValueError):
  """Names a file that cannot be read or written, and the remedy."""


def read_bytes(path: Path) -> bytes:
  """Reads a file; `FileError` names the one that cannot be read."""
  with os_errors_named(path):
    return pathlib.Path(path).read_bytes()


def write_bytes(path: Path, data: bytes) -> None:
  """Writes a file atomically: a reader sees the old one or all of the new."""
  path = pathlib.Path(path)
  partial = path.with_name(f".tmp-{uuid.uuid4().hex}")
  try:
    try:
      partial.write_bytes(data)
      os.replace(partial, path)
    except BaseException:
      with contextlib.suppress(OSError):
        partial.unlink()
      raise
  except OSError as error:
    raise FileError(
      f"{path}: cannot be written ({error.strerror}); check that its folder "
      "exists, may be written and has space, or choose another output"
    ) from error


@contextlib.contextmanager
def os_errors_named(path: Path) -> Iterator[None]:
  """Turns what the system says inside into a `FileError` that names a file."""
  try:
    yield
  except OSError as error:
    raise FileError(
      f"{path}: {error.strerror}; check the path and its permissions"
    ) from error


def first_line(error: Exception) -> str:
  """Returns what an error of a library says, in one short line."""
  return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
