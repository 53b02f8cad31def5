"""The fields of `config.model`, and what the named sizes of SemanIR set.

S and B are the paper's: with them every published parameter count is met
exactly [fits]. U has the published count within 1 %; its widths and depths are
ours, the paper names neither. The `light` and `tiny` sizes are ours, for people
with little compute: `light` is in SwinIR-light's class (0.9 M parameters).

The head size is 30 throughout, the published one of S and B, so that all sizes
run the same kernels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semanir_jax.models.execution import Execution
from semanir_jax.models.semanir import SemanIR

_COLUMNAR = {"architecture": "columnar"}
_USHAPE = {"architecture": "ushape", "scale": 1}
_PAPER = {"window_size": 32, "num_keys": 512, "max_keys": 512}
_LIGHT = {"window_size": 16, "num_keys": 128, "max_keys": 256}
_TINY = {"window_size": 8, "num_keys": 32, "max_keys": 64}
_DIRECT = {"upsampler": "pixelshuffledirect"}
# The drop path of GRL regularises networks of 36 layers and more.
_UNDROPPED = {"drop_path_rate": 0.0}

SIZES: Mapping[str, Mapping[str, Any]] = {
  "tiny": _COLUMNAR
  | _TINY
  | _DIRECT
  | _UNDROPPED
  | {"dim": 30, "num_heads": 1, "depths": (4,) * 4},
  "light": _COLUMNAR
  | _LIGHT
  | _DIRECT
  | _UNDROPPED
  | {"dim": 60, "num_heads": 2, "depths": (6,) * 4},
  "S": _COLUMNAR | _PAPER | {"dim": 180, "num_heads": 6, "depths": (6,) * 6},
  "B": _COLUMNAR | _PAPER | {"dim": 180, "num_heads": 6, "depths": (8,) * 8},
  "U_tiny": _USHAPE
  | _TINY
  | _UNDROPPED
  | {"dim": 30, "num_heads": 1, "depths": (2,) * 4},
  "U_light": _USHAPE
  | _LIGHT
  | _UNDROPPED
  | {"dim": 30, "num_heads": 1, "depths": (2,) * 6},
  "U": _USHAPE
  | _PAPER
  | {"dim": 90, "num_heads": 3, "depths": (8, 12, 12, 12, 8, 8)},
}

# Parameters in the paper's tables, in millions, by size and scale.
PUBLISHED_MILLIONS: Mapping[tuple[str, int], float] = {
  ("S", 2): 11.87,
  ("S", 3): 12.05,
  ("S", 4): 12.02,
  ("B", 2): 19.90,
  ("B", 3): 20.08,
  ("B", 4): 20.04,
  ("U", 1): 25.82,
}


def default_options() -> dict[str, Any]:
  """Returns every field of `config.model` with its default.

  They are the fields of `SemanIR` and of its `Execution`, with words for what
  those take as objects: `dictionary` and `similarity`
  (`ablations.make_key_search`), `shift` (`ablations.shifts_windows`) and
  `dtype`, "float32" or "bfloat16".
  """
  fields = (*dataclasses.fields(SemanIR), *dataclasses.fields(Execution))
  objects = ("shift_windows", "key_search", "execution")
  options = {
    field.name: field.default
    for field in fields
    if field.name not in (*objects, "parent", "name")
  }
  words = {"dictionary": "stage", "similarity": "dot", "shift": "stage"}
  return options | words | {"dtype": "float32"}
