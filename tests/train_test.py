"""Training from end to end, on a config of seconds."""

import fcntl
import io
import json
import logging
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from semanir_jax.data import train_iterator
from semanir_jax.evaluation import test_sets
from semanir_jax.images.image_file import ImageError
from semanir_jax.machine import sharding
from semanir_jax.networks import build, checkpoint, run_folder
from semanir_jax.training import loop, phase_loop, setup, validation
from semanir_jax.training.checkpoints import Checkpoints, abstract_like
from tests import events, small
from tests.train_cases import train_config, train_position

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def uninterrupted(photographs, tmp_path_factory) -> pathlib.Path:
  """The workdir of a run of 4 steps, validated and saved every 2.

  What it logs is in `log.txt` beside the workdir.
  """
  workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
  config = train_config(photographs, eval__every_steps=2)
  logger = logging.getLogger("absl")
  level, handler = logger.level, logging.FileHandler(workdir.parent / "log.txt")
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  loop.train_and_evaluate(config, str(workdir))
  logger.setLevel(level)
  logger.removeHandler(handler)
  handler.close()
  return workdir


def _last(workdir: pathlib.Path, config: ConfigDict) -> Any:
  """State, position in the data and config of the newest checkpoint."""
  model = build.make_model(config.model)
  mesh = sharding.make_mesh(data=-1, fsdp=1)
  _, init = setup.make_step(config, model, mesh)
  shapes = jax.eval_shape(init)
  places = sharding.state_shardings(shapes, mesh, config.mesh.rules)
  checkpoints = Checkpoints(str(workdir), keep=3)
  restored = checkpoints.restore_latest(abstract_like(shapes, places))
  checkpoints.close()
  return restored


def test_a_resumed_run_equals_an_uninterrupted_one(
  uninterrupted, photographs, tmp_path
):
  # What is there when a run is killed before it has saved step 4.
  shutil.copytree(uninterrupted / run_folder.FOLDER, tmp_path / "checkpoints")
  shutil.rmtree(tmp_path / run_folder.FOLDER / "4")
  config = train_config(photographs)
  half, position, _ = _last(tmp_path, config)
  assert half.step == 2 and position == train_position(2)
  # Where the run began from once is not needed any more.
  gone = str(tmp_path / "gone")
  config = train_config(photographs, log__every_steps=0, init_from=gone)
  loop.train_and_evaluate(config, str(tmp_path))
  state, position, settings = _last(tmp_path, config)
  expected, expected_position, _ = _last(uninterrupted, config)
  small.assert_equal_trees(state, expected)
  assert state.step == 4 and state.skipped == 0
  assert position == expected_position == train_position(4)
  assert settings == json.loads(config.to_json())
  # Training went on between the two: not everything is equal anyway.
  kernels = [
    np.asarray(s.params["conv_first"]["conv"]["kernel"]) for s in (half, state)
  ]
  assert (kernels[0] != kernels[1]).any()
  assert events.scalars(tmp_path) == {}  # as log.every_steps=0 asks


def test_the_config_lies_beside_the_checkpoints(uninterrupted, photographs):
  written = json.loads((uninterrupted / "config.json").read_text())
  assert written["model"]["dim"] == 8
  assert written["data"]["data_dir"] == str(photographs)
  config = checkpoint.load_for_inference(str(uninterrupted)).config
  assert config["model"] == written["model"]


def test_tensorboard_gets_every_scalar_and_the_pictures(uninterrupted):
  scalars = events.scalars(uninterrupted)
  train = {
    "loss",
    "grad_norm",
    "learning_rate",
    "num_keys",
    "skipped",
    "skipped_in_row",
    "steps_per_second",
    "images_per_second",
    "input_wait_share",
    "teraflops_per_device",
    "host_memory_gib",
  }
  ours = {"psnr", "ssim", "input_psnr", "input_ssim"}
  assert set(scalars) == {f"train/{name}" for name in train} | {
    f"ours/{name}" for name in ours
  }
  for name in train:
    assert set(scalars[f"train/{name}"]) == {1, 2, 3, 4}, name
  for name in ours:
    assert set(scalars[f"ours/{name}"]) == {2, 4}, name
  # multistep halves at step 2, which is the third update.
  rates = [scalars["train/learning_rate"][step] for step in (1, 2, 3, 4)]
  assert rates == pytest.approx([2e-4, 2e-4, 1e-4, 1e-4])
  assert set(scalars["train/num_keys"].values()) <= {4, 8, 16}
  assert 0 <= scalars["train/input_wait_share"][2] <= 1
  # Noise of sigma 25: 20.2 dB where nothing is clipped.
  assert 20 < scalars["ours/input_psnr"][4] < 23
  pictures = events.images(uninterrupted)
  assert {step for _, step in pictures} == {2, 4}
  (name,) = {tag for tag, _ in pictures}
  assert name.startswith("ours/0")
  png = Image.open(io.BytesIO(pictures[name, 4]))
  assert png.size == (3 * 28 + 12, 24 + 26)


