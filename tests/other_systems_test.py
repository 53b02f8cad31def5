"""Windows and macOS: what only Linux has is not needed in one process.

Stands for them; no such machine ran it. Other packages choose for themselves by
`sys.platform`, so they are imported before anything is hidden.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from semanir_jax.images.image_file import read_image, write_image

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]

_HIDE = """
import asyncio, multiprocessing, os, runpy, signal, subprocess, sys
from multiprocessing import connection, resource_tracker, synchronize
import clu, flax, grain, imagecodecs, jax, ml_collections.config_flags, optax
import orbax.checkpoint, psutil, safetensors.numpy, scipy.ndimage, tensorboardX
import tensorstore, tifffile
from absl import app

for name in (
  "fcntl", "resource", "termios", "pwd", "grp", "syslog",
  "array_record", "array_record.python", "triton", "jax_triton",
):
  sys.modules[name] = None
hidden = {
  os: "sysconf sched_getaffinity getloadavg fork killpg uname getuid geteuid"
      " setsid mkfifo statvfs",
  signal: "pthread_sigmask sigwait setitimer SIGKILL SIGHUP SIGUSR1",
}
for module, names in hidden.items():
  for name in names.split():
    delattr(module, name)

def refuse(event, arguments):
  if event != "open" or not str(arguments[0]).startswith(("/proc", "/sys/fs")):
    return
  frame = sys._getframe(1)
  while frame:
    if "psutil" in frame.f_code.co_filename:
      return  # which asks every system in its own way
    frame = frame.f_back
  raise FileNotFoundError(arguments[0])

sys.addaudithook(refuse)
program, *arguments = sys.argv[1:]
sys.argv = [program, *arguments]
runpy.run_path(program, run_name="__main__")
"""


def _run(*command: str) -> str:
  ended = subprocess.run(
    [sys.executable, "-c", _HIDE, *command],
    cwd=ROOT,
    env=os.environ
    | {
      "JAX_PLATFORMS": "cpu",
      "PYTHONPATH": ".",
    },
    capture_output=True,
    text=True,
  )
  assert ended.returncode == 0, ended.stderr
  return ended.stderr


def test_a_training_ends_and_its_network_restores(tmp_path):
  images = tmp_path / "images"
  images.mkdir()
  rng = np.random.default_rng(0)
  for name in ("a.png", "b.png"):
    write_image(images / name, rng.integers(0, 256, (40, 48, 3), np.uint8))
  said = _run(
    "train.py",
    "--config=denoise.py:color,s25,smoke",
    f"--workdir={tmp_path / 'run'}",
    f"--config.data.train=('{images}',)",
    "--config.eval.every_steps=0",
    "--config.train.num_steps=3",
  )
  assert "step 3 of 3" in said
  said = _run(
    "restore.py",
    f"--checkpoint={tmp_path / 'run'}",
    f"--input={images}",
    f"--output={tmp_path / 'restored'}",
  )
  assert "2 of 2" in said
  assert read_image(tmp_path / "restored" / "a.png").shape == (40, 48, 3)
