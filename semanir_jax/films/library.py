"""PyAV, FFmpeg's libraries in Python: the extra `video`."""

import importlib
import os
from typing import Any

from semanir_jax.machine.files import FileError

# Muxers by the suffixes of films that are read and written.
CONTAINERS = {
  ".mp4": "mp4",
  ".mov": "mov",
  ".mkv": "matroska",
  ".webm": "webm",
}
SUFFIXES = tuple(CONTAINERS)


class FilmError(FileError):
  """Names a film that cannot be read, restored or written, and the remedy."""


def load_av() -> Any:
  """Imports PyAV, and quietens the encoders that would print their settings.

  Raises:
    FilmError: it is not installed.
  """
  os.environ.setdefault("SVT_LOG", "1")  # libsvtav1: errors alone
  try:
    return importlib.import_module("av")
  except ImportError as error:
    raise FilmError(
      "films need PyAV, which is not installed; pip install av"
    ) from error


def explain(error: Exception) -> str:
  """Returns what FFmpeg says, in a few words."""
  text = getattr(error, "strerror", None) or str(error)
  return str(text).splitlines()[0][:200]