def test_progress_is_told_in_one_line_a_step(uninterrupted):
  log = (uninterrupted.parent / "log.txt").read_text()
  lines = [line for line in log.splitlines() if "loss" in line]
  assert len(lines) == 4
  assert re.fullmatch(
    r"step 4 of 4, loss \d\.\d+, learning rate 1\.00e-04, [\d.]+ steps/s,"
    r" [\d.]+ images/s, \d+ % waiting for input, 0 s left",
    lines[3],
  )
  lines = [line for line in log.splitlines() if "PSNR" in line]
  # Of either validation its protocol and its set.
  assert len(lines) == 2 * 2 + 1
  assert re.fullmatch(
    r"step 4, ours, 2 of 2 images: PSNR \d+\.\d\d dB \(input 2\d\.\d\d\),"
    r" SSIM 0\.\d{4} \(0\.\d{4}\)",
    lines[3],
  )
  best = r"best checkpoint: step [24], PSNR \d+\.\d\d dB"
  assert re.fullmatch(best, lines[4])


class _Signal(logging.Handler):
  """Sends this process SIGTERM at the first log line with `text`."""

  def __init__(self, text: str) -> None:
    super().__init__()
    self._text = text

  def emit(self, record: logging.LogRecord) -> None:
    if self._text and self._text in record.getMessage():
      self._text = ""
      os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def sigterm_at(monkeypatch):
  """A function: SIGTERM comes with the first log line that holds a text."""
  logger = logging.getLogger("absl")
  level, handlers = logger.level, []

  def install(text: str) -> None:
    handlers.append(_Signal(text))
    logger.addHandler(handlers[-1])
    logger.setLevel(logging.INFO)

  yield install
  logger.setLevel(level)
  for handler in handlers:
    logger.removeHandler(handler)


def test_a_preempted_run_saves_its_step_and_goes_on_exactly(
  uninterrupted, photographs, tmp_path, sigterm_at
):
  config = train_config(photographs)
  sigterm_at("step 1 of 4")
  assert not loop.train_and_evaluate(config, str(tmp_path))
  state, position, _ = _last(tmp_path, config)
  assert state.step == 1  # which no interval asked for
  assert position == train_position(1)
  assert loop.train_and_evaluate(config, str(tmp_path))
  state, _, _ = _last(tmp_path, config)
  small.assert_equal_trees(state, _last(uninterrupted, config)[0])


def test_preemption_ends_a_validation_early(
  photographs, tmp_path, monkeypatch, caplog
):
  config = train_config(photographs, eval__every_steps=2, eval__batch_size=1)
  config = config.unlock()
  # More images than devices, so that there is something left to leave out.
  config.eval.sets.again = config.eval.sets.ours.copy_and_resolve_references()

  def comparison(result):
    os.kill(os.getpid(), signal.SIGTERM)
    return np.zeros((2, 2, 3), np.uint8)

  monkeypatch.setattr(validation.reports, "comparison", comparison)
  caplog.set_level(logging.INFO)
  assert not loop.train_and_evaluate(config, str(tmp_path))
  assert "validation stopped in" in caplog.text
  assert " images: PSNR" not in caplog.text
  assert "preempted: saved step 2; the same command goes on" in caplog.text
  assert _last(tmp_path, config)[0].step == 2


def test_a_changed_config_is_reported_by_field(
  uninterrupted, photographs, tmp_path, caplog
):
  shutil.copytree(uninterrupted / run_folder.FOLDER, tmp_path / "checkpoints")
  shutil.rmtree(tmp_path / run_folder.FOLDER / "4")
  config = train_config(photographs, eval__every_steps=2, log__every_steps=2)
  loop.train_and_evaluate(config, str(tmp_path))
  lines = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
  assert lines == ["config.log.every_steps: 1 in the checkpoint, now 2"]
  starts = (tmp_path / "starts.jsonl").read_text().splitlines()
  assert json.loads(starts[0])["config_changes"] == {"log.every_steps": [1, 2]}


