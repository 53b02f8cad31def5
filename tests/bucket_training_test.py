"""A run in a bucket is the run on a disk, bit for bit, whatever happens to it.

Data, checkpoints, reports and results lie in a bucket of a server on the
loopback. The run is killed while it writes a checkpoint.
"""

import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils.epath import backend
from jax.sharding import SingleDeviceSharding

from semanir_jax.machine import files
from semanir_jax.networks import checkpoint, manifest, run_folder
from semanir_jax.networks.build import CheckpointError
from semanir_jax.training import goodput
from semanir_jax.training.checkpoints import Checkpoints, abstract_like
from tests import bucket_server, events, programs, small
from tests.bucket_server import BUCKET

if importlib.util.find_spec("gcsfs") is None:
  pytest.skip("needs the extra gcs", allow_module_level=True)
pytestmark = [
  pytest.mark.slow,
  # aiohttp's advice to gcsfs.
  pytest.mark.filterwarnings("ignore:Sending a large body"),
]

PATIENCE_SECONDS = 900  # of a loaded machine

FIELDS = {
  "data.train": "('train',)",
  "eval.sets.photographs.source": "test",
  "eval.max_images": 0,
  "eval.every_steps": 3,
  "model.architecture": "columnar",
  "model.depths": "(2,)",
  "model.drop_path_rate": 0.3,
  "train.random_num_keys": "(4,8,16)",
  "train.num_steps": 6,
}


@pytest.fixture(scope="module")
def server():
  """A server for all tests of this file."""
  with bucket_server.run_server() as server, pytest.MonkeyPatch.context() as m:
    for name, value in server.environment().items():
      m.setenv(name, value)
    yield server
    assert not server.left()


class Runs(NamedTuple):
  """What lies where, and how the programs ended.

  Attributes:
    disk: folder with `run`, `data` and `restored`.
    bucket: likewise.
    killed: code and log of the run that was killed.
    ended: of the programs, by name.
  """

  disk: pathlib.Path
  bucket: pathlib.Path
  killed: tuple[int, str]
  ended: dict[str, programs.Ended]


def _options(root: files.Path) -> list[str]:
  fields = FIELDS | {"data.data_dir": f"{root}/data"}
  if files.is_bucket(root):
    fields["compilation_cache_dir"] = f"{root}/compiled"
  return [
    "--config=configs/base.py:smoke",
    f"--workdir={root}/run",
    *(f"--config.{name}={value}" for name, value in fields.items()),
  ]


@pytest.fixture(scope="module")
def runs(server, photographs, tmp_path_factory) -> Runs:
  """Trains, evaluates and restores on a disk and in a bucket."""
  disk, bucket = tmp_path_factory.mktemp("disk"), files.as_path(BUCKET)
  (disk / "data").symlink_to(photographs)
  for path in files.find_files(photographs):
    files.put(path, bucket / "data" / path.relative_to(photographs).as_posix())
  killed = _kill_while_saving(server, bucket, tmp_path_factory.mktemp("killed"))
  commands = {}
  for place, root in (("disk", disk), ("bucket", bucket)):
    commands |= {
      f"train_{place}": ("train.py", *_options(root)),
      f"eval_{place}": ("eval.py", *_options(root)),
      f"restore_{place}": (
        "restore.py",
        f"--checkpoint={root}/run",
        f"--input={root}/data/test",
        f"--output={root}/restored",
      ),
    }
  ended = programs.run_all(commands, tmp_path_factory.mktemp("output"))
  for name, program in ended.items():
    assert program.code == 0, f"{name}: {program.err[-3000:]}"
  return Runs(disk, bucket, killed, ended)


def _kill_while_saving(server, bucket, folder) -> tuple[int, str]:
  """Kills a run at the moment it writes the list of step 4."""
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": ".",
  }
  with open(folder / "log", "w") as log:
    process = subprocess.Popen(
      [sys.executable, "train.py", *_options(bucket)],
      cwd=programs.ROOT,
      env=environment,
      stdout=log,
      stderr=log,
    )
  server.fail(f"POST .*checkpoints/4/{manifest.NAME}", process.kill)
  try:
    code = process.wait(timeout=PATIENCE_SECONDS)
  finally:
    process.kill()
  return code, (folder / "log").read_text()


def _newest(run: files.Path) -> tuple[int, dict[str, np.ndarray]]:
  """Returns the newest step and its arrays by name, and the data's position."""
  folder, step = run_folder.find_checkpoint(str(run))
  items = ("params", "ema_params", "training")
  with checkpoint.open_manager(folder) as manager:
    checkpoint.check_bytes(manager, step, [*items, "data"])
    with warnings.catch_warnings():  # of shardings, which are the same here
      warnings.simplefilter("ignore")
      found = checkpoint.restore_items(
        manager,
        step,
        data=ocp.args.JsonRestore(),
        **{name: ocp.args.PyTreeRestore() for name in items},
      )
  leaves = jax.tree_util.tree_leaves_with_path(dict(found))
  return step, {jax.tree_util.keystr(p): np.asarray(x) for p, x in leaves}


