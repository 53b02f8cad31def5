"""Networks, images, configs and checkpoints small enough for tests."""

import functools
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from configs import base
from semanir_jax.machine.sharding import DATA_AXES
from semanir_jax.models.parameters import abstract_params
from semanir_jax.models.semanir import SemanIR
from semanir_jax.networks import build, checkpoint, safetensors_file
from semanir_jax.networks.loaded_network import LoadedNetwork
from semanir_jax.training.checkpoints import Checkpoints
from semanir_jax.training.optimizer import make_optimizer
from semanir_jax.training.step import TrainState, create_state

SIZE = {
  "dim": 8,
  "num_heads": 1,
  "window_size": 4,
  "num_keys": 8,
  "max_keys": 16,
  "drop_path_rate": 0.0,
}
USHAPE = SemanIR(architecture="ushape", depths=(1, 1), **SIZE)
DEEP_USHAPE = USHAPE.clone(depths=(1, 1, 1, 1))
COLUMNAR = SemanIR(architecture="columnar", depths=(1,), scale=2, **SIZE)


class Images:
  """A source of arrays, or of (input, target) pairs, that counts its reads."""

  def __init__(self, items: Iterable[Any]) -> None:
    self.items = list(items)
    self.reads = 0

  def __len__(self) -> int:
    return len(self.items)

  def __getitem__(self, index: int) -> dict[str, Any]:
    self.reads += 1
    item, name = self.items[index], f"number {index}"
    if isinstance(item, tuple):
      return {"input": item[0], "target": item[1], "name": name}
    return {"image": item, "name": name}


def config(**changes: Any) -> ConfigDict:
  """The `smoke` config with changes by dotted name (__ for the dot)."""
  config = base.get_config("smoke").unlock()
  flat = {name.replace("__", "."): value for name, value in changes.items()}
  config.update_from_flattened_dict(flat)
  return config.lock()


def batch(
  model: SemanIR, *, count: int = 2, side: int = 8, seed: int = 0
) -> dict[str, np.ndarray]:
  """Random images that fit a model, `side` px before it."""
  rng = np.random.RandomState(seed)
  shapes = {
    "lq": (side, side, model.in_channels),
    "hq": (side * model.scale, side * model.scale, model.out_channels),
  }
  return {
    name: rng.uniform(0, 1, (count, *shape)).astype(np.float32)
    for name, shape in shapes.items()
  }


@functools.cache
def params(model: SemanIR) -> Any:
  """Initial parameters."""
  side = model.size_multiple
  images = np.zeros((1, side, side, model.in_channels), np.float32)
  return jax.jit(model.init)(jax.random.key(0), images)["params"]


def network(
  model: SemanIR,
  parameters: Any = None,
  *,
  degradation: dict[str, Any] | None = None,
) -> LoadedNetwork:
  """A network as it is loaded.

  Args:
    model: of it.
    parameters: of it; None for the initial ones.
    degradation: that it was trained on; None for pairs.
  """
  found = params(model) if parameters is None else parameters
  config = {"data": {"degradation": degradation or {}}}
  return LoadedNetwork(model, found, config)


def optimizer(**changes: Any) -> optax.GradientTransformation:
  """Plain Adam, but for the options of `make_optimizer` given."""
  options = {
    "name": "adamw",
    "momentum": 0.95,
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "weight_decay": 0.0,
    "grad_clip_norm": 0.0,
  }
  return make_optimizer(**options | changes)


def state(model: SemanIR, ema_decay: float = 0.9) -> TrainState:
  """Initial train state on one device; 0 for one without an average."""
  averaged = _averaged_state(model)
  return averaged if ema_decay else averaged.replace(ema_params={})


@functools.cache
def _averaged_state(model: SemanIR) -> TrainState:
  """With plain Adam, as the `smoke` config has it but for its numbers."""
  create = functools.partial(
    create_state, model, optimizer(), seed=0, ema_decay=0.9
  )
  return jax.jit(create)()


def plain_state(step: int) -> TrainState:
  """Stands for a train state where no network is needed: of a few arrays, with
  no two values equal, of other steps neither.
  """
  numbers = np.arange(1050, dtype=np.float32) / 1050 + 10 * step

  def tree(plus: int) -> dict[str, np.ndarray]:
    return {"bias": numbers[:50] + plus, "kernel": numbers[50:] + plus}

  state = TrainState(
    step=np.int32(step),
    params=tree(0),
    ema_params=tree(1),
    opt_state={"mu": tree(2)},
    rng=np.array([step, step + 1], np.uint32),
    skipped=np.int32(0),
    skipped_in_row=np.int32(0),
  )
  return jax.device_put(state, jax.devices()[0])


def save_run(
  workdir: pathlib.Path, config: ConfigDict, *, steps: tuple[int, ...] = (2,)
) -> pathlib.Path:
  """Writes a workdir as a training run leaves it, without training."""
  model = build.make_model(config.model)
  checkpoints = Checkpoints(str(workdir), keep=3)
  for step in steps:
    checkpoints.save(
      step,
      state(model, config.train.ema_decay),
      {"batches_taken": step},
      checkpoint.config_to_json(config),
    )
  checkpoints.close()
  return workdir


def write_network(
  path: pathlib.Path,
  *,
  degradation: dict[str, Any] | None = None,
  **changes: Any,
) -> pathlib.Path:
  """Writes a file of random weights.

  Args:
    path: of the file.
    degradation: that it was trained on; None for the config's.
    **changes: as in `config`.
  """
  options = config(**changes).unlock()
  if degradation is not None:
    options.data.degradation = degradation
  shapes = abstract_params(build.make_model(options.model))
  rng = np.random.default_rng(0)
  random = jax.tree.map(
    lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes
  )
  safetensors_file.write_weights(
    path, random, checkpoint.config_to_json(options)
  )
  return path


def assert_equal_trees(a: Any, b: Any) -> None:
  """Bit for bit, structure and all."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for (path, x), y in zip(
    jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
  ):
    name = jax.tree_util.keystr(path)
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y), name)


def one_device_mesh() -> Mesh:
  """A mesh of the first device alone."""
  devices = np.array(jax.devices()[:1]).reshape(1, 1)
  return Mesh(devices, DATA_AXES, axis_types=(AxisType.Auto,) * 2)