def test_validation_scores_the_checkpoints(uninterrupted):
  text = (uninterrupted / "config.json").read_text()
  config = ConfigDict(json.loads(text))
  sets = test_sets.open_test_sets(config.eval.sets, config.data.data_dir)
  measure = validation.measure_id(config, sets)
  checkpoints = Checkpoints(str(uninterrupted), keep=3, measure=measure)
  step, psnr = checkpoints.best()
  checkpoints.close()
  found = events.scalars(uninterrupted)["ours/psnr"]
  assert psnr == pytest.approx(max(found.values()), rel=1e-6)
  assert found[step] == max(found.values())


@pytest.mark.parametrize("num_steps", [3, 4])
def test_a_complete_run_does_nothing_and_keeps_its_record(
  uninterrupted, tmp_path, caplog, num_steps
):
  workdir = tmp_path / "run"
  shutil.copytree(uninterrupted, workdir)

  def files() -> dict[pathlib.Path, bytes]:
    return {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}

  before = files()
  config = ConfigDict(json.loads((workdir / "config.json").read_text()))
  config.train.num_steps, config.schedule.peak = num_steps, 0.5
  caplog.set_level("INFO")
  assert loop.train_and_evaluate(config.lock(), str(workdir))
  assert "nothing to train: step 4 is saved, config.train.num_s" in caplog.text
  assert files() == before


PROGRESSIVE = ((2, 16, 8), (2, 24, 16))


def test_phases_change_sizes_and_are_resumed_exactly(photographs, tmp_path):
  settings = {
    "train__progressive": PROGRESSIVE,
    "checkpoint__every_steps": 1,
    "checkpoint__keep": 4,
  }
  config = train_config(photographs, **settings)
  whole = tmp_path / "whole"
  shapes = []
  real = setup.make_step

  def make_step(*arguments):
    step, init = real(*arguments)

    def traced(state, batch):  # runs once for every compilation
      shapes.append(batch["hq"].shape)
      return step(state, batch)

    return traced, init

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(setup, "make_step", make_step)
    assert loop.train_and_evaluate(config, str(whole))
  assert shapes == [(8, 16, 16, 3), (16, 24, 24, 3)]
  expected, position, _ = _last(whole, config)
  assert position == train_position(2)  # of the second phase
  for step in (2, 3):  # between the phases, and inside the second
    part = tmp_path / str(step)
    shutil.copytree(whole / run_folder.FOLDER, part / run_folder.FOLDER)
    for later in range(step + 1, 5):
      shutil.rmtree(part / run_folder.FOLDER / str(later))
    assert loop.train_and_evaluate(config, str(part))
    small.assert_equal_trees(_last(part, config)[0], expected)
  # With other phases it goes on where the run would be that had them all along.
  shutil.rmtree(part / run_folder.FOLDER / "4")
  phases = ((1, 16, 8), (3, 24, 16))
  config = train_config(
    photographs, **settings | {"train__progressive": phases}
  )
  assert loop.train_and_evaluate(config, str(part))
  assert _last(part, config)[1] == train_position(3)


def test_a_run_that_is_not_finite_any_more_ends(photographs, tmp_path):
  config = train_config(
    photographs,
    schedule__peak=1e30,  # the first update is finite, what it leads to is not
    train__num_steps=9,
    train__max_skipped=3,
    checkpoint__every_steps=1,
  )
  with pytest.raises(ValueError) as error:
    loop.train_and_evaluate(config, str(tmp_path))
  assert re.search(
    r"step 4: the last 3 updates were not finite .*; step 3 is saved: the same"
    r" command goes on from it, with a smaller config.schedule.peak",
    str(error.value),
  )
  assert _last(tmp_path, config)[0].step == 3


def test_two_runs_in_one_workdir_are_one_too_many(photographs, tmp_path):
  config = train_config(photographs)
  folder = os.open(tmp_path, os.O_RDONLY)
  fcntl.flock(folder, fcntl.LOCK_EX)
  with pytest.raises(ValueError, match="another training run is at work there"):
    loop.train_and_evaluate(config, str(tmp_path))
  assert not list(tmp_path.iterdir())
  os.close(folder)
  assert loop.train_and_evaluate(config, str(tmp_path))


def test_init_from_of_a_run_that_goes_on_has_no_effect(
  uninterrupted, photographs, tmp_path, caplog
):
  shutil.copytree(uninterrupted / run_folder.FOLDER, tmp_path / "checkpoints")
  config = train_config(
    photographs, train__num_steps=5, init_from="denoise_color_tiny"
  )
  plan = setup.make_plan(config)
  checkpoints = Checkpoints(str(tmp_path), keep=1)
  setup.start_state(config, plan, checkpoints)
  checkpoints.close()
  assert (
    "config.init_from=denoise_color_tiny has no effect: the run goes on from"
    " step 4; give a new --workdir"
  ) in caplog.text
  assert "config.init_from: '' in the checkpoint, now 'denoise_c" in caplog.text


