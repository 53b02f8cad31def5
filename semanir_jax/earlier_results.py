"""Results of another evaluation that lie in the folder of a new one."""

import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import logging

UNFINISHED = "_unfinished"  # CSV file of a set that was not measured whole


def set_aside(output: pathlib.Path, protocol: Mapping[str, Any]) -> None:
  """Renames the results in a folder, unless they are of this protocol.

  Another network, step, k, set or option is another evaluation. `results.json`
  and `results.md`, and of each of its sets the CSV files and the folder of
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
  # Last what says that there is something to rename.
  own = itertools.product(names, ("", ".csv", f"{UNFINISHED}.csv"))
  old = [
    name
    for name in (*own, ("results", ".md"), ("results", ".json"))
    if (output / "".join(name)).exists()
  ]
  for number in itertools.count(1):
    new = [output / f"{name}_{number}{suffix}" for name, suffix in old]
    if not any(path.exists() for path in new):
      break
  for name, path in zip(old, new, strict=True):
    (output / "".join(name)).replace(path)
  logging.warning(
    "%s: the results of another evaluation are kept as results_%d and so on",
    output,
    number,
  )
