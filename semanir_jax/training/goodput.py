r"""Goodput: which share of a run's time made steps that stayed.

  python -m semanir_jax.training.goodput --workdir=runs/denoise

Every start of a run keeps an account in its line of `starts.jsonl`: written at
most once a minute, at every checkpoint and at the end. So of a start that was
killed the last minute is missing; it counts as time between the starts.
"""

import contextlib
import datetime
import json
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import flags, logging

from semanir_jax import cli
from semanir_jax.machine import files
from semanir_jax.machine.compiled import count_compiled
from semanir_jax.training import record

_EVERY_SECONDS = 60
_SPENT = ("input", "saving", "validating")
_ROWS = {
  "training": "steps that stayed",
  "lost": "steps made again after a restart",
  "between": "between the starts",
  "starting": "starting, until the first step",
  "compiling": "compiling",
  "input": "waiting for input",
  "saving": "saving",
  "validating": "validating",
}


class Account:
  """Says where the time of one start goes; nothing in it counts twice."""

  def __init__(self, workdir: files.Path, began: float | None = None) -> None:
    """Opens an account.

    Args:
      workdir: of the run; the first process writes there.
      began: when the program began, in seconds since 1970; None for now.
    """
    now = time.time()
    self._workdir = files.as_path(workdir)
    self._compiled = count_compiled()
    self._compiled_before = self._compiled.seconds
    # Of the steady clock, which nobody sets.
    self._began = time.monotonic() - (now - (now if began is None else began))
    self._spent: dict[str, float] = dict.fromkeys(_SPENT, 0.0)
    self._starting: float | None = None
    self._first_step: float | None = None
    self._written = time.monotonic()
    self._step: int | None = None

  @contextlib.contextmanager
  def spending(self, kind: str) -> Iterator[None]:
    """Counts the time inside as "input", "saving" or "validating"."""
    start, compiling = time.monotonic(), self._compiled.seconds
    try:
      yield
    finally:
      seconds = time.monotonic() - start
      self._spent[kind] += seconds - (self._compiled.seconds - compiling)

  def begin_steps(self) -> None:
    """Ends what counts as starting."""
    elapsed = time.monotonic() - self._began
    self._starting = elapsed - self._compiling()

  def end_first_step(self, outputs: Any) -> None:
    """Waits for the first step and says when it was done."""
    if self._first_step is not None:
      return
    jax.block_until_ready(outputs)
    self._first_step = time.monotonic() - self._began
    logging.info(
      "first step done %.1f s after the start, %.1f s of it compiling: %d"
      " programs, %d of them kept from before",
      self._first_step,
      self._compiling(),
      self._compiled.programs,
      self._compiled.kept,
    )

  def _compiling(self) -> float:
    return self._compiled.seconds - self._compiled_before

  def write(self, step: int, *, at_once: bool = True) -> None:
    """Writes the account beside the start it is of, in the first process.

    Args:
      step: updates made.
      at_once: or not before a minute has passed.
    """
    now, self._step = time.monotonic(), step
    if jax.process_index() > 0 or (
      not at_once and now < self._written + _EVERY_SECONDS
    ):
      return
    self._written = now
    try:
      record.add_to_start(self._workdir, self.describe(step))
    except (OSError, ValueError) as error:
      logging.log_first_n(
        logging.WARNING, "the account of the run is not complete (%s)", 1, error
      )

  def close(self) -> None:
    """Writes the account and shows the table of the run."""
    if jax.process_index() > 0 or self._step is None:
      return
    self.write(self._step)
    with contextlib.suppress(OSError, ValueError):  # told by `write`
      logging.info("\n%s", table(self._workdir))

  def describe(self, step: int) -> dict[str, Any]:
    """Returns the account until now, as JSON."""
    wall = time.monotonic() - self._began
    seconds = {"compiling": self._compiling(), **self._spent}
    seconds["starting"] = self._starting or wall - sum(seconds.values())
    seconds["training"] = max(0.0, wall - sum(seconds.values()))
    now = datetime.datetime.now(datetime.UTC)
    return {
      "until": now.isoformat(timespec="seconds"),
      "last_step": step,
      "first_step_seconds": self._first_step and round(self._first_step, 2),
      "compiled": {
        "programs": self._compiled.programs,
        "kept": self._compiled.kept,
      },
      "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def add_up(starts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Adds up the seconds of a run's starts, by the names of the table's rows.

  Steps that the next start makes again are lost, with their share of the time
  of all steps of their start.

  Args:
    starts: lines of `starts.jsonl`; those without an account are left out.
  """
  total: dict[str, float] = dict.fromkeys(_ROWS, 0.0)
  kept = [start for start in starts if "seconds" in start]
  for start, after in zip(kept, [*kept[1:], None], strict=False):
    seconds = dict(start["seconds"])
    made = start["last_step"] - start["step"]
    if after is not None:
      again = max(0, start["last_step"] - after["step"])
      lost = seconds["training"] * min(1.0, again / max(made, 1))
      seconds["training"] -= lost
      seconds["lost"] = lost
      began = _time(after["until"]) - sum(after["seconds"].values())
      seconds["between"] = max(0.0, began - _time(start["until"]))
    for name, value in seconds.items():
      total[name] += value
  return total


def _time(text: str) -> float:
  return datetime.datetime.fromisoformat(text).timestamp()


def table(workdir: pathlib.Path) -> str:
  """Returns the table of a run, in Markdown.

  Raises:
    ValueError: there is no run, or none with an account.
  """
  path = workdir / record.STARTS
  lines = files.read_bytes(path).decode().splitlines()
  starts = [json.loads(line) for line in lines]
  total = add_up(starts)
  wall = sum(total.values())
  if not wall:
    raise ValueError(f"{path}: no start of this run has kept an account")
  without = sum("seconds" not in start for start in starts)
  rows = [
    f"| {title} | {total[name]:.1f} | {100 * total[name] / wall:.1f} % |"
    for name, title in _ROWS.items()
  ]
  return "\n".join(
    [
      f"goodput {100 * total['training'] / wall:.1f} % of {wall:.0f} s,"
      f" {len(starts)} starts"
      + (f", {without} of them without an account" if without else ""),
      "",
      "| time | seconds | share |",
      "| --- | ---: | ---: |",
      *rows,
    ]
  )


def main() -> None:
  """Prints the table of a run."""
  print(table(files.as_path(flags.FLAGS.workdir)))


if __name__ == "__main__":
  flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
  cli.run(main)
