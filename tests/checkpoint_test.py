"""Checkpoints: whole, found by any path to them, and refused with a reason."""

import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
import types
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from semanir_jax.machine import sharding
from semanir_jax.networks import build, checkpoint, manifest, run_folder
from semanir_jax.networks.build import CheckpointError
from semanir_jax.networks.checkpoint import load_for_inference
from semanir_jax.training.checkpoints import Checkpoints, abstract_like
from semanir_jax.training.step import TrainState
from tests import programs, small

pytestmark = pytest.mark.slow

CONFIG = small.config()


@functools.cache
def _abstract(ema_decay: float = 0.9) -> TrainState:
  """The state of `small.save_run` as shapes on one device."""
  shapes = jax.eval_shape(lambda s: s, small.state(small.USHAPE, ema_decay))
  device = SingleDeviceSharding(jax.devices()[0])
  return abstract_like(shapes, jax.tree.map(lambda _: device, shapes))


def _restore(workdir: pathlib.Path, abstract: TrainState) -> Any:
  checkpoints = Checkpoints(str(workdir), keep=3)
  try:
    return checkpoints.restore_latest(abstract)
  finally:
    checkpoints.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
  """A workdir with the steps 2 and 4; tests that change it take a copy."""
  workdir = tmp_path_factory.mktemp("saved") / "run"
  return small.save_run(workdir, CONFIG, steps=(2, 4))


@pytest.fixture
def copy(saved, tmp_path) -> pathlib.Path:
  """A copy of `saved`."""
  return pathlib.Path(shutil.copytree(saved, tmp_path / "run"))


def test_everything_that_changes_in_training_comes_back(tmp_path):
  initial = small.state(small.USHAPE, 0.9)
  keys = jax.random.split(jax.random.key(1), 3)
  state = initial.replace(
    step=initial.step + 7,
    params=jax.tree.map(lambda x: x + 1, initial.params),
    opt_state=jax.tree.map(lambda x: x + 2, initial.opt_state),
    rng=jax.random.key_data(keys[0]),
    skipped=initial.skipped + 3,
  )
  checkpoints = Checkpoints(str(tmp_path), keep=3)
  position = {"batches_taken": 7}
  settings = checkpoint.config_to_json(CONFIG)
  checkpoints.save(7, state, position, settings)
  checkpoints.close()
  restored, data, config = _restore(tmp_path, _abstract())
  small.assert_equal_trees(restored, state)
  assert data == position
  assert config == settings == json.loads(CONFIG.to_json())


def test_an_empty_workdir_has_nothing_to_restore(tmp_path):
  assert _restore(tmp_path, _abstract()) is None


def test_a_state_split_over_eight_devices_comes_back_on_one(tmp_path):
  state = small.state(small.USHAPE, 0.9)
  mesh = sharding.make_mesh(data=2, fsdp=4)
  places = sharding.state_shardings(state, mesh, CONFIG.mesh.rules)
  split = jax.device_put(state, places)
  checkpoints = Checkpoints(str(tmp_path), keep=3)
  settings = checkpoint.config_to_json(CONFIG)
  checkpoints.save(1, split, {"batches_taken": 1}, settings)
  checkpoints.close()
  restored, _, _ = _restore(tmp_path, _abstract())
  small.assert_equal_trees(restored, state)
  assert len(jax.tree.leaves(restored)[0].sharding.device_set) == 1
  params = load_for_inference(str(tmp_path)).params
  small.assert_equal_trees(params, state.params)


def test_a_save_compiles_nothing(tmp_path, caplog):
  mesh = sharding.make_mesh(data=2, fsdp=4)
  state = small.state(small.USHAPE).replace(
    params={"of no other test": np.zeros((56, 40), np.float32)},
    ema_params={},
    opt_state=(),
  )
  everywhere = NamedSharding(mesh, PartitionSpec())
  checkpoints = Checkpoints(str(tmp_path), keep=3)
  copied = jax.device_put(state, everywhere)
  with jax.log_compiles():
    checkpoints.save(1, copied, {}, {})
  checkpoints.close()
  assert "Compiling" not in caplog.text


# A process of its own: the limit is one of the whole process, and orbax leaves
# there what it had still to write.
FULL_DISK = """
import resource, sys, time
from semanir_jax.networks.checkpoint import CheckpointError
from semanir_jax.training.checkpoints import Checkpoints
from tests import small

checkpoints = Checkpoints(sys.argv[1], keep=3)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
checkpoints.save(2, small.plain_state(2), {}, {})
try:
  for _ in range(600):  # it is written in the background
    time.sleep(0.1)
    checkpoints.check()
except CheckpointError as error:
  print(error)
"""


