"""What a run is made of before its first step, each part from the config."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import Mesh

from semanir_jax.data import splits
from semanir_jax.data.train_iterator import TrainIterator
from semanir_jax.degradations import make as make_degradation
from semanir_jax.evaluation import loop
from semanir_jax.evaluation.test_sets import TestSet, open_test_sets
from semanir_jax.machine import distributed, sharding
from semanir_jax.machine.compiled import keep_compiled_in
from semanir_jax.machine.flops import count_flops
from semanir_jax.models.semanir import SemanIR
from semanir_jax.networks import build, checkpoint
from semanir_jax.networks.load import check_there
from semanir_jax.networks.run_folder import find_checkpoint
from semanir_jax.training import optimizer as optimizer_lib
from semanir_jax.training.checkpoints import Checkpoints, abstract_like
from semanir_jax.training.data import make_data, open_train_sources
from semanir_jax.training.losses import make_loss
from semanir_jax.training.phases import Phase, make_phases
from semanir_jax.training.record import config_changes
from semanir_jax.training.step import (
  TrainState,
  TrainStep,
  create_state,
  make_train_step,
)
from semanir_jax.training.tracker import check_tracker
from semanir_jax.training.warm_start import load_parameters


@dataclasses.dataclass(frozen=True)
class PlacedStep:
  """Holds a train step and the places of its arrays; nothing is placed yet.

  Attributes:
    train_step: `(state, batch) -> (state, metrics)`, compiled where it is first
      called, once for every size of batch; it replaces the state in place.
    init: makes the initial state.
    shapes: tree of `jax.ShapeDtypeStruct` of the state.
    shardings: tree of `NamedSharding` of the state.
  """

  train_step: Any
  init: Callable[[], TrainState]
  shapes: TrainState
  shardings: TrainState


@dataclasses.dataclass(frozen=True)
class Plan:
  """Holds what a config says, ready to run; nothing is on the devices yet.

  Attributes:
    model: the network.
    mesh: devices of all processes.
    phases: of the run.
    data: this process's batches, one iterator per phase.
    sets: test sets that are measured while training.
    placed: the train step, once for all phases.
  """

  model: SemanIR
  mesh: Mesh
  phases: Sequence[Phase]
  data: Sequence[TrainIterator]
  sets: Sequence[TestSet]
  placed: PlacedStep


def make_plan(config: Any) -> Plan:
  """Builds and opens all that a run needs, so that a mistake in a later phase
  or a test set does not end a run after hours.

  Raises:
    ValueError: a field of the config does not fit.
    ImageError: an image cannot be read.
  """
  _check_numbers(config)
  loop.check_options(config.eval)
  with distributed.shared_errors():
    check_tracker(config.log.tracker)
    keep_compiled_in(config.compilation_cache_dir)
  mesh = sharding.make_mesh(
    data=config.mesh.data, fsdp=config.mesh.fsdp, slices=config.mesh.slices
  )
  logging.info("devices: %s, mesh %s", jax.devices(), dict(mesh.shape))
  phases = make_phases(config, mesh.size)
  model = build.make_model(config.model)
  _check_network(config, model)
  placed = place_step(config, model, mesh)
  with distributed.shared_errors():
    sources = open_train_sources(config)
    data = [make_data(config, sources, phase) for phase in phases]
    sets = []
    if config.eval.every_steps > 0:
      sets = open_test_sets(config.eval.sets, config.data.data_dir)
      named = {one.name: one.options for one in sets}
      splits.warn_of_seen_images(named, config.data.train)
      sets = [one for one in sets if one.options.get("validate", True)]
  return Plan(model, mesh, phases, data, sets, placed)


# The least value of fields that nothing else checks, or not by their name.
_LEAST = {
  "seed": 0,
  "data.num_workers": 0,
  "data.num_threads": 0,
  "data.cache_gib": 0,
  "train.accumulate": 1,
  "train.max_skipped": 1,
  "train.ema_decay": 0,
  "optimizer.beta1": 0,
  "optimizer.beta2": 0,
  "eval.every_steps": 0,
  "checkpoint.every_steps": 0,
  "log.every_steps": 0,
}


def _check_numbers(config: Any) -> None:
  """Refuses numbers that would be ignored, or fail far from their field."""
  for field, least in _LEAST.items():
    value = functools.reduce(getattr, field.split("."), config)
    if not least <= value < math.inf:  # nor NaN
      raise ValueError(
        f"config.{field}={value} must be at least {least}, and finite"
      )
  for field in ("train.ema_decay", "optimizer.beta1", "optimizer.beta2"):
    if (value := functools.reduce(getattr, field.split("."), config)) >= 1:
      raise ValueError(f"config.{field}={value} must be below 1")


def _check_network(config: Any, model: SemanIR) -> None:
  """Looks before anything compiles; of pairs the scale is not known yet.

  Raises:
    ValueError: the network does not take and make what the data hold.
  """
  channels, options = config.data.channels, config.data.degradation.to_dict()
  if not model.in_channels == model.out_channels == channels:
    raise ValueError(
      f"config.model.in_channels={model.in_channels} and"
      f" out_channels={model.out_channels} must both be"
      f" config.data.channels={channels}"
    )
  if options and (scale := make_degradation(**options).scale) != model.scale:
    raise ValueError(
      f"config.model.scale={model.scale} must be that of"
      f" config.data.degradation, {scale}"
    )


def make_step(
  config: Any, model: SemanIR, mesh: Mesh
) -> tuple[TrainStep, Callable[[], TrainState]]:
  """Builds the train step and the initialiser of its state."""
  optimizer = optimizer_lib.make_optimizer(**config.optimizer)
  schedule = optimizer_lib.make_schedule(
    num_steps=config.train.num_steps, **config.schedule
  )
  train_step = make_train_step(
    model,
    make_loss(**config.loss),
    optimizer,
    schedule,
    mesh,
    ema_decay=config.train.ema_decay,
    random_num_keys=config.train.random_num_keys,
    accumulate=config.train.accumulate,
  )
  init = functools.partial(
    create_state,
    model,
    optimizer,
    seed=config.seed,
    ema_decay=config.train.ema_decay,
  )
  return train_step, init


def place_step(config: Any, model: SemanIR, mesh: Mesh) -> PlacedStep:
  """Builds the train step and says on which devices its arrays lie.

  Raises:
    ValueError: a field of the config does not fit.
  """
  train_step, init = make_step(config, model, mesh)
  shapes = jax.eval_shape(init)
  shardings = sharding.state_shardings(shapes, mesh, config.mesh.rules)
  # The state is replaced by the next one in place; the batch is not.
  train_step = jax.jit(
    train_step,
    donate_argnums=0,
    in_shardings=(shardings, sharding.batch_sharding(mesh)),
    out_shardings=(shardings, None),
  )
  return PlacedStep(train_step, init, shapes, shardings)


def check_init_from(config: Any, workdir: str) -> None:
  """Looks, before a run is begun, for what it is to begin from.

  A run that goes on from its own checkpoints does not need it any more.

  Raises:
    CheckpointError: neither is there.
  """
  if not config.init_from:
    return
  try:
    find_checkpoint(workdir)
  except build.CheckpointError:
    check_there(config.init_from)


def start_state(
  config: Any, plan: Plan, checkpoints: Checkpoints
) -> tuple[TrainState, Any, dict[str, Any]]:
  """Makes the state to go on from: the newest checkpoint's, or a new one.

  A new one is made on the devices, each its part, and takes what fits of
  `config.init_from`.

  Args:
    config: see configs/base.py.
    plan: of this config.
    checkpoints: of the workdir.

  Returns:
    The state, the position in the data (None for a new run), and the fields of
    the config that changed since the checkpoint, which are logged.

  Raises:
    CheckpointError: a checkpoint does not fit or is damaged.
  """
  placed = plan.placed
  restored = checkpoints.restore_latest(
    abstract_like(placed.shapes, placed.shardings)
  )
  if restored is None:
    state = jax.jit(placed.init, out_shardings=placed.shardings)()
    if config.init_from:
      state = load_parameters(state, config.init_from)
    return state, None, {}
  state, position, before = restored
  changes = config_changes(before, checkpoint.config_to_json(config))
  for name, (old, new) in changes.items():
    logging.warning("config.%s: %r in the checkpoint, now %r", name, old, new)
  if config.init_from and "init_from" in changes:
    logging.warning(
      "config.init_from=%s has no effect: the run goes on from step %d;"
      " give a new --workdir to start from it",
      config.init_from,
      state.step,
    )
  return state, position, changes


def step_flops(model: SemanIR, phase: Phase, params: Any) -> int:
  """Counts the network's arithmetic in a training step, of all devices.

  It is three times a forward pass of the batch, whatever is computed again to
  save memory: the numerator of model FLOPs utilisation. The attention counts in
  the form that the platform's rule takes on a CPU, not as a kernel does it.

  Args:
    model: the network.
    phase: with the sizes of its batches.
    params: shapes of the parameters.
  """
  side = phase.patch_size // model.scale
  images = jax.ShapeDtypeStruct(
    (phase.batch_size, side, side, model.in_channels), jnp.float32
  )
  model = model.with_execution(platform="cpu", implementation=None)
  forward = lambda params, images: model.apply({"params": params}, images)  # noqa: E731
  return 3 * count_flops(forward, params, images)
