"""Checkpoints: what training needs to go on, and what inference needs to run.

A checkpoint holds `params` (and `ema_params` where there is a moving average),
`training` (optimizer, step, random key), `data` (position in the stream) and
`config` (all of it as JSON). Inference needs no more than it and parameters.
"""

import contextlib
import json
import pathlib
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import SingleDeviceSharding

from semanir_jax.machine import files
from semanir_jax.models.parameters import abstract_params
from semanir_jax.networks import manifest
from semanir_jax.networks.build import (
  CheckpointError,
  check_same_shapes,
  make_model,
  reading_config,
)
from semanir_jax.networks.loaded_network import LoadedNetwork
from semanir_jax.networks.run_folder import find_checkpoint

SCORE = "psnr"  # what orders steps; null where it was not measured

_STRAGGLING_SECONDS = 5.0
_FILTER_LOCK = threading.Lock()
_num_filtering = 0
_usual_hook: Callable[[Any], Any] = sys.unraisablehook


def open_manager(
  folder: pathlib.Path, options: ocp.CheckpointManagerOptions | None = None
) -> ocp.CheckpointManager:
  """Opens a folder of checkpoints; the items are those of the module's text."""
  # One device writes an array. By default each writes a part, for which orbax
  # compiles a slice: with 8, the first save of `U_light` held training up for
  # 7.0 s, now for 0.4 s, and later ones for 1.2 s, now for 0.3 s.
  whole = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
  registry = ocp.type_handlers.create_type_handler_registry((jax.Array, whole))
  handlers: dict[str, Any] = {
    name: ocp.JsonCheckpointHandler() for name in ("data", "config")
  }
  for name in ("params", "ema_params", "training"):
    handlers[name] = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
  options = options or ocp.CheckpointManagerOptions()
  options.temporary_path_class = manifest.final_paths(folder)
  # By its name: orbax has ways of its own to reach a bucket.
  return _Manager(str(folder), item_handlers=handlers, options=options)


class _Manager(ocp.CheckpointManager):
  """Reads scores where they are wanted; a step whose score is lost has none.

  By default one broken file of scores keeps all steps from being opened.
  """

  def __init__(self, *args: Any, **kwargs: Any) -> None:
    self._named: set[int] = set()  # steps whose lost score was told
    super().__init__(*args, **kwargs)

  def _get_metrics(self, step: int) -> Mapping[str, Any] | None:
    if not self._track_best:
      return None
    folder = self.directory / str(step)
    file = folder / "metrics" / "metrics"
    try:
      manifest.check_manifest(folder, ["metrics"])
      metrics = json.loads(file.read_text())
      if not isinstance(metrics, dict) or not isinstance(
        metrics.get(SCORE), int | float | None
      ):
        raise ValueError(f"it holds no {SCORE}")
      return metrics
    except (OSError, ValueError) as error:
      if step not in self._named:
        self._named.add(step)
        logging.warning(
          "%s cannot be read (%s): step %d counts as not measured, and stays"
          " no longer than the newest do",
          file,
          files.first_line(error),
          step,
        )
      return None


def restore_tree(shapes: Any) -> ocp.args.PyTreeRestore:
  """Returns orbax's argument for arrays; `shapes` have shardings."""
  to_arrays = ocp.checkpoint_utils.construct_restore_args(shapes)
  return ocp.args.PyTreeRestore(shapes, restore_args=to_arrays)


def load_for_inference(path: str) -> LoadedNetwork:
  """Loads a trained network.

  Args:
    path: see `run_folder.find_checkpoint`.

  Returns:
    The network; its parameters are the moving average where there is one.

  Raises:
    CheckpointError: no checkpoint is there, it is damaged, or its parameters
      are not those of the network its config describes.
  """
  folder, step = find_checkpoint(path)
  me = jax.process_index()  # which reads without waiting for the others
  alone = ocp.options.MultiprocessingOptions(me, {me}, f"process_{me}")
  options = ocp.CheckpointManagerOptions(
    create=False, multiprocessing_options=alone
  )
  with open_manager(folder, options) as manager:
    check_bytes(manager, step, ["config"])
    found = restore_items(manager, step, config=ocp.args.JsonRestore())
    config = found["config"]
    with reading_config(folder / str(step)):
      model = make_model(config["model"])
      model = model.with_execution(unroll=False)  # compiles sooner
      averaged = config["train"]["ema_decay"] > 0
    item = "ema_params" if averaged else "params"
    check_bytes(manager, step, [item])
    one_device = SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
      lambda leaf: leaf.update(sharding=one_device), abstract_params(model)
    )
    check_architecture(manager, step, item, target)
    found = restore_items(manager, step, **{item: restore_tree(target)})
  return LoadedNetwork(model, found[item], config)