def test_a_save_that_fails_is_told_before_the_next_is_due(tmp_path):
  checkpoints = Checkpoints(str(tmp_path), keep=3)
  checkpoints.save(1, small.plain_state(1), {}, {})
  checkpoints.close()
  command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
  ended = subprocess.run(
    command, capture_output=True, text=True, cwd=programs.ROOT
  )
  assert re.fullmatch(
    f"{tmp_path}/checkpoints: a checkpoint cannot be written .*; see that the"
    " folder may be written and has space, then the same command goes on from"
    " step 1\n",
    ended.stdout,
  ), ended.stderr


def test_only_the_newest_stay(tmp_path):
  state = small.plain_state(0)
  checkpoints = Checkpoints(str(tmp_path), keep=2)
  for step in (1, 2, 3, 3):  # saving a step again does nothing
    checkpoints.save(step, state, {"batches_taken": step}, {})
  checkpoints.close()
  folder = tmp_path / run_folder.FOLDER
  assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]


def test_the_best_stay_besides_the_newest(tmp_path):
  state = small.plain_state(0)
  scores = {1: 20.5, 2: 31.0, 3: None, 4: 30.0, 5: None}
  checkpoints = Checkpoints(str(tmp_path), keep=2, keep_best=1)
  assert checkpoints.newest() is None and checkpoints.best() is None
  checkpoints.save(0, state, {"batches_taken": 0}, {})
  assert checkpoints.newest() == 0 and checkpoints.best() is None
  for step, score in scores.items():
    checkpoints.save(step, state, {"batches_taken": step}, {}, score)
  checkpoints.close()
  folder = tmp_path / run_folder.FOLDER
  assert sorted(path.name for path in folder.iterdir()) == ["2", "4", "5"]
  # A run that goes on knows the scores of the steps before it.
  checkpoints = Checkpoints(str(tmp_path), keep=2, keep_best=1)
  assert checkpoints.newest() == 5 and checkpoints.best() == (2, 31.0)
  checkpoints.save(6, state, {"batches_taken": 6}, {}, 31.5)
  checkpoints.save(7, state, {"batches_taken": 7}, {}, 31.4)
  assert checkpoints.best() == (6, 31.5)
  checkpoints.close()
  assert sorted(path.name for path in folder.iterdir()) == ["6", "7"]


def test_scores_of_other_measures_are_not_compared(tmp_path):
  state = small.plain_state(0)
  folder = tmp_path / run_folder.FOLDER

  def save(measure: str, scores: dict[int, float]) -> tuple[int, float] | None:
    checkpoints = Checkpoints(
      str(tmp_path), keep=1, keep_best=1, measure=measure
    )
    for step, score in scores.items():
      checkpoints.save(step, state, {"batches_taken": step}, {}, score)
    best = checkpoints.best()
    checkpoints.close()
    return best

  assert save("sigma 25", {1: 31.0, 2: 30.0}) == (1, 31.0)
  assert save("sigma 50", {}) is None
  assert save("sigma 50", {3: 24.5, 4: 24.0, 5: 24.1}) == (3, 24.5)
  assert sorted(path.name for path in folder.iterdir()) == ["1", "3", "5"]
  assert save("sigma 25", {6: 31.5}) == (6, 31.5)
  assert sorted(path.name for path in folder.iterdir()) == ["3", "6"]


def test_without_scores_only_the_newest_stay(tmp_path):
  state = small.plain_state(0)
  checkpoints = Checkpoints(str(tmp_path), keep=1, keep_best=0)
  for step in (1, 2):
    checkpoints.save(step, state, {"batches_taken": step}, {}, 3.0 - step)
  checkpoints.close()
  folder = tmp_path / run_folder.FOLDER
  assert [path.name for path in folder.iterdir()] == ["2"]


@pytest.mark.parametrize(("keep", "keep_best"), [(0, 1), (1, -1)])
def test_numbers_of_checkpoints_that_cannot_be_are_refused(
  tmp_path, keep, keep_best
):
  with pytest.raises(ValueError, match="config.checkpoint.keep="):
    Checkpoints(str(tmp_path), keep=keep, keep_best=keep_best)


@pytest.mark.parametrize("path", ["", "checkpoints", "checkpoints/2"])
def test_inference_finds_the_parameters_from_any_path(saved, path):
  before = sorted(saved.rglob("*"))
  network = load_for_inference(str(saved / path))
  model, params, config = network.model, network.params, network.config
  assert model == build.make_model(CONFIG.model)
  small.assert_equal_trees(params, small.state(small.USHAPE, 0.9).params)
  assert config == json.loads(CONFIG.to_json())
  assert sorted(saved.rglob("*")) == before  # reading writes nothing


