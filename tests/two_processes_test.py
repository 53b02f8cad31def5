"""Two real processes: training, resuming, evaluation and their ends.

Every run is the program that people start, on two CPU devices per process. The
compiled programs are kept on disk between runs.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image

from configs import base
from semanir_jax.images.image_file import write_image
from semanir_jax.machine import sharding
from semanir_jax.networks import build, run_folder
from semanir_jax.training import loop, setup
from semanir_jax.training.checkpoints import Checkpoints, abstract_like
from tests import events, small

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 240  # of a loaded machine

CHANGES = {
  "data.train": ("train",),
  "eval.sets.photographs.source": "test",
  "eval.max_images": 0,
  "eval.batch_size": 2,
  "model.architecture": "columnar",
  "model.depths": (2,),  # the first layer is never dropped
  "model.drop_path_rate": 0.3,
  "train.random_num_keys": (4, 8, 16),
}
PSNRS = ("photographs/input_psnr", "photographs/psnr")


class Ended(NamedTuple):
  """Exit codes and outputs of the processes of a run."""

  codes: list[int]
  logs: list[str]


class Programs:
  """Starts programs on the photographs of a folder."""

  def __init__(self, folder: pathlib.Path) -> None:
    self.folder = folder
    self._count = 0

  def start(
    self,
    program: str,
    workdir: pathlib.Path,
    *,
    processes: int = 2,
    devices: int = 2,
    **changes: Any,
  ) -> list[subprocess.Popen]:
    """Starts a program as `processes`; `changes` as `train__num_steps=2`."""
    self._count += 1
    changes = {k.replace("__", "."): v for k, v in changes.items()}
    fields = CHANGES | {"data.data_dir": str(self.folder)} | changes
    command = [sys.executable, program, "--config=configs/base.py:smoke"]
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    command += [f"--workdir={workdir}"]
    if processes > 1:
      with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        command += [f"--coordinator_address=127.0.0.1:{free.getsockname()[1]}"]
      command += [f"--num_processes={processes}"]
    environment = os.environ | {
      "JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PLATFORMS": "cpu",
      "PYTHONPATH": str(ROOT),
      "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    running = []
    for i in range(processes):
      own = [f"--process_id={i}"] if processes > 1 else []
      with open(self.folder / f"{self._count}.{i}.log", "w") as log:
        running.append(
          subprocess.Popen(
            [*command, *own], cwd=ROOT, env=environment, stdout=log, stderr=log
          )
        )
        running[-1].log = pathlib.Path(log.name)
    return running

  def end(self, running: list[subprocess.Popen]) -> Ended:
    """Waits for the end of all processes."""
    try:
      codes = [p.wait(timeout=PATIENCE_SECONDS) for p in running]
    finally:
      for process in running:
        process.kill()
    return Ended(codes, [process.log.read_text() for process in running])

  def run(self, program: str, workdir: pathlib.Path, **options: Any) -> Ended:
    """Starts a program and waits for its end, which must be a good one."""
    ended = self.end(self.start(program, workdir, **options))
    assert not any(ended.codes), "\n".join(ended.logs)
    return ended

  def config(self, **changes: Any) -> Any:
    """The same config in this process."""
    config = base.get_config("smoke").unlock()
    fields = CHANGES | {"data.data_dir": str(self.folder)}
    changes = {k.replace("__", "."): v for k, v in changes.items()}
    config.update_from_flattened_dict(fields | changes)
    return config.lock()


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Programs:
  """With smooth images: `train` (4) and `test` (5, of two sizes)."""
  folder = tmp_path_factory.mktemp("photographs")
  rng = np.random.RandomState(0)
  for split, widths in (("train", [28] * 4), ("test", [28, 28, 28, 24, 28])):
    (folder / split).mkdir()
    for i, width in enumerate(widths):
      coarse = rng.randint(0, 256, (6, 7, 3), np.uint8)
      pixels = Image.fromarray(coarse).resize(
        (width, 24), Image.Resampling.BICUBIC
      )
      write_image(folder / split / f"{i}.png", np.asarray(pixels))
  return Programs(folder)


@pytest.fixture(scope="module")
def uninterrupted(programs, tmp_path_factory) -> pathlib.Path:
  """Workdir of 4 steps in two processes, validated and saved every 2; what
  they print is in `0.log` and `1.log` beside it.
  """
  workdir = tmp_path_factory.mktemp("two") / "run"
  ended = programs.run("train.py", workdir)
  for i, log in enumerate(ended.logs):
    (workdir.parent / f"{i}.log").write_text(log)
  return workdir


def _without_step_4(run: pathlib.Path, copy: pathlib.Path) -> pathlib.Path:
  """A workdir as it is when a run is killed before it has saved step 4."""
  shutil.copytree(run / run_folder.FOLDER, copy / run_folder.FOLDER)
  shutil.rmtree(copy / run_folder.FOLDER / "4")
  return copy


def _last(workdir: pathlib.Path, config: Any) -> Any:
  """State and position in the data of the newest checkpoint."""
  mesh = sharding.make_mesh(data=-1, fsdp=1)
  _, init = setup.make_step(config, build.make_model(config.model), mesh)
  shapes = jax.eval_shape(init)
  places = sharding.state_shardings(shapes, mesh, config.mesh.rules)
  checkpoints = Checkpoints(str(workdir), keep=3)
  state, position, _ = checkpoints.restore_latest(abstract_like(shapes, places))
  checkpoints.close()
  return state, position


def _assert_close(a: Any, b: Any, atol: float) -> None:
  for (path, x), y in zip(
    jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
  ):
    name = jax.tree_util.keystr(path)
    np.testing.assert_allclose(x, y, rtol=0, atol=atol, err_msg=name)


def test_two_processes_train_like_one(programs, uninterrupted, tmp_path):
  programs.run("train.py", tmp_path, processes=1, devices=4)
  two, position = _last(uninterrupted, programs.config())
  one, expected_position = _last(tmp_path, programs.config())
  assert position == expected_position
  assert two.step == one.step == 4
  _assert_close(two.params, one.params, atol=1e-6)
  _assert_close(two.ema_params, one.ema_params, atol=1e-6)
  a, b = (events.scalars(workdir) for workdir in (uninterrupted, tmp_path))
  assert a.keys() == b.keys()
  for name in ("train/loss", "train/num_keys", *PSNRS):
    assert a[name].keys() == b[name].keys()
    for step, value in a[name].items():
      assert value == pytest.approx(b[name][step], rel=1e-5), name


def test_only_the_first_process_reports(uninterrupted):
  logs = [(uninterrupted.parent / f"{i}.log").read_text() for i in (0, 1)]
  assert re.search("^step 4 of 4, loss", logs[0], re.MULTILINE)
  assert re.search("^step 4, photographs, 5 of 5 images: PSNR", logs[0], re.M)
  # Lines of Gloo, which prints from several threads at once.
  others = re.sub(r".*(Gloo|peer ranks).*", "", logs[1])
  assert not others.strip()
  assert len(list(uninterrupted.glob("events.*"))) == 1
  pictures = {name for name, step in events.images(uninterrupted) if step == 4}
  # Every second image is restored by the other process.
  assert set(pictures) == {
    "photographs/0",
    "photographs/2",
  }


def test_a_resumed_run_equals_an_uninterrupted_one(
  programs, uninterrupted, tmp_path
):
  workdir = _without_step_4(uninterrupted, tmp_path / "run")
  ended = programs.run("train.py", workdir)
  assert "from step 2" in ended.logs[0]
  state, position = _last(workdir, programs.config())
  expected, expected_position = _last(uninterrupted, programs.config())
  small.assert_equal_trees(state, expected)
  assert position == expected_position


def test_one_process_goes_on_for_two(programs, uninterrupted, tmp_path):
  workdir = _without_step_4(uninterrupted, tmp_path / "run")
  config = programs.config(eval__every_steps=0)
  loop.train_and_evaluate(config, str(workdir))  # on 8 devices
  state, position = _last(workdir, config)
  expected, expected_position = _last(uninterrupted, config)
  assert position == expected_position
  _assert_close(state.params, expected.params, atol=1e-5)
  ended = programs.run(
    "train.py", workdir, processes=1, devices=4, train__num_steps=5
  )
  assert "from step 4" in ended.logs[0]
  assert (workdir / run_folder.FOLDER / "5").is_dir()


def test_parameters_split_over_processes_change_nothing(
  programs, uninterrupted, tmp_path
):
  programs.run("train.py", tmp_path, devices=1, mesh__fsdp=2)
  state, _ = _last(tmp_path, programs.config())
  expected, _ = _last(uninterrupted, programs.config())
  _assert_close(state.params, expected.params, atol=1e-5)
  a, b = (events.scalars(workdir) for workdir in (tmp_path, uninterrupted))
  for name in PSNRS:
    assert a[name][4] == pytest.approx(b[name][4], rel=1e-4), name


def test_two_processes_evaluate_exactly_like_one(
  programs, uninterrupted, tmp_path
):
  results = []
  for processes in (1, 2):
    workdir = tmp_path / str(processes) / "run"
    shutil.copytree(uninterrupted / run_folder.FOLDER, workdir / "checkpoints")
    programs.run("eval.py", workdir, processes=processes)
    results.append(workdir / "eval")
  one, two = results
  names = sorted(path.relative_to(one) for path in one.rglob("*.*"))
  assert len(names) == 3 + 2 * 4  # tables, and 4 pictures of 2 images
  assert names == sorted(path.relative_to(two) for path in two.rglob("*.*"))
  for name in names:
    assert (one / name).read_bytes() == (two / name).read_bytes(), name
  assert json.loads((two / "results.json").read_text())["photographs"]["images"]


def test_an_image_that_one_process_cannot_read_ends_both(
  programs, uninterrupted, tmp_path
):
  shutil.copytree(programs.folder / "test", tmp_path / "test")
  bad = tmp_path / "test" / "3.png"  # the second image of process 1
  bad.write_bytes(bad.read_bytes()[:200])
  shutil.copytree(uninterrupted / run_folder.FOLDER, tmp_path / "checkpoints")
  running = programs.start(
    "eval.py", tmp_path, data__data_dir=str(tmp_path), eval__batch_size=1
  )
  ended = programs.end(running)
  assert ended.codes == [1, 1], "\n".join(ended.logs)
  assert f"error: process 1: {bad}: " in ended.logs[0]
  assert f"error: {bad}: " in ended.logs[1]
  assert "3 of 5 images" in ended.logs[0] and "4 of 5" not in ended.logs[0]


_ALONE = """
import sys
from absl import flags
from semanir_jax.machine import distributed
from semanir_jax.networks import checkpoint
flags.DEFINE_string("workdir", None, "")
flags.FLAGS(sys.argv, known_only=True)
distributed._FAREWELL_SECONDS = 2
distributed.initialize()
import jax
first = jax.process_index() == 0
if first:
  checkpoint.load_for_inference(flags.FLAGS.workdir)
