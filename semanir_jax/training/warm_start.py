"""Starts a run from the parameters of another one, as far as they fit."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import traverse_util

from semanir_jax.networks.build import CheckpointError
from semanir_jax.networks.load import load_network
from semanir_jax.training.step import TrainState

_NAMED = 8  # arrays that a message lists
_Leaves = Mapping[tuple[str, ...], Any]  # arrays by their path


def load_parameters(state: TrainState, name: str) -> TrainState:
  """Replaces initial parameters by those of a network with the same name and
  shape; says which were loaded and which were not.

  A network with another upsampler (x4 from x2) keeps the initial values of what
  only it has. Optimizer, step and random key stay new.

  Args:
    state: initial state; its arrays say where parameters lie.
    name: see `load.load_network`; the moving average is taken where a run
      has one. Every process reads the whole network, 0.1 GB at most.

  Returns:
    The state with these parameters, and as their average.

  Raises:
    CheckpointError: there is no checkpoint, it is damaged, or most arrays do
      not fit.
  """
  there = _flatten(load_network(name).params)
  here = _flatten(state.params)
  fits = {
    path
    for path, leaf in there.items()
    if path in here and leaf.shape == here[path].shape
  }
  _report(here, there, fits, name)
  params = traverse_util.unflatten_dict(
    {
      path: jax.device_put(
        np.asarray(there[path], leaf.dtype), leaf.sharding, may_alias=False
      )
      if path in fits
      else leaf
      for path, leaf in here.items()
    }
  )
  average = jax.tree.map(jnp.copy, params) if state.ema_params else {}
  return state.replace(params=params, ema_params=average)


def _flatten(tree: Mapping[str, Any]) -> _Leaves:
  return traverse_util.flatten_dict(tree)


def _report(
  here: _Leaves,
  there: _Leaves,
  fits: Collection[tuple[str, ...]],
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
    raise CheckpointError(
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


def _line(name: tuple[str, ...], here: _Leaves, there: _Leaves) -> str:
  """Says "upsampler/conv/kernel: here (3, 3, 64, 256), there absent"."""
  shapes = [
    tuple(tree[name].shape) if name in tree else "absent"
    for tree in (here, there)
  ]
  return f"{'/'.join(name)}: here {shapes[0]}, there {shapes[1]}"