def test_a_run_that_is_killed_while_it_saves_goes_on_as_on_a_disk(runs):
  code, log = runs.killed
  assert code == -signal.SIGKILL, log[-3000:]
  log = runs.ended["train_bucket"].err
  assert "SemanIR" in log and "from step 2; compiling" in log
  (a, here), (b, there) = (_newest(r / "run") for r in (runs.disk, runs.bucket))
  assert a == b == 6 and here.keys() == there.keys() and len(here) > 50
  for name, value in here.items():
    np.testing.assert_array_equal(value, there[name], name)
  first_step = re.search(r"first step done .* (\d+) of them kept", log)
  assert first_step is not None and int(first_step[1]) > 0
  assert "goodput " in log and "| validating |" in log
  assert ", 2 starts\n" in goodput.table(runs.bucket / "run")
  starts = (runs.bucket / "run" / "starts.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in starts] == [0, 2]


def test_steps_lie_in_the_bucket_with_their_lists(runs):
  for root in (runs.disk, runs.bucket):
    folder = root / "run" / run_folder.FOLDER
    steps = {path.name for path in folder.iterdir()}
    assert steps == {"2", "4", "6"}
    assert all((folder / step / manifest.NAME).is_file() for step in steps)
    manifest.check_manifest(folder / "4", ["params", "config", "metrics"])


def test_losses_are_there(runs):
  here, there = (events.scalars(r / "run") for r in (runs.disk, runs.bucket))
  # Those since the last upload die with a process that is killed.
  assert there["train/loss"].items() <= here["train/loss"].items()
  assert set(range(3, 1 + max(here["train/loss"]))) <= set(there["train/loss"])
  assert here["photographs/psnr"] == there["photographs/psnr"]


def test_evaluation_reads_and_writes_there(runs):
  here, there = (root / "run" / "eval" for root in (runs.disk, runs.bucket))
  assert (here / "results.json").read_text() == (
    there / "results.json"
  ).read_text()
  _assert_same_files(here, there)


def test_restoring_reads_and_writes_there(runs):
  _assert_same_files(runs.disk / "restored", runs.bucket / "restored")


def _assert_same_files(here: pathlib.Path, there: pathlib.Path) -> None:
  names = sorted(p.relative_to(here).as_posix() for p in files.find_files(here))
  assert len(names) >= 2
  assert names == sorted(
    p.relative_to(there).as_posix() for p in files.find_files(there)
  )
  for name in names:
    assert (here / name).read_bytes() == (there / name).read_bytes(), name


def _restore(workdir: str) -> Any:
  """Returns what a run of `plain_state` goes on from."""
  device = SingleDeviceSharding(jax.devices()[0])
  shapes = jax.eval_shape(lambda s: s, small.plain_state(2))
  shapes = abstract_like(shapes, jax.tree.map(lambda _: device, shapes))
  checkpoints = Checkpoints(workdir, keep=3)
  try:
    return checkpoints.restore_latest(shapes)
  finally:
    checkpoints.close()


def _save(workdir: str, *steps: int) -> None:
  checkpoints = Checkpoints(workdir, keep=3)
  try:
    for step in steps:
      checkpoints.save(step, small.plain_state(step), {"at": step}, {})
  finally:
    checkpoints.close()


def test_saving_and_restoring_wait_for_a_busy_server(server):
  workdir = f"{BUCKET}/busy"
  for status in (503, 429):
    server.fail("(POST|PUT) .*busy", status, times=3)
  server.fail("POST .*busy.*/d/", "cut")
  _save(workdir, 2)
  server.fail("GET .*busy", 503, times=3)
  state, data, _ = _restore(workdir)
  small.assert_equal_trees(state, small.plain_state(2))
  assert data == {"at": 2}


# What orbax leaves behind in its threads; cli.py hides it from users.
@pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning",
  "ignore::pytest.PytestUnhandledThreadExceptionWarning",
)
@pytest.mark.parametrize("fault", [403, "gone"])
def test_what_cannot_be_saved_is_named_and_the_step_before_stays(
  server, monkeypatch, fault
):
  bucket_server.do_not_wait(monkeypatch)
  workdir = f"{BUCKET}/refused_{fault}"
  _save(workdir, 2)
  checkpoints = Checkpoints(workdir, keep=3)
  if fault == "gone":
    server.gone = True
  else:
    server.fail("POST .*checkpoints/4/.*/d/", fault, times=10**6)
  try:
    with pytest.raises(CheckpointError) as refused:
      checkpoints.save(4, small.plain_state(4), {"at": 4}, {})
      checkpoints.close()
  finally:
    server.gone = False
    server.forgive()
  message = str(refused.value)
  assert message.startswith(f"{workdir}/checkpoints: a checkpoint cannot be")
  assert "\n" not in message and len(message) < 600
  if fault == 403:
    assert "goes on from step 2" in message
  state, data, _ = _restore(workdir)
  small.assert_equal_trees(state, small.plain_state(2))
  assert data == {"at": 2}


def test_a_step_that_is_overlooked_is_not_begun_again(server, monkeypatch):
  workdir = f"{BUCKET}/overlooked"
  _save(workdir, 2)
  # What fsspec makes of an error.
  monkeypatch.setattr(backend.fsspec_backend, "isdir", lambda path: False)
  with pytest.raises(CheckpointError) as refused:
    _restore(workdir)
  assert str(refused.value) == (
    f"{workdir}/checkpoints: the steps could not be listed (step 2 is there,"
    " None was found); start the same command again"
  )


def test_a_flipped_bit_in_a_bucket_is_named(server):
  workdir = f"{BUCKET}/flipped"
  _save(workdir, 2, 4)
  step = files.as_path(workdir) / run_folder.FOLDER / "4"
  (path, *_) = (step / "params" / "d").iterdir()
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(bytes(data))
  with pytest.raises(CheckpointError) as refused:
    _restore(workdir)
  assert str(refused.value) == (
    f"{step} cannot be read (the bytes of params/d/{path.name} are not those"
    " that were saved); it is damaged or not of semanir_jax: move it away and"
    " use step 2"
  )