def test_the_path_may_be_relative_or_a_number(saved, tmp_path, monkeypatch):
  shutil.copytree(saved, tmp_path / "2024")
  monkeypatch.chdir(tmp_path)
  assert run_folder.find_checkpoint("2024") == (
    tmp_path / "2024" / "checkpoints",
    4,
  )
  assert run_folder.find_checkpoint("2024/checkpoints/4")[1] == 4
  (tmp_path / "2024" / "checkpoints" / "9").touch()  # not a step
  assert run_folder.find_checkpoint("2024")[1] == 4
  load_for_inference("2024")


def test_inference_takes_the_average_and_the_newest(tmp_path):
  state = small.state(small.USHAPE, 0.9)
  checkpoints = Checkpoints(str(tmp_path), keep=3)
  for step in (9, 10):
    average = jax.tree.map(lambda x, s=step: x * 0 + s, state.params)
    checkpoints.save(
      step,
      state.replace(ema_params=average),
      {"batches_taken": step},
      checkpoint.config_to_json(CONFIG),
    )
  checkpoints.close()
  params = load_for_inference(str(tmp_path)).params
  assert {
    float(x.flat[0]) for x in map(np.asarray, jax.tree.leaves(params))
  } == {10.0}
  path = tmp_path / run_folder.FOLDER / "9"
  params = load_for_inference(str(path)).params
  assert float(jax.tree.leaves(params)[0].ravel()[0]) == 9.0


def test_a_run_without_an_average_is_loaded_and_resumed(tmp_path):
  config = small.config(train__ema_decay=0.0)
  small.save_run(tmp_path, config)
  params = load_for_inference(str(tmp_path)).params
  small.assert_equal_trees(params, small.state(small.USHAPE, 0.0).params)
  restored, _, _ = _restore(tmp_path, _abstract(0.0))
  assert restored.ema_params == {}
  # With an average it cannot go on: there is none.
  with pytest.raises(CheckpointError, match=r"ema_params/.*there absent"):
    _restore(tmp_path, _abstract(0.9))


@pytest.mark.parametrize("copied", ["step_10.orbax-checkpoint-tmp", "10.tmp"])
def test_a_save_that_was_cut_short_is_ignored(copy, copied):
  folder = copy / run_folder.FOLDER
  # What orbax has written of step 10 when the process is killed.
  unfinished = "10.orbax-checkpoint-tmp" if "orbax" in copied else copied
  shutil.copytree(folder / "4", folder / unfinished)
  load_for_inference(str(copy))
  assert (folder / unfinished).is_dir()  # perhaps it is being written
  _, data, _ = _restore(copy, _abstract())
  assert data == {"batches_taken": 4}


def test_what_a_killed_save_left_is_cleared_by_the_next_run(copy):
  folder = copy / run_folder.FOLDER
  shutil.copytree(folder / "4", folder / "10.orbax-checkpoint-tmp")
  _restore(copy, _abstract())
  assert sorted(path.name for path in folder.iterdir()) == ["2", "4"]


def test_another_architecture_is_refused_by_its_first_array(copy):
  state = jax.eval_shape(lambda s: s, small.state(small.COLUMNAR))
  with pytest.raises(CheckpointError) as error:
    _restore(copy, state)
  message = str(error.value)
  assert str(copy / run_folder.FOLDER / "4") in message
  assert "params/conv_body/conv/bias: here (8,), there absent" in message
  assert "use the config it was trained with, or another --workdir" in message
  # The same for a config that does not describe its own parameters.
  wider = small.config(model__dim=16).to_json()
  step = copy / run_folder.FOLDER / "4"
  (step / manifest.NAME).unlink()
  (step / "config" / "metadata").write_text(wider)
  with pytest.raises(CheckpointError) as error:
    load_for_inference(str(copy))
  expected = "ema_params/conv_first/conv/bias: here (16,), there (8,)"
  assert expected in str(error.value)


def _with_optimizer(**options: Any) -> TrainState:
  """`_abstract` of another optimizer than that of `small.save_run`."""
  state = _abstract()
  shapes = jax.eval_shape(small.optimizer(**options).init, state.params)
  device = jax.tree.leaves(state)[0].sharding
  places = jax.tree.map(lambda _: device, shapes)
  return state.replace(opt_state=abstract_like(shapes, places))


def test_another_optimizer_is_refused(copy):
  message = r"another architecture or optimizer: .*\(training/opt_state/1/"
  with pytest.raises(CheckpointError, match=message):
    _restore(copy, _with_optimizer(name="muon"))


def test_a_run_can_go_on_with_another_weight_decay_and_clipping(copy):
  abstract = _with_optimizer(weight_decay=0.1, grad_clip_norm=1.0)
  restored, _, _ = _restore(copy, abstract)
  small.assert_equal_trees(restored, small.state(small.USHAPE))


