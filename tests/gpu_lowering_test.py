"""Kernels and the train step compile for GPUs on a machine without one."""

import os
import pathlib
import subprocess
import sys

import pytest

from semanir_jax.aot import topology

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMPILER = pathlib.Path(f"{sys.prefix}_gpu")  # beside the venv, see Makefile


def test_cases_of_the_gpu_compiler(tmp_path):
  if not (COMPILER / ".installed").exists():
    pytest.skip(f"there is no {COMPILER}; `make gpu_compiler` makes it")
  environment = os.environ | {
    "PYTHONPATH": str(COMPILER),
    "JAX_PLATFORMS": "cpu",
    "JAX_TRITON_DUMP_DIR": str(tmp_path),
  }
  done = subprocess.run(
    [sys.executable, "-m", "pytest", "tests/gpu_lowering_cases.py"],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert not done.returncode, done.stdout[-6000:] + done.stderr[-4000:]
  assert "passed" in done.stdout and "skipped" not in done.stdout


@pytest.mark.parametrize("count", [0, -1, 12])
def test_a_number_of_gpus_that_no_hosts_have(count):
  with pytest.raises(ValueError, match=f"{count} GPUs: compile for 1 to 8"):
    topology.h200_devices(count)


def test_a_missing_compiler_is_named():
  # This process does not see the folder, only that of the cases does.
  with pytest.raises(ValueError, match="make gpu_compiler"):
    topology.h200_devices(4)
