"""The queue of trainings for a GPU that is there for some minutes."""

import json
import os
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from semanir_jax.networks.safetensors_file import SUFFIX
from semanir_jax.training import queue
from semanir_jax.training.preemption import EXIT_CODE

# A training that saves itself when it is told to, as `train.py` does.
OBEDIENT = f"""
import signal, sys, time
def save(*_):
  print("saved", flush=True)
  sys.exit({EXIT_CODE})
signal.signal(signal.SIGTERM, save)
print("step 7 of 9", flush=True)
time.sleep(60)
"""
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def output(tmp_path):
  folder = tmp_path / "queue"
  folder.mkdir()
  return folder


def _rows(folder):
  lines = (folder / "queue.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def _play(monkeypatch, codes):
  """Has trainings end with these codes at once; returns who was trained."""
  trained = []

  def run_for(command, seconds, log):
    name = pathlib.Path(log.name).stem
    assert f"pretrained.py:{name},further" in " ".join(command)
    trained.append((name, seconds))
    return codes[name].pop(0)

  def write_weights(folder, name, log):
    (folder / f"{name}{SUFFIX}").touch()
    return True

  monkeypatch.setattr(queue, "_run_for", run_for)
  monkeypatch.setattr(queue, "_write_weights", write_weights)
  return trained


def test_it_goes_on_with_what_was_cut_off_and_leaves_what_is_done(
  monkeypatch, output
):
  codes = {"a": [0], "b": [EXIT_CODE, 0], "c": [1, 0]}
  trained = _play(monkeypatch, codes)
  work = queue.Queue(("a", "b", "c"), "data", output)
  states = work.train(10)
  assert states == {"a": "finished", "b": "cut off", "c": "failed"}
  assert sorted(path.stem for path in output.glob(f"*{SUFFIX}")) == ["a", "b"]
  assert work.train(10) == dict.fromkeys("abc", "finished")
  assert [name for name, _ in trained] == ["a", "b", "c", "b", "c"]
  assert [row["state"] for row in _rows(output)] == [
    *("finished", "cut off", "failed"),
    *("finished", "finished"),
  ]


def test_nothing_begins_when_the_time_is_nearly_over(monkeypatch, output):
  trained = _play(monkeypatch, {"a": [0]})
  states = queue.Queue(("a",), "data", output).train(0.7)
  assert states == {"a": "not begun"}
  assert not trained
  queue.Queue(("a",), "data", output).train(10)
  ((_, seconds),) = trained
  assert 540 < seconds < 600  # the rest is for saving


def test_a_training_is_told_to_save_when_its_time_is_over(output):
  with open(output / "a.log", "w") as log:
    command = [sys.executable, "-c", OBEDIENT]
    assert queue._run_for(command, 2.0, log) == EXIT_CODE
  assert queue._last_line(output / "a.log") == "a: saved"


def test_a_training_that_does_not_stop_is_killed(monkeypatch, output):
  monkeypatch.setattr(queue, "_KILL_S", 0.2)
  with open(output / "a.log", "w") as log:
    command = [sys.executable, "-c", STUBBORN]
    assert queue._run_for(command, 2.0, log) == EXIT_CODE
  pid = int((output / "a.log").read_text())
  with pytest.raises(ProcessLookupError):
    os.kill(pid, 0)


@pytest.mark.slow
def test_a_smoke_run_leaves_weights_that_load(monkeypatch, tmp_path, output):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  rng = np.random.default_rng(0)
  for name in ("photos/train", "bsds500/train", "bsds500/test"):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    pixels = rng.integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
  work = queue.Queue(("photo_light",), str(tmp_path), output, smoke=True)
  assert work.train(5) == {"photo_light": "finished"}, (
    output / "photo_light.log"
  ).read_text()
  weights = output / f"photo_light{SUFFIX}"
  assert weights.stat().st_size > 1000
  (row,) = _rows(output)
  assert row["state"] == "finished" and row["seconds"] > 0
