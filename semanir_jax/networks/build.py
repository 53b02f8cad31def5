"""Builds the network that a config describes; refuses what does not fit."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from semanir_jax.models.ablations import make_key_search, shifts_windows
from semanir_jax.models.execution import Execution
from semanir_jax.models.semanir import SemanIR
from semanir_jax.models.sizes import default_options


class CheckpointError(ValueError):
  """A checkpoint that is missing or does not fit; says what to do."""


def make_model(options: Mapping[str, Any]) -> SemanIR:
  """Builds the network from `config.model`.

  Args:
    options: fields of `sizes.default_options`; the rest have their default.

  Raises:
    ValueError: an option is unknown, or its value does not fit the others.
  """
  known = default_options()
  unknown = sorted(set(options) - set(known))
  if unknown:
    raise ValueError(f"config.model has unknown fields {unknown}")
  values: dict[str, Any] = known | {
    name: tuple(value) if isinstance(value, list | tuple) else value
    for name, value in options.items()
  }
  if values["dtype"] not in ("float32", "bfloat16"):
    raise ValueError("config.model.dtype must be 'float32' or 'bfloat16'")
  search = make_key_search(values.pop("dictionary"), values.pop("similarity"))
  shift_windows = shifts_windows(values.pop("shift"))
  execution = Execution(
    **{f.name: values.pop(f.name) for f in dataclasses.fields(Execution)}
  )
  return SemanIR(
    **values,
    shift_windows=shift_windows,
    key_search=search,
    execution=execution,
  )


@contextlib.contextmanager
def reading_config(place: pathlib.Path) -> Iterator[None]:
  """Turns what is wrong with a stored config into one CheckpointError."""
  try:
    yield
  except (KeyError, TypeError, ValueError) as error:
    raise CheckpointError(
      f"{place} has a config that this version cannot read ({error}); use the"
      " version of semanir_jax that wrote it"
    ) from error


def check_same_shapes(expected: Any, found: Any, place: str) -> None:
  """Refuses parameters of another architecture, naming the first differences.

  Raises:
    CheckpointError: names or shapes differ.
  """
  shapes = [_shapes_by_name(tree) for tree in (expected, found)]
  names = sorted(set(shapes[0]) | set(shapes[1]))
  different = [n for n in names if shapes[0].get(n) != shapes[1].get(n)]
  if different:
    rows = "; ".join(
      f"{name}: here {shapes[0].get(name, 'absent')},"
      f" there {shapes[1].get(name, 'absent')}"
      for name in different[:3]
    )
    raise CheckpointError(
      f"{place} is of another architecture or optimizer: {len(different)} of"
      f" {len(names)} arrays differ ({rows}); use the config it was trained"
      " with, or another --workdir"
    )


def _shapes_by_name(tree: Any) -> dict[str, tuple[int, ...]]:
  """Returns `{"stage_0/layers/...": shape}` of arrays or their metadata."""
  leaves = jax.tree_util.tree_leaves_with_path(
    tree, is_leaf=lambda x: hasattr(x, "shape")
  )
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
    for path, leaf in leaves
  }
