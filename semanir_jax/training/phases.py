"""Phases of a run: patch and batch sizes that change at given steps."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Phase:
  """Says how steps `start + 1` to `stop` of a run are done.

  Attributes:
    index: of the phase, from 0.
    start: updates made before it.
    stop: updates made at its end.
    patch_size: side of a clean patch, px.
    batch_size: patches per step, over all devices.
  """

  index: int
  start: int
  stop: int
  patch_size: int
  batch_size: int


def make_phases(config: Any, num_devices: int) -> list[Phase]:
  """Reads the phases of a config: of `train.progressive`, or a single one.

  Raises:
    ValueError: their steps are not those of the run, the first has not the
      sizes of the config, or a batch cannot be split over the devices and
      `train.accumulate` parts.
  """
  train = config.train
  rows = [tuple(row) for row in train.progressive]
  if any(len(row) != 3 or min(row) < 1 for row in rows):
    raise ValueError(
      f"config.train.progressive={rows}: every phase is (steps, patch_size,"
      " batch_size), each at least 1"
    )
  only = (train.num_steps, config.data.patch_size, train.batch_size)
  if rows and rows[0][1:] != only[1:]:
    # Else a size from the command line would be ignored without a word.
    raise ValueError(
      f"config.data.patch_size={only[1]} and config.train.batch_size={only[2]}"
      f" must be those of the first phase, {rows[0][1:]}; change both, or set"
      " config.train.progressive=() for a single phase"
    )
  rows = rows or [only]
  if (total := sum(row[0] for row in rows)) != train.num_steps:
    raise ValueError(
      f"the phases of config.train.progressive have {total} steps in all; they"
      f" must have config.train.num_steps={train.num_steps}; change both, or"
      " set config.train.progressive=() for a single phase"
    )
  phases, start = [], 0
  for index, (steps, patch_size, batch_size) in enumerate(rows):
    if batch_size % (num_devices * train.accumulate):
      raise ValueError(
        f"config.train.batch_size={batch_size} must be a multiple of the number"
        f" of devices, {num_devices}"
        + (
          f", times config.train.accumulate={train.accumulate}"
          if train.accumulate > 1
          else ""
        )
        + (f" (phase {index} of config.train.progressive)" if index else "")
      )
    phases.append(Phase(index, start, start + steps, patch_size, batch_size))
    start += steps
  return phases
