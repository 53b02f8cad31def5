"""Starting from another run's parameters."""

import logging
import pathlib

import flax
import jax
import numpy as np
import pytest

from semanir_jax.machine import sharding
from semanir_jax.networks import build, checkpoint, load, safetensors_file
from semanir_jax.training.checkpoints import Checkpoints
from semanir_jax.training.warm_start import load_parameters
from tests import small

pytestmark = pytest.mark.slow

X2 = small.COLUMNAR
X4 = small.COLUMNAR.clone(scale=4)


@pytest.fixture(scope="module")
def x2_run(tmp_path_factory) -> pathlib.Path:
  """A run of x2 whose average is 1 everywhere and whose parameters are not."""
  workdir = tmp_path_factory.mktemp("x2")
  state = small.state(X2)
  state = state.replace(
    ema_params=jax.tree.map(lambda x: x * 0 + 1, state.params)
  )
  checkpoints = Checkpoints(str(workdir), keep=1)
  config = small.config(
    model__architecture="columnar", model__scale=2, model__depths=(1,)
  )
  model = build.make_model(config.model)
  assert model.clone(execution=X2.execution) == X2
  checkpoints.save(
    3, state, {"batches_taken": 3}, checkpoint.config_to_json(config)
  )
  checkpoints.close()
  return workdir


def _on_mesh(model, ema_decay=0.9):
  """An initial state, split as in training."""
  state = small.state(model, ema_decay)
  mesh = sharding.make_mesh(data=2, fsdp=4)
  places = sharding.state_shardings(state, mesh, ((".*", "fsdp"),))
  return jax.device_put(jax.device_get(state), places)


def _flat(tree):
  return flax.traverse_util.flatten_dict(tree, sep="/")


def test_x4_starts_from_x2_with_a_new_upsampler(x2_run, caplog):
  caplog.set_level(logging.INFO)
  initial = _on_mesh(X4)
  state = load_parameters(initial, str(x2_run))
  before, after = _flat(initial.params), _flat(state.params)
  there = _flat(small.state(X2).params)
  new = {
    name
    for name in after
    if there.get(name, np.zeros(0)).shape != after[name].shape
  }
  assert new and all("upsampl" in name for name in new), new
  for name, leaf in after.items():
    assert leaf.sharding == before[name].sharding, name
    expected = before[name] if name in new else np.ones(leaf.shape)
    np.testing.assert_array_equal(leaf, expected, name)
  small.assert_equal_trees(state.ema_params, state.params)
  # The rest is that of a new run.
  small.assert_equal_trees(state.opt_state, initial.opt_state)
  assert state.step == 0
  loaded = len(after) - len(new)
  assert f"({loaded} of {len(after)} arrays)" in caplog.text
  assert str(x2_run) in caplog.text
  assert f"{len(new)} arrays start from random values" in caplog.text
  for name in sorted(new)[:2]:
    assert f"{name}: here {after[name].shape}, there" in caplog.text


def test_a_file_of_weights_is_taken_too(x2_run, tmp_path):
  network = load.load_network(str(x2_run))
  params, config = network.params, network.config
  safetensors_file.write_weights(tmp_path / "x2.safetensors", params, config)
  state = load_parameters(_on_mesh(X2), str(tmp_path / "x2.safetensors"))
  small.assert_equal_trees(state.params, params)


def test_the_average_and_the_parameters_are_not_one_array(x2_run):
  # A donated state may hold an array once only.
  state = load_parameters(_on_mesh(X2), str(x2_run))
  donated = jax.jit(
    lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0
  )(state)
  assert float(jax.tree.leaves(donated.params)[0].ravel()[0]) == 2.0


def test_a_run_without_an_average_gets_none(x2_run):
  state = load_parameters(_on_mesh(X2, 0.0), str(x2_run))
  assert state.ema_params == {}
  assert all((np.asarray(x) == 1).all() for x in jax.tree.leaves(state.params))


def test_another_architecture_is_refused(x2_run):
  with pytest.raises(build.CheckpointError, match="only 4 of the 44 arrays"):
    load_parameters(_on_mesh(small.USHAPE.clone(dim=16)), str(x2_run))


def test_a_path_without_a_checkpoint_is_refused(tmp_path):
  with pytest.raises(build.CheckpointError, match="no checkpoint in"):
    load_parameters(_on_mesh(X2), str(tmp_path))
