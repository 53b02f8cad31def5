"""Checkpoints: what training needs to go on, and what inference needs to run.

A checkpoint holds `params` (and `ema_params` where there is a moving average),
`training` (optimizer, step, random key), `data` (position in the stream) and
`config` (the whole config as JSON). Inference reads the config and one set of
parameters: nothing has to be told to it twice.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from semanir_jax.models.semanir import SemanIR

FOLDER = "checkpoints"  # inside a workdir


class CheckpointError(ValueError):
  """A checkpoint that is missing or does not fit; says what to do."""


def open_manager(
  folder: pathlib.Path, options: ocp.CheckpointManagerOptions | None = None
) -> ocp.CheckpointManager:
  """Opens a folder of checkpoints; the items are those of the module's text."""
  handlers = {
    "params": ocp.StandardCheckpointHandler(),
    "ema_params": ocp.StandardCheckpointHandler(),
    "training": ocp.StandardCheckpointHandler(),
    "data": ocp.JsonCheckpointHandler(),
    "config": ocp.JsonCheckpointHandler(),
  }
  return ocp.CheckpointManager(folder, item_handlers=handlers, options=options)


def checkpoint_folder(path: str) -> tuple[pathlib.Path, int | None]:
  """Finds the folder of checkpoints and the step that a path means.

  Args:
    path: a workdir, its `checkpoints` folder, or one step inside that.

  Returns:
    The folder of steps, and the step, None for the newest.

  Raises:
    CheckpointError: nothing is there.
  """
  folder = pathlib.Path(path).absolute()
  step = None
  if folder.name.isdigit():
    folder, step = folder.parent, int(folder.name)
  elif (folder / FOLDER).is_dir():
    folder = folder / FOLDER
  if not folder.is_dir() or not any(p.name.isdigit() for p in folder.iterdir()):
    raise CheckpointError(
      f"no checkpoint in {path}; give the --workdir of a training run, or one"
      f" of the steps in its {FOLDER} folder"
    )
  if step is not None and not (folder / str(step)).is_dir():
    raise CheckpointError(f"no checkpoint of step {step} in {folder}")
  return folder, step


def make_model(options: Mapping[str, Any]) -> SemanIR:
  """Builds the network from `config.model`.

  Raises:
    ValueError: an option is unknown.
  """
  known = set(SemanIR.__dataclass_fields__) - {"parent", "name"}
  unknown = sorted(set(options) - known)
  if unknown:
    raise ValueError(f"config.model has unknown fields {unknown}")
  values = {
    name: tuple(value) if isinstance(value, list | tuple) else value
    for name, value in options.items()
  }
  return SemanIR(**values)


def load_for_inference(
  path: str,
) -> tuple[SemanIR, Mapping[str, Any], Mapping[str, Any]]:
  """Loads a trained network.

  Args:
    path: see `checkpoint_folder`.

  Returns:
    The model, its parameters (the moving average where there is one) on one
    device, and the config it was trained with, as nested dicts.

  Raises:
    CheckpointError: no checkpoint is there, it is damaged, or its parameters
      are not those of the network its config describes.
  """
  folder, step = checkpoint_folder(path)
  with open_manager(folder) as manager:
    step = manager.latest_step() if step is None else step
    if step is None:
      raise CheckpointError(f"no finished checkpoint in {folder}")
    place = folder / str(step)
    try:
      restored = manager.restore(
        step, args=ocp.args.Composite(config=ocp.args.JsonRestore())
      )
    except Exception as error:
      raise CheckpointError(
        f"{place} cannot be read ({_first_line(error)}); it is damaged or not"
        " a checkpoint of semanir_jax: use another step"
      ) from error
    config = restored["config"]
    model = make_model(config["model"])
    averaged = config["train"]["ema_decay"] > 0
    item = "ema_params" if averaged else "params"
    params = _restore_params(manager, step, item, model, place)
  return model, params, config


def _restore_params(
  manager: ocp.CheckpointManager,
  step: int,
  item: str,
  model: SemanIR,
  place: pathlib.Path,
) -> Mapping[str, Any]:
  """Restores one set of parameters, whatever devices it was written from."""
  expected = abstract_params(model)
  metadata = manager.item_metadata(step)[item]
  check_same_shapes(expected, metadata.tree, str(place))
  one_device = SingleDeviceSharding(jax.local_devices()[0])
  target = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=one_device
    ),
    expected,
  )
  try:
    restored = manager.restore(
      step,
      args=ocp.args.Composite(**{item: ocp.args.StandardRestore(target)}),
    )
  except Exception as error:
    raise CheckpointError(
      f"{place}/{item} cannot be read ({_first_line(error)}); it is damaged:"
      " use another step"
    ) from error
  return restored[item]


def abstract_params(model: SemanIR) -> Mapping[str, Any]:
  """Shapes and types of a model's parameters."""
  side = model.size_multiple
  images = jax.ShapeDtypeStruct((1, side, side, model.in_channels), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


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
      f"{place} holds another architecture: {len(different)} of"
      f" {len(names)} arrays differ ({rows}); use the config it was trained"
      " with, or another --workdir"
    )


def _shapes_by_name(tree: Any) -> dict[str, tuple[int, ...]]:
  """`{"stage_0/layers/...": shape}` of a tree of arrays or their metadata."""
  leaves = jax.tree_util.tree_leaves_with_path(
    tree, is_leaf=lambda x: hasattr(x, "shape")
  )
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
    for path, leaf in leaves
  }


def _first_line(error: Exception) -> str:
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[0][:200]


def config_to_json(config: Any) -> Mapping[str, Any]:
  """A ConfigDict as plain JSON values."""
  return json.loads(config.to_json())