print(distributed.gather(1e-300 / 3 if first else "read nothing"), flush=True)
if not first:
  raise KeyError("alone")
distributed.gather("never answered")
"""


def test_what_one_process_does_alone_does_not_hold_up_the_other(
  programs, uninterrupted, tmp_path
):
  (tmp_path / "alone.py").write_text(_ALONE)
  start = time.monotonic()
  ended = programs.end(
    programs.start(str(tmp_path / "alone.py"), uninterrupted)
  )
  for log in ended.logs:
    assert f"{[1e-300 / 3, 'read nothing']}\n" in log
  assert "KeyError: 'alone'" in ended.logs[1]
  assert 0 not in ended.codes
  assert time.monotonic() - start < 90  # JAX would wait for 5 minutes


def test_a_notice_to_one_process_saves_and_ends_both(programs, tmp_path):
  running = programs.start(
    "train.py",
    tmp_path,
    train__num_steps=100_000,
    eval__every_steps=0,
    checkpoint__every_steps=100_000,
  )
  deadline = time.monotonic() + PATIENCE_SECONDS
  while "step 3 of" not in running[0].log.read_text():
    assert time.monotonic() < deadline and running[0].poll() is None
    time.sleep(0.1)
  running[1].send_signal(signal.SIGTERM)
  start = time.monotonic()
  ended = programs.end(running)
  assert ended.codes == [75, 75], "\n".join(ended.logs)
  assert time.monotonic() - start < 30
  (step,) = (tmp_path / run_folder.FOLDER).iterdir()
  assert f"saved step {step.name}" in ended.logs[0]
  state, position = _last(tmp_path, programs.config())
  assert state.step == int(step.name) == position["batches_taken"]


def test_an_image_that_one_process_cannot_train_on_saves_and_ends_both(
  programs, tmp_path
):
  train = tmp_path / "train"
  train.mkdir()
  for i in range(40):
    shutil.copy(programs.folder / "train" / f"{i % 4}.png", train / f"{i}.png")
  bad = train / "10.png"
  bad.write_bytes(bad.read_bytes()[:-40])  # with a sound header
  options = {
    "data__data_dir": str(tmp_path),
    "eval__every_steps": 0,
    "eval__sets__photographs__source": "train",
    "checkpoint__every_steps": 0,
    "train__num_steps": 100,
  }
  workdir = tmp_path / "run"
  ended = programs.end(programs.start("train.py", workdir, **options))
  assert ended.codes == [1, 1], "\n".join(ended.logs)
  (step,) = (workdir / run_folder.FOLDER).iterdir()
  for log, culprit in zip(ended.logs, ("process 1: ", ""), strict=True):
    assert f"saved step {step.name}; once this is mended" in log
    assert f"error: {culprit}{bad}: image file is truncated" in log
  state, position = _last(workdir, programs.config())
  assert state.step == int(step.name) == position["batches_taken"] > 0