def test_a_run_starts_from_the_parameters_of_another(
  uninterrupted, photographs, tmp_path, caplog
):
  caplog.set_level(logging.INFO)
  source = uninterrupted / run_folder.FOLDER / "4"
  config = train_config(
    photographs,
    init_from=str(source),
    train__num_steps=1,
    schedule__peak=1e-30,  # so that the step changes nothing
    schedule__final=1e-30,
    checkpoint__every_steps=1,
  )
  loop.train_and_evaluate(config, str(tmp_path))
  state, _, _ = _last(tmp_path, config)
  assert state.step == 1
  expected, _, _ = _last(uninterrupted, config)
  small.assert_equal_trees(state.params, expected.ema_params)
  assert re.search(r"loaded (\d+) of \1 parameters", caplog.text)


@pytest.fixture(scope="module")
def profiled(photographs, tmp_path_factory) -> pathlib.Path:
  """The workdir of a run of 2 steps with a profile and no other saves."""
  workdir = tmp_path_factory.mktemp("profiled")
  changes = {"train__num_steps": 2, "checkpoint__every_steps": 0}
  config = train_config(photographs, **changes)
  loop.train_and_evaluate(config, str(workdir), profile=True)
  return workdir


def test_a_profile_is_written_where_asked(profiled):
  assert list((profiled / "profile").rglob("*.xplane.pb"))


def test_the_last_step_is_saved_whatever_the_interval(profiled):
  assert [p.name for p in (profiled / run_folder.FOLDER).iterdir()] == ["2"]


def test_a_validation_that_fails_loses_no_step(photographs, tmp_path):
  changes = {"checkpoint__every_steps": 0, "data__data_dir": str(tmp_path)}
  config = train_config(photographs, eval__every_steps=2, **changes)
  shutil.copytree(photographs, tmp_path, dirs_exist_ok=True)
  path = next((tmp_path / "test").iterdir())
  path.write_bytes(path.read_bytes()[:-40])  # with a sound header
  with pytest.raises(ImageError, match=path.name):
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert _last(tmp_path / "run", config)[0].step == 2


def test_a_damaged_image_loses_no_step(photographs, tmp_path):
  config = train_config(
    photographs,
    data__data_dir=str(tmp_path),
    checkpoint__every_steps=0,
    train__num_steps=8,
  )
  shutil.copytree(photographs, tmp_path, dirs_exist_ok=True)
  image = next((tmp_path / "train").iterdir())
  for i in range(40):  # so that the damaged one is not in the first batch
    shutil.copy(image, image.with_stem(f"copy_{i}"))
  image.write_bytes(image.read_bytes()[:-40])  # with a sound header
  with pytest.raises(ImageError, match=image.name):
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  state, position, _ = _last(tmp_path / "run", config)
  assert position["batches_taken"] == state.step > 0
  # Without it the same command goes on from there.
  shutil.copy(tmp_path / "train" / f"copy_0{image.suffix}", image)
  assert loop.train_and_evaluate(config, str(tmp_path / "run"))


def test_a_damaged_image_at_the_start_of_a_phase_loses_no_step(
  photographs, tmp_path, monkeypatch
):
  made = []

  def make(self):
    made.append(1)
    if len(made) == 4:
      raise ImageError("damaged.png: is damaged")
    return original(self)

  original = train_iterator.TrainIterator._make
  monkeypatch.setattr(train_iterator.TrainIterator, "_make", make)
  config = train_config(
    photographs,
    checkpoint__every_steps=0,
    train__num_steps=5,
    train__progressive=((3, 16, 8), (2, 16, 8)),
  )
  with pytest.raises(ImageError, match="damaged.png: is damaged"):
    loop.train_and_evaluate(config, str(tmp_path))
  # No batch beyond the first phase was made in it.
  assert _last(tmp_path, config)[0].step == 3
  assert loop.train_and_evaluate(config, str(tmp_path))
  assert len(made) == 4 + 2


