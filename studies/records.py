"""What a study leaves behind: rows in CSV files; and how far it is."""

import csv
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from semanir_jax.images import image_file
from semanir_jax.machine import files
from semanir_jax.machine.progress import Progress, format_duration


def write_rows(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes a CSV file atomically; its folder is made if needed.

  Args:
    path: of the file.
    rows: at least one; columns are the keys of all of them, in order.
  """
  columns = list(dict.fromkeys(key for row in rows for key in row))
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  write_text(path, text.getvalue())


def read_rows(path: pathlib.Path) -> list[dict[str, str]]:
  """Rows of a CSV file as text; none where there is no file."""
  if not path.exists():
    return []
  with open(path, newline="") as file:
    return list(csv.DictReader(file))


def key(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
  """What tells a row from others, as a file has it."""
  return tuple(str(row[column]) for column in columns)


def merge(
  before: Sequence[Mapping[str, Any]],
  rows: Sequence[Mapping[str, Any]],
  columns: Sequence[str],
) -> list[Mapping[str, Any]]:
  """Rows of a file with others in the place of those of the same key."""
  merged = {key(row, columns): row for row in [*before, *rows]}
  return list(merged.values())


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file atomically; its folder is made if needed."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise image_file.ImageError(
      f"{path.parent}: cannot be made ({error.strerror}); choose another"
      " --output"
    ) from error
  files.write_bytes(path, text.encode())


class StudyProgress:
  """Logs what is done, how fast it goes and the time left."""

  def __init__(self, total: int, unit: str) -> None:
    """Starts the clock; `total` units of work lie ahead."""
    self._total, self._unit = total, unit
    self._progress, self._done = Progress(total, unit), 0

  def add(self, what: str) -> None:
    """Tells of one more unit."""
    self._done += 1
    self._progress.advance(self._done)
    logging.info(
      "%s (%d of %d, %.2f %s/min, %s left)",
      what,
      self._done,
      self._total,
      60 * self._progress.rate,
      self._unit,
      format_duration(self._progress.seconds_left),
    )