def check_bytes(
  manager: ocp.CheckpointManager, step: int, items: Collection[str]
) -> None:
  """Compares the files of items with what the step says of them.

  Raises:
    CheckpointError: they are not those that were saved.
  """
  with reading(manager, step):
    manifest.check_manifest(manager.directory / str(step), items)


def restore_items(
  manager: ocp.CheckpointManager, step: int, **items: Any
) -> Mapping[str, Any]:
  """Restores items of one step; `items` maps their names to orbax's arguments.

  Raises:
    CheckpointError: an item is missing or damaged.
  """
  with reading(manager, step):
    return manager.restore(step, args=ocp.args.Composite(**items))


def check_architecture(
  manager: ocp.CheckpointManager, step: int, item: str, expected: Any
) -> None:
  """Compares shapes with those of a checkpoint, before it is read.

  Args:
    manager: of the checkpoints.
    step: of the checkpoint.
    item: "params", "ema_params" or "training".
    expected: tree of shapes.

  Raises:
    CheckpointError: they are of another architecture, or cannot be read.
  """
  folder = manager.directory / str(step)
  with reading(manager, step):
    if not (folder / "params").is_dir():
      raise ValueError("params is missing")
    found = {}
    if (folder / item).is_dir():
      # Of this item alone: what is not read may be damaged.
      found = ocp.PyTreeCheckpointHandler().metadata(folder / item).tree
  place = str(folder)
  check_same_shapes({item: expected}, {item: found}, place)


@contextlib.contextmanager
def reading(manager: ocp.CheckpointManager, step: int) -> Iterator[None]:
  """Turns whatever goes wrong inside into one CheckpointError."""
  with _stragglers_unsaid():
    try:
      yield
    except Exception as error:
      others = [s for s in manager.all_steps() if s != step]
      remedy = f"use step {max(others)}" if others else "train again"
      raise CheckpointError(
        f"{manager.directory / str(step)} cannot be read"
        f" ({files.first_line(error)}); it is damaged or not of semanir_jax:"
        f" move it away and {remedy}"
      ) from error


@contextlib.contextmanager
def _stragglers_unsaid() -> Iterator[None]:
  """Leaves out what Python says of reads that fail after the first one did.

  Of many parallel reads the first that fails ends it all; the others end in
  threads of their own, some after this block. So after an error the filter
  stays for some seconds.
  """
  _filter_unraisable()
  try:
    yield
  except BaseException:
    timer = threading.Timer(_STRAGGLING_SECONDS, _unfilter_unraisable)
    timer.daemon = True
    timer.start()
    raise
  _unfilter_unraisable()


def _filter_unraisable() -> None:
  """Filters what Python says of unraisable errors; calls may overlap."""
  global _num_filtering, _usual_hook
  with _FILTER_LOCK:
    if sys.unraisablehook is not _say_unraisable:
      _usual_hook, sys.unraisablehook = sys.unraisablehook, _say_unraisable
    _num_filtering += 1


def _unfilter_unraisable() -> None:
  """Ends one call of `_filter_unraisable`; the last one restores the hook."""
  global _num_filtering
  with _FILTER_LOCK:
    _num_filtering -= 1
    if not _num_filtering and sys.unraisablehook is _say_unraisable:
      sys.unraisablehook = _usual_hook


def _say_unraisable(what: Any) -> None:
  if not re.search("loop is closed|while reading", str(what.exc_value)):
    _usual_hook(what)


def config_to_json(config: Any) -> Mapping[str, Any]:
  """Returns a ConfigDict as plain JSON values."""
  return json.loads(config.to_json())