def test_a_state_of_muon_comes_back(tmp_path):
  state = small.state(small.USHAPE)
  opt_state = small.optimizer(name="muon").init(state.params)
  state = state.replace(opt_state=jax.tree.map(lambda x: x + 2, opt_state))
  checkpoints = Checkpoints(str(tmp_path), keep=3)
  checkpoints.save(1, state, {"batches_taken": 1}, {})
  checkpoints.close()
  restored, _, _ = _restore(tmp_path, _with_optimizer(name="muon"))
  small.assert_equal_trees(restored, state)


@pytest.mark.parametrize(
  ("path", "message"),
  [
    ("nowhere", "no checkpoint in .*nowhere; give the --workdir"),
    ("run/checkpoints/3", "no step 3 in .*run/checkpoints; it has"),
    ("run/checkpoints/4/params", "no checkpoint in .*params"),
    ("empty", "no checkpoint in .*empty; give the --workdir"),
    ("a_file", "no checkpoint in .*a_file; give the --workdir"),
  ],
)
def test_a_path_without_a_checkpoint_is_refused(copy, path, message):
  (copy.parent / "empty" / run_folder.FOLDER).mkdir(parents=True)
  (copy.parent / "a_file").touch()
  with pytest.raises(CheckpointError, match=message):
    load_for_inference(str(copy.parent / path))


def _largest(folder: pathlib.Path) -> pathlib.Path:
  files = [path for path in folder.rglob("*") if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def _damage(step: pathlib.Path, part: str) -> None:
  """Cuts files of a checkpoint short, as a full disk does, or removes them; see
  damaged_checkpoint_test for one file alone.
  """
  if part == "all":
    shutil.rmtree(step)
    step.mkdir()
    return
  for item in ("params", "ema_params", "training"):
    if part == "item":
      shutil.rmtree(step / item)
    else:
      file = _largest(step / item / "ocdbt.process_0" / "d")
      file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize("part", ["arrays", "item", "all"])
def test_a_damaged_checkpoint_is_named_with_a_remedy(copy, part):
  step = copy / run_folder.FOLDER / "4"
  _damage(step, part)
  attempts = [
    lambda: load_for_inference(str(copy)),
    lambda: _restore(copy, _abstract()),
  ]
  for attempt in attempts:
    with pytest.raises(CheckpointError) as error:
      attempt()
    message = str(error.value)
    assert message.startswith(str(step)), message
    assert "\n" not in message and len(message) < 700
    assert message.endswith("move it away and use step 2")
  load_for_inference(str(copy / run_folder.FOLDER / "2"))


def test_reading_a_damaged_checkpoint_leaves_no_hook_behind(copy, monkeypatch):
  told = []
  monkeypatch.setattr(checkpoint, "_STRAGGLING_SECONDS", 0.1)
  monkeypatch.setattr(sys, "unraisablehook", told.append)
  hook = sys.unraisablehook
  with checkpoint.open_manager(copy / run_folder.FOLDER) as manager:
    with pytest.raises(CheckpointError):
      with checkpoint.reading(manager, 4):
        for text in ("Event loop is closed", "while reading 4/d", "another"):
          error = types.SimpleNamespace(exc_value=RuntimeError(text))
          sys.unraisablehook(error)
        raise ValueError("the first of many reads")
  # Another read in the meantime changes nothing, nor do those of other tests.
  with checkpoint._stragglers_unsaid():
    pass
  deadline = time.monotonic() + 30
  while sys.unraisablehook is not hook and time.monotonic() < deadline:
    time.sleep(0.01)
  assert sys.unraisablehook is hook
  assert [str(what.exc_value) for what in told] == ["another"]


def test_the_config_of_another_version_is_refused(copy):
  step = copy / run_folder.FOLDER / "4"
  (step / manifest.NAME).unlink()
  path = step / "config" / "metadata"
  config = json.loads(path.read_text())
  config["model"]["num_experts"] = 2
  path.write_text(json.dumps(config))
  with pytest.raises(CheckpointError, match=r"4 has a config .*num_experts"):
    load_for_inference(str(copy))
  path.write_text("{}")
  with pytest.raises(CheckpointError, match="4 has a config .*'model'"):
    load_for_inference(str(copy))


def test_a_model_option_that_does_not_exist_is_refused():
  with pytest.raises(ValueError, match=r"unknown fields \['dimm'\]"):
    build.make_model({"dimm": 8})
  with pytest.raises(ValueError, match="dtype must be 'float32' or 'bfloat16'"):
    build.make_model({"dtype": "float23"})
