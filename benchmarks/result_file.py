"""Rows of a benchmark in a JSON file, written one by one.

A benchmark that is cut off goes on with the rows that its file lacks. A case
that failed has a row that says why; delete the row to try it again.
"""

import json
import os
import pathlib
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.worker import Worker
from semanir_jax.machine.files import write_bytes

# Not tried here (no torch, no GPU), so that another start tries again.
SKIPPED = "skipped"


class ResultFile:
  """Rows by case, and the starts that they were made in.

  The file holds `{"runs": [...], "rows": [...]}`; a row holds the fields of its
  case, what was found, and in `run` the number of its start.
  """

  def __init__(self, path: str | os.PathLike[str] | None) -> None:
    """Reads what there is.

    Args:
      path: of the file; None to keep rows in memory only.
    """
    self._path = pathlib.Path(path) if path else None
    self.runs: list[dict[str, Any]] = []
    self.rows: list[dict[str, Any]] = []
    if self._path and self._path.exists():
      document = json.loads(self._path.read_text())
      self.runs, self.rows = document["runs"], document["rows"]

  def begin(self, run: Mapping[str, Any]) -> None:
    """Says what the next rows are made with.

    Args:
      run: versions, device and the like; the command is added.

    Raises:
      ValueError: the file holds rows of another device.
    """
    kinds = {old["device_kind"] for old in self.runs} - {run["device_kind"]}
    if kinds:
      raise ValueError(
        f"{self._path} holds rows of {kinds.pop()}, not of"
        f" {run['device_kind']}; name another file with --out"
      )
    self.runs.append(dict(run) | {"command": shlex.join(sys.orig_argv)})

  def missing(self, cases: Iterable[NamedTuple]) -> Iterator[Any]:
    """Those of the cases without a row, or with one that says why not."""
    done = [row for row in self.rows if SKIPPED not in row]
    for case in cases:
      if not any(_is_of(row, case) for row in done):
        yield case

  def add(self, case: NamedTuple, figures: Mapping[str, Any]) -> None:
    """Adds the row of a case, prints it and writes the file."""
    row = case._asdict() | dict(figures) | {"run": len(self.runs) - 1}
    self.rows = [old for old in self.rows if not _is_of(old, case)] + [row]
    print(json.dumps(row), flush=True)
    if self._path:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      write_bytes(self._path, self._text().encode())

  def find(self, case: NamedTuple) -> dict[str, Any] | None:
    """The row of a case, if there is one."""
    return next((row for row in self.rows if _is_of(row, case)), None)

  def _text(self) -> str:
    """One line for every start and row."""
    lists = {"runs": self.runs, "rows": self.rows}
    parts = (
      f' "{name}": [\n  ' + ",\n  ".join(map(json.dumps, items)) + "\n ]"
      for name, items in lists.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _is_of(row: Mapping[str, Any], case: NamedTuple) -> bool:
  return all(row[name] == value for name, value in case._asdict().items())


def start_run(results: ResultFile, worker: Worker, quick: bool) -> str:
  """Begins a run of the device here; returns its platform.

  Args:
    results: to begin it in.
    worker: asks the device, for this process must not take its memory.
    quick: whether the sizes are those for a CPU.

  Raises:
    ValueError: there is no GPU for the others, or the file is another's.
  """
  run = worker.call("benchmarks.timing:describe_device")
  if "device_kind" not in run:
    raise ValueError(f"the device cannot be used: {run}")
  if run["platform"] != "gpu" and not quick:
    raise ValueError(
      "JAX finds no GPU here, and a CPU would take days; use --quick, or print"
      " the tables of what was measured with --nomeasure"
    )
  results.begin(run)
  return run["platform"]


def describe_runs(results: ResultFile) -> list[str]:
  """What the rows were made with, a line for every start."""
  lines = []
  for run in results.runs:
    line = f"- {run['device_kind']}"
    for name in ("jax", "torch", "triton"):
      line += f", {name} {run['versions'].get(name, 'none')}"
    if "matrix_teraflops" in run:
      line += (
        f"; measured {run['matrix_teraflops']:.3g} TFLOP/s in products,"
        f" {run['copy_gb_s']:.0f} GB/s in copies"
      )
    lines.append(f"{line}: `{run['command']}`")
  return lines
