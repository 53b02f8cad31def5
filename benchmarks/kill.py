"""Kills a training run at random moments and compares what it ends with.

  python -m benchmarks.kill --times=20 --out=kill.json

Every trial starts the same run of `train.py` in a new workdir, sends it SIGKILL
(even trials) or SIGTERM (odd ones) at a random moment between start and end, as
often as `--kills_per_run` says, starts it again until it is complete, and
compares parameters, moving average, optimizer, step, random key and position in
the data with those of an undisturbed run on a disk, bit for bit. Moments are
counted in processor time, whatever else the machine does. A run that ends
before the signal counts as well; its exit code says so. With
`--root=gs://...` the runs that are killed lie in a bucket; with

  python -m benchmarks.kill --local_bucket --times=20 --out=kill.json

in one of a server on the loopback, which is started for them.
"""

import contextlib
import json
import os
import pathlib
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import psutil
from absl import flags, logging

from benchmarks import local_bucket
from semanir_jax import cli
from semanir_jax.machine import files
from semanir_jax.machine.portable_names import make_portable
from semanir_jax.networks import checkpoint, run_folder
from semanir_jax.training.preemption import EXIT_CODE

_TIMES = flags.DEFINE_integer("times", 20, "Runs that are killed.", 1)
_KILLS = flags.DEFINE_integer("kills_per_run", 1, "Signals per run.", 1)
_STEPS = flags.DEFINE_integer("steps", 60, "Steps of the run.", 4)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
_QUICK = flags.DEFINE_bool("quick", False, "Two short runs, for tests.")
_ROOT_FOLDER = flags.DEFINE_string(
  "root", None, "Folder or bucket of the runs that are killed."
)
_LOCAL_BUCKET = flags.DEFINE_bool(
  "local_bucket", False, "In a bucket of a server that is started here."
)
_OUT = flags.DEFINE_string("out", None, "JSON file to write the rows to.")

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def command(workdir: files.Path, steps: int) -> list[str]:
  """A run with everything random: noise, patches, k, drop path; it saves and
  validates every five steps.
  """
  half = steps // 2
  return [
    sys.executable,
    "train.py",
    "--config=configs/base.py:smoke",
    f"--workdir={workdir}",
    f"--config.train.num_steps={steps}",
    "--config.train.random_num_keys=(4,8,16)",
    "--config.model.drop_path_rate=0.3",
    f"--config.train.progressive=(({half},16,8),({steps - half},24,4))",
    "--config.eval.every_steps=10",
    "--config.checkpoint.every_steps=5",
    "--config.log.every_steps=5",
  ]


def start(workdir: files.Path, steps: int, log: Any) -> subprocess.Popen:
  """Starts the run; its output goes to the end of `log`."""
  return subprocess.Popen(
    command(workdir, steps), cwd=_ROOT, stdout=log, stderr=log
  )


def undisturbed(workdir: pathlib.Path, steps: int) -> float:
  """Runs once to the end; returns the seconds of processor time it took.

  Raises:
    ValueError: it failed.
  """
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  with open(f"{workdir}.log", "wb") as log:
    code = start(workdir, steps, log).wait()
  if code:
    raise ValueError(f"the run failed with code {code}; see {workdir}.log")
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def wait_for(process: subprocess.Popen, seconds: float) -> int | None:
  """Waits until a process has taken `seconds` of processor time, which pass as
  slowly as it runs on a busy machine.

  Returns:
    Its exit code if it ended before, else None.
  """
  watched = psutil.Process(process.pid)
  while process.poll() is None:
    with contextlib.suppress(psutil.NoSuchProcess):
      if sum(watched.cpu_times()[:2]) >= seconds:
        return None
    time.sleep(0.02)
  return process.returncode


def trial(
  workdir: files.Path,
  steps: int,
  number: signal.Signals,
  waits: list[float],
  log_path: pathlib.Path,
) -> dict[str, Any]:
  """Runs to the end through signals, each after `waits` seconds of processor
  time.
  """
  codes = []
  with open(log_path, "wb") as log:
    for wait in waits:
      process = start(workdir, steps, log)
      if (code := wait_for(process, wait)) is None:
        process.send_signal(number)
        code = process.wait()
      codes.append(code)
    codes.append(start(workdir, steps, log).wait())
  return {
    "signal": number.name,
    "processor_seconds": [round(wait, 2) for wait in waits],
    "exit_codes": codes,
    # 0: it was complete before the signal.
    "codes_as_expected": codes[-1] == 0
    and all(
      c in (0, -number, EXIT_CODE) if number == signal.SIGTERM else c in (0, -9)
      for c in codes[:-1]
    ),
  }


