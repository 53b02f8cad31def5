"""Weights & Biases and MLflow: what a run writes there, start after start.

`tests/trackers.py` plays both. Where MLflow is installed it is asked as well.
"""

import importlib.machinery
import json
import pathlib
import sys
import types

import numpy as np
import pytest
from absl import logging

from configs import base
from semanir_jax.training import loop, tracker
from tests import events, trackers
from tests.train_cases import train_config

PICTURE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(1, 4, 5, 3)


def _config(name, num_steps=4):
  config = base.get_config("smoke").unlock()
  config.log.tracker, config.train.num_steps = name, num_steps
  config.data.data_dir = "/secret/data"
  config.data.train = ("/secret/data/train",)
  return config.lock()


def _write(config, workdir, *steps):
  """Writes the loss of some steps and a picture, as one start of a run."""
  writer = tracker.create_writer(config, str(workdir))
  for step in steps:
    writer.write_scalars(step, {"train/loss": np.float32(step / 8)})
    writer.flush()
  writer.write_images(steps[-1], {"set/a": PICTURE})
  writer.close()


@pytest.fixture
def wandb(monkeypatch):
  return trackers.install(monkeypatch, "wandb")


@pytest.fixture(params=["played", "installed"])
def mlflow(monkeypatch, request):
  for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
  if request.param == "played":
    return trackers.install(monkeypatch, "mlflow")
  return pytest.importorskip("mlflow")


def test_starts_of_a_run_are_one_run_of_wandb(wandb, tmp_path):
  workdir = tmp_path / "sr_x4"
  workdir.mkdir()
  _write(_config("wandb"), workdir, 1, 3)
  (run,) = wandb.runs.values()
  assert run.exit_codes == [1]  # not complete
  _write(_config("wandb"), workdir, 3, 4)  # step 2 was saved
  assert list(wandb.runs) == [run.id]
  ids = json.loads((workdir / tracker.IDS).read_text())
  assert ids == {"wandb": run.id}
  losses = [(r["step"], r["train/loss"]) for r in run.rows if "train/loss" in r]
  assert losses == [(1, 0.125), (3, 0.375), (3, 0.375), (4, 0.5)]
  (picture,) = run.rows[-1]["set/a"]
  assert picture == ("Image", (4, 5, 3), np.uint8) and run.rows[-1]["step"] == 4
  assert run.metrics == {"*": "step"} and run.exit_codes == [1, 0]
  expected = {"project": "semanir_jax", "name": "sr_x4", "dir": str(workdir)}
  assert wandb.asked == [expected] * 2
  assert run.config["data"]["train"] == ["DATA/train"]
  assert "secret" not in str(run.config)


def test_starts_of_a_run_are_one_run_of_mlflow(mlflow, tmp_path):
  workdir = tmp_path / "sr_x4"
  workdir.mkdir()
  _write(_config("mlflow"), workdir, 1, 3)
  run_id = json.loads((workdir / tracker.IDS).read_text())["mlflow"]
  client = mlflow.MlflowClient(tracking_uri=(workdir / "mlruns").as_uri())
  run = client.get_run(run_id)
  assert run.info.status == "KILLED" and run.info.run_name == "sr_x4"
  assert run.data.params["model.dim"] == "8"
  assert run.data.params["data.train"] == "['DATA/train']"
  # A changed config is no reason to refuse.
  _write(_config("mlflow", num_steps=5), workdir, 3, 5)
  assert json.loads((workdir / tracker.IDS).read_text())["mlflow"] == run_id
  found = client.get_metric_history(run_id, "train/loss")
  losses = [(metric.step, metric.value) for metric in found]
  assert losses == [(1, 0.125), (3, 0.375), (3, 0.375), (5, 0.625)]
  assert client.get_run(run_id).info.status == "FINISHED"


def test_what_a_server_does_not_take_is_sent_later(monkeypatch, tmp_path):
  mlflow = trackers.install(monkeypatch, "mlflow")
  monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
  told = []
  monkeypatch.setattr(
    logging, "log_first_n", lambda level, text, n, *words: told.append(words)
  )
  writer = tracker.create_writer(_config("mlflow"), str(tmp_path))
  mlflow.outages = 1
  for step in range(1, 5):
    writer.write_scalars(step, {"loss": step})
  writer.close()
  assert told == [("mlflow", "Max retries exceeded")]
  client = mlflow.MlflowClient(tracking_uri="http://server")
  run_id = json.loads((tmp_path / tracker.IDS).read_text())["mlflow"]
  losses = client.get_metric_history(run_id, "loss")
  assert [metric.step for metric in losses] == [1, 2, 3, 4]


def test_a_run_that_is_not_there_any_more_is_one_line(mlflow, tmp_path):
  ids = {"mlflow": "0" * 32}
  (tmp_path / tracker.IDS).write_text(json.dumps(ids))
  with pytest.raises(
    ValueError, match="'mlflow': the run cannot be begun"
  ) as e:
    tracker.create_writer(_config("mlflow"), str(tmp_path))
  assert "\n" not in str(e.value) and "not found" in str(e.value)


@pytest.mark.parametrize("content", ["", '{"wandb": "a', "3"])
def test_a_damaged_file_of_names_is_named(wandb, tmp_path, content):
  path = tmp_path / tracker.IDS
  path.write_text(content)
  with pytest.raises(ValueError, match=f"^{path}: is damaged .*; delete it"):
    tracker.create_writer(_config("wandb"), str(tmp_path))
  assert not wandb.runs


def test_mlflow_needs_a_server_for_a_run_in_a_bucket(monkeypatch):
  trackers.install(monkeypatch, "mlflow")
  monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
  with pytest.raises(ValueError, match="in a bucket .gs://b/r.: name a server"):
    tracker._MlflowWriter(_config("mlflow"), "gs://b/r")


def test_other_processes_write_nothing(wandb, monkeypatch, tmp_path):
  monkeypatch.setattr(tracker.jax, "process_index", lambda: 1)
  _write(_config("wandb"), tmp_path, 1)
  assert not wandb.runs and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_is_missing_is_said_before_anything_is_made(
  photographs, monkeypatch, tmp_path
):
  run = tmp_path / "run"
  config = train_config(photographs, log__tracker="aim")
  with pytest.raises(ValueError, match="tracker='aim' must be"):
    loop.train_and_evaluate(config, str(run))
  folder = types.ModuleType("mlflow")  # of runs; no package
  folder.__spec__ = importlib.machinery.ModuleSpec("mlflow", None)
  config = train_config(photographs, log__tracker="mlflow")
  for found in (None, folder):
    monkeypatch.setitem(sys.modules, "mlflow", found)
    with pytest.raises(ValueError, match="pip install mlflow-skinny$"):
      loop.train_and_evaluate(config, str(run))
  assert not run.exists()


@pytest.mark.slow
def test_a_training_writes_there(wandb, photographs, tmp_path: pathlib.Path):
  for num_steps in (2, 3):
    config = train_config(
      photographs, log__tracker="wandb", train__num_steps=num_steps
    )
    loop.train_and_evaluate(config, str(tmp_path))
  (run,) = wandb.runs.values()
  assert [row["step"] for row in run.rows] == [1, 2, 3]
  losses = {row["step"]: row["train/loss"] for row in run.rows}
  assert events.scalars(tmp_path)["train/loss"] == pytest.approx(losses)
  assert run.exit_codes == [0, 0]
