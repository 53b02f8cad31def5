"""Starts a run from the parameters of another one, as far as they fit."""

from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging

from semanir_jax import checkpoint
from semanir_jax.training.step import TrainState

_NAMED = 8  # arrays that a message lists


def load_parameters(state: TrainState, path: str) -> TrainState:
  """Replaces initial parameters by those of a checkpoint with the same name
  and shape; says which were loaded and which were not.

  A network with another upsampler (x4 from x2) keeps the initial values of what
  only it has. Optimizer, step and random key stay new.

  Args:
    state: initial state; its arrays say where parameters lie.
    path: see `checkpoint.checkpoint_folder`; the moving average is taken where
      there is one.

  Returns:
    The state with these parameters, and as their average.

  Raises:
    CheckpointError: there is no checkpoint, it is damaged, or most arrays do
      not fit.
  """
  folder, step = checkpoint.checkpoint_folder(path)
  with checkpoint.open_manager(folder) as manager:
    step = manager.latest_step() if step is None else step
    if step is None:
      raise checkpoint.CheckpointError(
        f"config.init_from={path}: no finished checkpoint there"
      )
    with checkpoint.reading(manager, step):
      metadata = manager.item_metadata(step)
      item = "ema_params" if "ema_params" in metadata else "params"
      there = metadata[item].tree
    here = flax.traverse_util.flatten_dict(state.params)
    fits = {
      name: leaf
      for name, leaf in flax.traverse_util.flatten_dict(there).items()
      if name in here and tuple(leaf.shape) == here[name].shape
    }
    place = f"{folder / str(step)} ({item})"
    _report(here, flax.traverse_util.flatten_dict(there), fits, place)
    found = checkpoint.restore_items(
      manager, step, **{item: _restore_args(there, here, fits)}
    )[item]
  loaded = flax.traverse_util.flatten_dict(found)
  params = flax.traverse_util.unflatten_dict(
    {name: loaded[name] if name in fits else here[name] for name in here}
  )
  average = jax.tree.map(jnp.copy, params) if state.ema_params else {}
  return state.replace(params=params, ema_params=average)


def _restore_args(
  there: Mapping[str, Any],
  here: Mapping[tuple[str, ...], jax.Array],
  fits: Mapping[tuple[str, ...], Any],
) -> ocp.args.StandardRestore:
  """What fits goes where the state has it; the rest goes anywhere."""
  anywhere = next(iter(here.values())).sharding.mesh
  whole = jax.sharding.NamedSharding(anywhere, jax.sharding.PartitionSpec())

  def place(name: tuple[str, ...], leaf: Any) -> jax.ShapeDtypeStruct:
    if name not in fits:
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole)
    return jax.ShapeDtypeStruct(
      leaf.shape, here[name].dtype, sharding=here[name].sharding
    )

  flat = flax.traverse_util.flatten_dict(there)
  return ocp.args.StandardRestore(
    flax.traverse_util.unflatten_dict(
      {name: place(name, leaf) for name, leaf in flat.items()}
    )
  )


def _report(
  here: Mapping[tuple[str, ...], Any],
  there: Mapping[tuple[str, ...], Any],
  fits: Mapping[tuple[str, ...], Any],
  place: str,
) -> None:
  """Logs what is loaded, what starts anew and what is not used.

  Raises:
    CheckpointError: it is another network, not another head: less than half
      of the arrays are loaded.
  """
  new = [_line(name, here, there) for name in here if name not in fits]
  unused = [_line(name, here, there) for name in there if name not in here]
  if 2 * len(fits) < len(here):
    raise checkpoint.CheckpointError(
      f"config.init_from: only {len(fits)} of the {len(here)} arrays of this"
      f" network have their name and shape in {place} ({'; '.join(new[:3])});"
      " give a checkpoint of the same size (config.model)"
    )
  count = sum(here[name].size for name in fits)
  total = sum(leaf.size for leaf in here.values())
  logging.info(
    "loaded %d of %d parameters (%d of %d arrays) from %s",
    count,
    total,
    len(fits),
    len(here),
    place,
  )
  for what, lines in (
    ("start from random values, they are not there", new),
    ("are there and not used", unused),
  ):
    if lines:
      more = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
      logging.warning(
        "%d arrays %s: %s%s", len(lines), what, "; ".join(lines[:_NAMED]), more
      )


def _line(
  name: tuple[str, ...], here: Mapping[Any, Any], there: Mapping[Any, Any]
) -> str:
  """As "upsampler/conv/kernel: here (3, 3, 64, 256), there absent"."""
  shapes = [
    tuple(tree[name].shape) if name in tree else "absent"
    for tree in (here, there)
  ]
  return f"{'/'.join(name)}: here {shapes[0]}, there {shapes[1]}"