def test_a_last_step_whose_validation_is_cut_off_says_so(
  photographs, tmp_path, monkeypatch, caplog
):
  def validate(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(phase_loop, "validate", validate)
  config = train_config(photographs, eval__every_steps=4)
  assert loop.train_and_evaluate(config, str(tmp_path))
  assert "the last step is saved, but not validated; eval.py" in caplog.text


def _without_memory(*args: Any) -> None:
  raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


def test_a_validation_without_memory_loses_no_step(
  photographs, tmp_path, monkeypatch
):
  config = train_config(
    photographs, eval__every_steps=2, checkpoint__every_steps=0
  )
  monkeypatch.setattr(validation.Restorer, "__call__", _without_memory)
  with pytest.raises(ValueError, match="0: 2 of 24x28 px do not fit the mem"):
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert _last(tmp_path / "run", config)[0].step == 2


def test_a_batch_without_memory_says_what_to_make_smaller(
  photographs, tmp_path, monkeypatch
):
  monkeypatch.setattr(loop, "train_phase", _without_memory)
  with pytest.raises(ValueError, match="^batches of 8 patches of 16 px do not"):
    config = train_config(photographs)
    loop.train_and_evaluate(config, str(tmp_path / "run"))


def test_a_step_replaces_the_state_in_place(photographs):
  plan = setup.make_plan(train_config(photographs))
  batch = small.batch(plan.model, count=8, side=16)
  step = plan.placed.train_step.lower(plan.placed.shapes, batch).compile()
  leaves = jax.tree.leaves(plan.placed.shapes)
  state = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
  # Of one device: the state is whole on each of the 8.
  assert step.memory_analysis().alias_size_in_bytes >= 0.9 * state


def test_a_workdir_of_another_network_is_refused(uninterrupted, photographs):
  config = train_config(photographs, model__dim=16)
  with pytest.raises(build.CheckpointError) as error:
    loop.train_and_evaluate(config, str(uninterrupted))
  message = "4 is of another architecture or optimizer"
  assert message in str(error.value)
  assert "params/conv_first/conv/bias: here (16,), there (8,)" in str(
    error.value
  )
  written = json.loads((uninterrupted / "config.json").read_text())
  assert written["model"]["dim"] == 8


def test_a_corrupt_training_image_is_named(photographs, tmp_path):
  (tmp_path / "train").mkdir()
  for path in (photographs / "train").iterdir():
    (tmp_path / "train" / path.name).write_bytes(path.read_bytes())
  bad = tmp_path / "train" / "3.png"
  bad.write_bytes(bad.read_bytes()[:200])
  config = train_config(tmp_path, train__num_steps=100)
  with pytest.raises(ImageError, match=re.escape(str(bad))):
    loop.train_and_evaluate(config, str(tmp_path / "run"))


def test_the_program_trains_without_tensorflow(tmp_path):
  """`train.py` as people start it, on the photographs of the wheels."""
  code = (
    "import runpy, sys, atexit\n"
    "bad = {'tensorflow', 'torch', 'tensorboard'}\n"
    "atexit.register(lambda: print('imported', bad & set(sys.modules)))\n"
    "runpy.run_path('train.py', run_name='__main__')\n"
  )
  workdir = tmp_path / "run"
  arguments = [
    "--config=configs/base.py:smoke",
    "--config.train.num_steps=2",
    f"--workdir={workdir}",
  ]
  environment = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_PLATFORMS": "cpu",
    "PATH": "/usr/bin",
    "PYTHONPATH": ".",
  }
  result = subprocess.run(
    [sys.executable, "-c", code, *arguments],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=environment,
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout == "imported set()\n"
  assert re.search(r"^step 2 of 2, loss", result.stderr, re.MULTILINE)
  assert re.search(
    r"^step 2, photographs, 1 of \d images: PSNR \d+\.\d\d dB"
    r" \(input 20\.2\d\),",
    result.stderr,
    re.MULTILINE,
  )
  assert (workdir / run_folder.FOLDER / "2").is_dir()


@pytest.mark.parametrize(
  ("notice", "code", "end"),
  [
    (signal.SIGTERM, 75, "preempted: saved step"),
    (signal.SIGINT, 1, "error: interrupted"),
  ],
)
def test_the_program_saves_at_a_notice_and_says_so_by_its_code(
  tmp_path, ctrl_c, notice, code, end
):
  environment = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_PLATFORMS": "cpu",
    "PATH": "/usr/bin",
  }
  arguments = [
    "--config=configs/base.py:smoke",
    "--config.train.num_steps=1000000",
    "--config.eval.every_steps=0",
    "--config.checkpoint.every_steps=0",
    f"--workdir={tmp_path}",
  ]
  program = subprocess.Popen(
    [sys.executable, "train.py", *arguments],
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env=environment,
  )
  for line in program.stderr:
    if line.startswith("step 3 of"):
      program.send_signal(notice)
      break
  _, rest = program.communicate(timeout=60)
  assert program.returncode == code, rest
  assert rest.splitlines()[-1].startswith(end)
  (step,) = re.findall(r"^preempted: saved step (\d+);", rest, re.MULTILINE)
  names = [path.name for path in (tmp_path / run_folder.FOLDER).iterdir()]
  assert names == [step]
