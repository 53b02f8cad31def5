"""Finding the other processes, and telling them things.

What two real processes do is in two_processes_test.py.
"""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from semanir_jax.machine import distributed
from tests import processes

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def parsed_flags():
  """The flags' defaults, as programs have them."""
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(sys.argv[:1])


def test_without_flags_there_is_one_process():
  distributed.initialize()
  assert not jax.distributed.is_initialized()
  assert distributed.gather({"a": 1}) == [{"a": 1}]


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"num_processes": 2}, "--coordinator_address and --process_id must be"),
    ({"process_id": 0, "num_processes": 2}, "^--coordinator_address must be"),
    ({"distributed": True, "process_id": 0}, "--coordinator_address and --num"),
    (
      {"coordinator_address": "a:1", "num_processes": 2, "process_id": 2},
      "--process_id=2 must be less than --num_processes=2",
    ),
    (
      {"coordinator_address": "localhost", "num_processes": 2, "process_id": 0},
      "--coordinator_address=localhost must be HOST:PORT",
    ),
  ],
)
def test_flags_that_do_not_fit_are_refused(given, message):
  with flagsaver.flagsaver(**given):
    with pytest.raises(ValueError, match=message):
      distributed.initialize()


_ALONE = """
import sys
from absl import flags
from semanir_jax.machine import distributed
flags.FLAGS(["program", *sys.argv[2:]])
try:
  distributed.initialize(timeout_seconds=float(sys.argv[1]))
except ValueError as error:
  print(error)
  sys.exit(1)
"""


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--distributed"], "cannot start as one of several processes (--distr"),
    (
      ["--process_id=0", "--num_processes=2"],
      "after 2 s not all processes have met (--coordinator_address=127.0.0.1:",
    ),
    (
      ["--process_id=1", "--num_processes=2"],
      "after 2 s not all processes have met (--coordinator_address=127.0.0.1:",
    ),
  ],
)
def test_a_process_that_meets_nobody_says_so(arguments, message):
  if len(arguments) == 2:
    port = 20_000 + os.getpid() % 10_000
    arguments = [*arguments, f"--coordinator_address=127.0.0.1:{port}"]
  ended = subprocess.run(
    [sys.executable, "-c", _ALONE, "2", *arguments],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    timeout=120,
  )
  assert ended.returncode == 1, ended.stderr
  assert message in ended.stdout


def test_values_of_all_processes_arrive_as_they_are(monkeypatch):
  values = [
    {"psnr": np.pi * 1e-300, "name": "é" * 100},
    [float("inf"), -0.0, 2**70],
    None,
  ]
  results = processes.play(
    3, lambda index: distributed.gather(values[index]), monkeypatch
  )
  assert results == [values] * 3


def test_an_error_of_one_process_is_raised_in_all(monkeypatch):
  def work(index: int) -> str:
    with distributed.shared_errors():
      if index == 1:
        raise OSError("disk full")
    return "went on"

  first, second, third = processes.play(3, work, monkeypatch)
  assert type(second) is OSError and str(second) == "disk full"
  for other in (first, third):
    assert type(other) is ValueError and str(other) == "process 1: disk full"


def test_an_error_that_is_not_the_users_has_its_type(monkeypatch):
  def work(index: int) -> None:
    with distributed.shared_errors():
      if index == 0:
        raise KeyError("")

  _, other = processes.play(2, work, monkeypatch)
  assert str(other) == "process 0: KeyError: ''"


def test_without_an_error_all_go_on(monkeypatch):
  def work(index: int) -> int:
    with distributed.shared_errors():
      pass
    return index

  assert processes.play(2, work, monkeypatch) == [0, 1]
  with pytest.raises(KeyError), distributed.shared_errors():
    raise KeyError("a")
