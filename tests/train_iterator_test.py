"""Worker processes and signals."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from semanir_jax import degradations
from semanir_jax.data import pipeline, sources

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("notice", [signal.SIGTERM, signal.SIGINT])
def test_workers_outlive_a_notice_to_their_group(notice):
  iterator = pipeline.make_train_iterator(
    [sources.open_photographs("test")],
    degradation=degradations.GaussianNoise(sigma_255=25.0),
    patch_size=8,
    batch_size=8,
    seed=3,
    num_workers=2,
  )
  workers, done = set(), threading.Event()

  def send() -> None:
    """To every worker, from the moment that it is there."""
    while not done.wait(0.05):
      for worker in multiprocessing.active_children():
        workers.add(worker.pid)
        os.kill(worker.pid, notice)

  sender = threading.Thread(target=send)
  sender.start()
  try:
    for _ in range(2):  # from either worker, so that both have begun
      next(iterator)
    time.sleep(0.2)
  finally:
    done.set()
    sender.join()
  assert len(workers) == 2
  for _ in range(20):  # more than could have been made before
    next(iterator)
  iterator.close()
  assert not multiprocessing.active_children()


_WITH_A_WORKER = """
import multiprocessing, time
from semanir_jax import degradations
from semanir_jax.data import pipeline, sources

if __name__ == "__main__":
  iterator = pipeline.make_train_iterator(
    [sources.open_source("photographs:test")], patch_size=8, batch_size=8,
    degradation=degradations.GaussianNoise(sigma_255=25.0), seed=0,
    num_workers=1,
  )
  next(iterator)
  print(multiprocessing.active_children()[0].pid, flush=True)
  time.sleep(60)
"""


def test_workers_do_not_outlive_a_run_that_is_killed(tmp_path):
  (tmp_path / "program.py").write_text(_WITH_A_WORKER)
  root = pathlib.Path(__file__).resolve().parents[1]
  with subprocess.Popen(
    [sys.executable, tmp_path / "program.py"],
    stdout=subprocess.PIPE,
    env=os.environ | {"PYTHONPATH": str(root)},
  ) as program:
    worker = pathlib.Path("/proc", program.stdout.readline().decode().strip())
    program.kill()
  for _ in range(300):
    try:
      state = (worker / "status").read_text()
    except OSError:  # it may end between any two calls
      return
    if "\tZ" in state:  # a zombie has ended, nobody may be there to collect it
      return
    time.sleep(0.1)
  pytest.fail("the worker is still there after 30 s")
