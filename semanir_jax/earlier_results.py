"""Results of another evaluation that lie in the folder of a new one."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import logging


def set_aside(output: pathlib.Path, protocol: Mapping[str, Any]) -> None:
  """Renames the results in a folder, unless they are of this protocol.

  Another network, step, k, set or option is another evaluation. `results.json`
  and `results.md`, and of each of its sets the CSV file and the folder of
  pictures, get a number, as `results_1.json`.

  Args:
    output: folder of an evaluation.
    protocol: of the new one, plain JSON values, as `results.json` has it.
  """
  try:
    found = json.loads((output / "results.json").read_text())["protocol"]
    names = list(found["sets"])
  except FileNotFoundError:
    return
  except (KeyError, TypeError, ValueError):
    found, names = None, []  # damaged, or of another program
  if found == protocol:
    return
  number = 1
  while (output / f"results_{number}.json").exists():
    number += 1
  # Last what says that there is something to rename.
  own = [(name, suffix) for name in names for suffix in ("", ".csv")]
  for name, suffix in [*own, ("results", ".md"), ("results", ".json")]:
    path = output / f"{name}{suffix}"
    if path.exists():
      path.replace(output / f"{name}_{number}{suffix}")
  logging.warning(
    "%s: the results of another evaluation are kept as results_%d and so on",
    output,
    number,
  )