def read_last(workdir: files.Path) -> dict[str, np.ndarray]:
  """All arrays of the newest checkpoint, by name, and the data's position."""
  folder, step = run_folder.find_checkpoint(str(workdir))
  with checkpoint.open_manager(folder) as manager:
    items = {
      name: ocp.args.PyTreeRestore()
      for name in ("params", "ema_params", "training")
    }
    found = checkpoint.restore_items(
      manager, step, data=ocp.args.JsonRestore(), **items
    )
  leaves = jax.tree_util.tree_leaves_with_path(dict(found))
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
  """Whether two checkpoints hold the same bits."""
  return a.keys() == b.keys() and all(
    a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes()
    for name in a
  )


@contextlib.contextmanager
def _root(local: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives the folder or bucket of the runs that are killed."""
  if not _LOCAL_BUCKET.value:
    yield files.as_path(_ROOT_FOLDER.value or local)
    return
  with local_bucket.run_server() as port:
    os.environ |= local_bucket.environment(f"http://127.0.0.1:{port}")
    yield files.as_path(local_bucket.BUCKET)


def main() -> None:
  """Runs the trials and prints how many ended with the same state."""
  times, steps = _TIMES.value, _STEPS.value
  if _QUICK.value:
    times, steps = 2, 10
  if _LOCAL_BUCKET.value and _ROOT_FOLDER.value:
    raise ValueError("--root and --local_bucket: leave one of them out")
  rng = random.Random(_SEED.value)
  rows = []
  with (
    tempfile.TemporaryDirectory() as folder,
    _root(pathlib.Path(folder)) as root,
  ):
    local = pathlib.Path(folder)
    # The first run compiles, which the others find done: most of the moments
    # would lie behind their ends.
    undisturbed(local / "compiling", steps)
    seconds = undisturbed(local / "undisturbed", steps)
    expected = read_last(local / "undisturbed")
    for index in range(times):
      workdir, log = root / f"run{index}", local / f"run{index}.log"
      waits = [rng.uniform(0, seconds) for _ in range(_KILLS.value)]
      row = trial(workdir, steps, _SIGNALS[index % 2], waits, log)
      row["same"] = row["codes_as_expected"] and equal(
        read_last(workdir), expected
      )
      rows.append(row)
      logging.info("%d of %d: %s", index + 1, times, row)
      if not row["same"]:
        print(log.read_text()[-3000:])
      files.remove_folder(workdir)
      if _OUT.value:
        _write(_OUT.value, steps, seconds, rows)
  same = _count_same(rows)
  print(
    f"{same} of {times} runs ended with the same state;"
    f" {_count_stopped(rows)} of {times} were stopped by a signal before"
  )
  if same < times:
    sys.exit(1)


def _count_same(rows: list[dict[str, Any]]) -> int:
  return sum(row["same"] for row in rows)


def _count_stopped(rows: list[dict[str, Any]]) -> int:
  """Counts the runs that were not complete when the signal came."""
  return sum(any(row["exit_codes"][:-1]) for row in rows)


def _write(
  out: str, steps: int, seconds: float, rows: list[dict[str, Any]]
) -> None:
  """Writes the rows so far, with what made them."""
  document = {
    "command": make_portable(sys.argv),
    "environment": make_portable(
      {k: v for k, v in os.environ.items() if k[:3] == "JAX"}
    ),
    "python": platform.python_version(),
    "jax": jax.__version__,
    "steps": steps,
    "processor_seconds_undisturbed": round(seconds, 1),
    "same": _count_same(rows),
    "stopped": _count_stopped(rows),
    "rows": rows,
  }
  files.write_bytes(out, (json.dumps(document, indent=2) + "\n").encode())


if __name__ == "__main__":
  cli.run(main)
