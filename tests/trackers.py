"""Weights & Biases and MLflow as far as `training.tracker` asks for them.

They keep runs in memory and refuse what the true ones refuse. Their functions
have the true ones' names of arguments, and no others.
"""

import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest


def install(monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
  """Puts a tracker where an import finds it, and returns its module."""
  modules = {
    "wandb": {"wandb": _wandb()},
    "mlflow": {"mlflow": _mlflow(), "mlflow.entities": _entities()},
  }[name]
  for key, module in modules.items():
    module.__spec__ = importlib.machinery.ModuleSpec(key, None, origin="here")
    monkeypatch.setitem(sys.modules, key, module)
  return modules[name]


class _WandbRun:
  def __init__(self, name: str, config: dict[str, Any]) -> None:
    self.id, self.config = name, config
    self.rows: list[dict[str, Any]] = []
    self.metrics: dict[str, str] = {}
    self.exit_codes: list[int] = []
    self.is_open = True

  def define_metric(self, name: str, step_metric: str | None = None) -> None:
    self.metrics[name] = step_metric or ""

  def log(self, data: dict[str, Any]) -> None:
    if not self.is_open:
      raise RuntimeError("run is finished")
    self.rows.append(data)

  def finish(self, exit_code: int | None = None) -> None:
    self.is_open = False
    self.exit_codes.append(exit_code or 0)


def _wandb() -> Any:
  module: Any = types.ModuleType("wandb")
  module.runs = {}
  module.asked = []

  def init(
    *,
    project: str,
    name: str,
    id: str,
    resume: str,
    dir: str | None,
    config: dict[str, Any],
    allow_val_change: bool,
    settings: Any,
  ) -> _WandbRun:
    assert resume == "allow" and settings == {"console": "off"}
    module.asked.append({"project": project, "name": name, "dir": dir})
    run = module.runs.setdefault(id, _WandbRun(id, config))
    if run.config != config and not allow_val_change:
      raise RuntimeError("Attempted to change value of key")
    run.config, run.is_open = config, True
    return run

  module.init = init
  module.Settings = lambda console: {"console": console}
  module.Image = lambda pixels: ("Image", pixels.shape, pixels.dtype)
  return module


def _entities() -> Any:
  module: Any = types.ModuleType("mlflow.entities")

  class Metric(types.SimpleNamespace):
    def __init__(
      self, key: str, value: float, timestamp: int, step: int
    ) -> None:
      super().__init__(key=key, value=value, timestamp=timestamp, step=step)

  class Param(types.SimpleNamespace):
    def __init__(self, key: str, value: str) -> None:
      super().__init__(key=key, value=value)

  module.Metric, module.Param = Metric, Param
  return module


def _mlflow() -> Any:
  module: Any = types.ModuleType("mlflow")
  module.outages = 0  # requests that get no answer
  servers: dict[str, Any] = {}

  class MlflowClient:
    def __init__(self, tracking_uri: str) -> None:
      self._server = servers.setdefault(tracking_uri, ({}, {}))

    def get_experiment_by_name(self, name: str) -> Any:
      return self._server[0].get(name)

    def create_experiment(self, name: str) -> str:
      key = str(len(self._server[0]))
      found = types.SimpleNamespace(experiment_id=key, name=name)
      assert self._server[0].setdefault(name, found) is found
      return key

    def create_run(self, experiment_id: str, run_name: str) -> Any:
      key = f"{experiment_id}-{len(self._server[1])}"
      info = types.SimpleNamespace(
        run_id=key, status="RUNNING", run_name=run_name
      )
      data = types.SimpleNamespace(params={}, images={})
      run = types.SimpleNamespace(info=info, data=data, history=[])
      self._server[1][key] = run
      return run

    def get_run(self, run_id: str) -> Any:
      if run_id not in self._server[1]:
        raise RuntimeError(f"Run '{run_id}' not found")
      return self._server[1][run_id]

    def update_run(self, run_id: str, status: str) -> None:
      self.get_run(run_id).info.status = status

    set_terminated = update_run

    def log_batch(
      self, run_id: str, metrics: Sequence[Any] = (), params: Sequence[Any] = ()
    ) -> None:
      if module.outages:
        module.outages -= 1
        raise ConnectionError("Max retries exceeded\nwith url")
      assert len(metrics) <= 1000 and len(params) <= 100
      run = self.get_run(run_id)
      run.history += metrics
      for param in params:
        assert run.data.params.setdefault(param.key, param.value) == param.value

    def log_image(
      self, run_id: str, image: np.ndarray, artifact_file: str
    ) -> None:
      assert image.dtype == np.uint8 and image.shape[2] == 3
      self.get_run(run_id).data.images[artifact_file] = image

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
      return [m for m in self.get_run(run_id).history if m.key == key]

  module.MlflowClient = MlflowClient
  return module
