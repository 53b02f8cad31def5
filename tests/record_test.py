"""The record of a run's starts, and warnings about where it runs."""

import json
import logging
import pathlib
import subprocess
import sys

import jax
import pytest

from semanir_jax.training import record


def test_every_start_adds_a_line(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["train.py", "--workdir=a b"])
  record.record_start(tmp_path, 0, {})
  record.record_start(tmp_path, 5, {"seed": (0, 1)})
  text = (tmp_path / record.STARTS).read_text()
  first, second = map(json.loads, text.splitlines())
  assert (first["step"], second["step"]) == (0, 5)
  assert first["config_changes"] == {}
  assert second["config_changes"] == {"seed": [0, 1]}
  python = pathlib.Path(sys.executable).name
  assert first["command"] == [python, "train.py", "--workdir=a b"]
  assert first["versions"]["jax"] == jax.__version__
  assert first["device_kind"] == "cpu" and len(first["devices"]) == 8
  assert first["processes"] == 1


def test_a_start_names_no_folder_of_its_machine(tmp_path, monkeypatch):
  command = [
    str(record.CHECKOUT / "train.py"),
    "--config.data.data_dir=/mnt/sets",
    f"--workdir={record.CHECKOUT}/runs/a",
    "--config.init_from=/home/me/mine.safetensors",
    "--config.data.train=('/mnt/sets/div2k', 'gs://bucket/wed')",
  ]
  monkeypatch.setattr(sys, "argv", command)
  changes = {"data.data_dir": ("", "/mnt/sets")}
  record.record_start(tmp_path, 0, changes, "/mnt/sets")
  line = json.loads((tmp_path / record.STARTS).read_text())
  assert line["command"][1:] == [
    "train.py",
    "--config.data.data_dir=DATA",
    "--workdir=runs/a",
    "--config.init_from=.../mine.safetensors",
    "--config.data.train=('DATA/div2k', 'gs://bucket/wed')",
  ]
  assert line["config_changes"] == {"data.data_dir": ["", "DATA"]}


def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
  monkeypatch.setattr(record, "CHECKOUT", tmp_path)
  assert record._commit() is None  # not a checkout

  def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    done = subprocess.run(
      command, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()

  git("init")
  (tmp_path / "a").write_text("1")
  git("add", "a")
  git("commit", "-m", "a")
  commit = git("rev-parse", "HEAD")
  assert record._commit() == commit
  (tmp_path / "a").write_text("2")
  assert record._commit() == f"{commit}+changes"


@pytest.mark.parametrize(
  ("file", "device", "remedy"),
  [
    ("nvidia0", "an NVIDIA GPU", "jax[cuda13]"),
    ("accel0", "a TPU", "jax[tpu]"),
    ("vfio/0", "a TPU", "jax[tpu]"),
  ],
)
def test_an_idle_accelerator_is_named(
  tmp_path, monkeypatch, caplog, file, device, remedy
):
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  caplog.set_level(logging.WARNING)
  record.warn_of_idle_accelerator(str(tmp_path))
  assert caplog.text == ""
  (tmp_path / file).parent.mkdir(exist_ok=True)
  (tmp_path / file).touch()
  record.warn_of_idle_accelerator(str(tmp_path))
  assert f"This machine has {device}" in caplog.text and remedy in caplog.text
  caplog.clear()
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  record.warn_of_idle_accelerator(str(tmp_path))
  assert caplog.text == ""


def test_memory_of_devices_is_that_of_the_fullest(monkeypatch):
  class Device:
    def __init__(self, stats):
      self.memory_stats = lambda: stats

  peaks = [Device({"peak_bytes_in_use": gib << 30}) for gib in (1, 3, 2)]
  devices = [Device(None), *peaks, Device({})]
  monkeypatch.setattr(jax, "local_devices", lambda: devices)
  memory = record.memory_gib()
  assert memory["device_memory_gib"] == 3
  assert 0.05 < memory["host_memory_gib"] < 100
  monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
  assert set(record.memory_gib()) == {"host_memory_gib"}


def test_config_changes_are_named_by_field():
  before = {"a": 1, "b": {"c": [1, 2], "d": "x"}, "gone": 0}
  now = {"a": 1, "b": {"c": [1, 3], "d": "x"}, "new": {"e": 5}}
  assert record.config_changes(before, now) == {
    "b.c": ([1, 2], [1, 3]),
    "gone": (0, None),
    "new.e": (None, 5),
  }
  assert record.config_changes(now, now) == {}
