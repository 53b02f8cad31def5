"""Kernels compile for TPUs on a machine without one."""

import pathlib
import subprocess
import sys

import pytest

from tests import tpu_compiler

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted(path.name for path in ROOT.glob("tests/*_tpu_lowering_cases.py"))


@pytest.mark.parametrize("name", FILES)
def test_cases_of_the_tpu_compiler(name):
  if not tpu_compiler.is_installed():
    pytest.skip("libtpu is not installed; `make tpu_compiler` installs it")
  done = subprocess.run(
    [sys.executable, "-m", "pytest", f"tests/{name}"],
    cwd=ROOT,
    env=tpu_compiler.environment(),
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert not done.returncode, done.stdout[-6000:] + done.stderr[-4000:]
  assert "passed" in done.stdout and "skipped" not in done.stdout
