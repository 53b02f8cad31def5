"""Weights & Biases or MLflow beside TensorBoard, where a config asks for one.

Each takes its account, server and project from the variables of its own
documentation. A run keeps its identity there: a start that goes on from a
checkpoint adds to what the starts before it wrote.
"""

import contextlib
import importlib
import importlib.util
import json
import math
import os
import pathlib
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from semanir_jax.machine import files
from semanir_jax.machine.portable_names import make_portable
from semanir_jax.networks.checkpoint import config_to_json
from semanir_jax.training import tensorboard
from semanir_jax.training.record import flatten

IDS = "tracker.json"  # inside a workdir: tracker to its name of the run

_PROJECT = "semanir_jax"
_PARAMS_BATCH, _METRICS_BATCH = 100, 1000  # that MLflow takes at a time
_RETRY_SECONDS = 60


def check_tracker(name: str) -> None:
  """Looks, before anything compiles, for what `config.log.tracker` names.

  Raises:
    ValueError: there is no such tracker, or its package is not installed.
  """
  if not name or jax.process_index() > 0:
    return
  if name not in _WRITERS:
    raise ValueError(
      f'config.log.tracker={name!r} must be "" or one of {sorted(_WRITERS)}'
    )
  package = importlib.util.find_spec(name)
  # A folder of runs that is called so has no origin.
  if package is None or package.origin is None:
    raise ValueError(
      f"config.log.tracker={name!r} needs another package: pip install"
      f" {_WRITERS[name].package}"
    )


def create_writer(config: Any, workdir: str) -> tensorboard.MetricWriter:
  """Writes to TensorBoard files and to the tracker, in the background.

  Of several processes only the first writes.

  Args:
    config: see configs/base.py; its `log.tracker` passed `check_tracker`.
    workdir: folder of the run.

  Raises:
    ValueError: the tracker lets nobody in, or does not answer.
  """
  writer = tensorboard.create_writer(workdir)
  name = config.log.tracker
  if not name or jax.process_index() > 0:
    return writer
  try:
    tracker = _WRITERS[name](config, workdir)
  except ValueError:
    writer.close()
    raise
  except Exception as error:  # of many kinds, which only the package has
    writer.close()
    raise ValueError(
      f"config.log.tracker={name!r}: the run cannot be begun there"
      f" ({files.first_line(error)}); docs/training.md has what it needs"
    ) from error
  behind = tensorboard.metric_writers.AsyncWriter(tracker)
  return tensorboard.metric_writers.MultiWriter([writer, behind])


class _Tracker(tensorboard.PartialWriter):
  """Is what both have in common: the run's name there, and patience.

  What a tracker does not take is a warning, once; it ends no run.
  """

  name: str
  package: str  # that brings it

  def __init__(self, config: Any, workdir: str) -> None:
    self._workdir, self._num_steps = workdir, config.train.num_steps
    self._is_complete = False
    self._fields = make_portable(
      config_to_json(config), data_dirs=[config.data.data_dir]
    )

  def _read_id(self) -> str | None:
    """Returns the name that an earlier start got."""
    return self._read_ids().get(self.name)

  def _keep_id(self, run_id: str) -> None:
    """Keeps a name for the starts to come."""
    ids = self._read_ids() | {self.name: run_id}
    path = files.as_path(self._workdir) / IDS
    files.write_bytes(path, json.dumps(ids).encode() + b"\n")

  def _read_ids(self) -> dict[str, str]:
    """Returns the names that all trackers gave to this run.

    Raises:
      ValueError: their file is damaged.
    """
    path = files.as_path(self._workdir) / IDS
    if not path.exists():
      return {}
    try:
      return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
      raise ValueError(
        f"{path}: is damaged ({files.first_line(error)}); delete it, and the"
        " run begins anew in its tracker"
      ) from error

  @property
  def _title(self) -> str:
    return self._workdir.rstrip("/").rpartition("/")[2]

  def _note(self, step: int) -> None:
    self._is_complete |= step >= self._num_steps

  @contextlib.contextmanager
  def _tolerant(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # of many kinds, which only the package has
      logging.log_first_n(
        logging.WARNING,
        "config.log.tracker: %s does not take all of the run (%s); the"
        " TensorBoard files have it",
        1,
        self.name,
        files.first_line(error),
      )

  def flush(self) -> None:
    """Does nothing: both send by themselves."""


class _WandbWriter(_Tracker):
  """Writes to Weights & Biases, or with WANDB_MODE=offline to files."""

  name = "wandb"
  package = "wandb"

  def __init__(self, config: Any, workdir: str) -> None:
    super().__init__(config, workdir)
    self._wandb = importlib.import_module("wandb")
    run_id = self._read_id()
    self._run = self._wandb.init(
      project=os.environ.get("WANDB_PROJECT", _PROJECT),
      name=os.environ.get("WANDB_NAME", self._title),
      id=run_id or uuid.uuid4().hex,
      resume="allow",
      dir=None if files.is_bucket(workdir) else workdir,
      config=self._fields,
      allow_val_change=True,
      # It would copy all that is printed.
      settings=self._wandb.Settings(console="off"),
    )
    if run_id is None:
      self._keep_id(self._run.id)
    # Its own count of steps cannot go back to a checkpoint's.
    self._run.define_metric("*", step_metric="step")

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    self._note(step)
    with self._tolerant():
      self._run.log({"step": step, **_numbers(scalars)})

  def write_images(self, step: int, images: Mapping[str, Any]) -> None:
    pictures = {
      tag: [self._wandb.Image(np.asarray(one)) for one in value]
      for tag, value in images.items()
    }
    with self._tolerant():
      self._run.log({"step": step, **pictures})

  def close(self) -> None:
    with self._tolerant():
      self._run.finish(exit_code=0 if self._is_complete else 1)


class _MlflowWriter(_Tracker):
  """Writes to the server of MLFLOW_TRACKING_URI, or to files in the workdir."""

  name = "mlflow"
  package = "mlflow-skinny"

  def __init__(self, config: Any, workdir: str) -> None:
    super().__init__(config, workdir)
    # Else it waits for minutes where nobody answers.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or self._local_uri()
    self._entities = importlib.import_module("mlflow.entities")
    mlflow = importlib.import_module("mlflow")
    self._client = mlflow.MlflowClient(tracking_uri=uri)
    self._unsent: list[Any] = []
    self._failed_at = -math.inf
    run_id = self._read_id()
    if run_id is None:
      self._run_id = self._begin()
      self._keep_id(self._run_id)
    else:
      self._run_id = run_id
      self._client.update_run(run_id, status="RUNNING")

  def _local_uri(self) -> str:
    """Names files in the workdir.

    Raises:
      ValueError: it is in a bucket.
    """
    if files.is_bucket(self._workdir):
      raise ValueError(
        f"config.log.tracker='mlflow' cannot write to files in a bucket"
        f" ({self._workdir}): name a server, MLFLOW_TRACKING_URI=http://..."
      )
    # They get no new features; it asks for consent.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return (pathlib.Path(self._workdir).absolute() / "mlruns").as_uri()

  def _begin(self) -> str:
    """Begins a run, and returns its name."""
    title = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
    experiment = self._client.get_experiment_by_name(title)
    if experiment is None:
      experiment_id = self._client.create_experiment(title)
    else:
      experiment_id = experiment.experiment_id
    run = self._client.create_run(experiment_id, run_name=self._title)
    fields = [
      self._entities.Param(name, str(value))
      for name, value in flatten(self._fields).items()
    ]
    for start in range(0, len(fields), _PARAMS_BATCH):
      part = fields[start : start + _PARAMS_BATCH]
      self._client.log_batch(run.info.run_id, params=part)
    return run.info.run_id

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    self._note(step)
    now = int(1000 * time.time())
    self._unsent += [
      self._entities.Metric(tag, value, now, step)
      for tag, value in _numbers(scalars).items()
    ]
    if time.monotonic() - self._failed_at >= _RETRY_SECONDS:
      self._send()

  def _send(self) -> None:
    """Sends what was not taken yet; what is not now stays for the next time."""
    with self._tolerant():
      try:
        while part := self._unsent[:_METRICS_BATCH]:
          self._client.log_batch(self._run_id, metrics=part)
          del self._unsent[: len(part)]
      except Exception:
        self._failed_at = time.monotonic()
        raise

  def write_images(self, step: int, images: Mapping[str, Any]) -> None:
    for tag, value in images.items():
      for index, one in enumerate(np.asarray(value)):
        with self._tolerant():
          path = f"{tag}/{step:09d}_{index}.png"
          self._client.log_image(self._run_id, one, artifact_file=path)

  def close(self) -> None:
    self._send()
    with self._tolerant():
      status = "FINISHED" if self._is_complete else "KILLED"
      self._client.set_terminated(self._run_id, status)


def _numbers(scalars: Mapping[str, Any]) -> dict[str, float]:
  return {tag: np.asarray(value).item() for tag, value in scalars.items()}


_WRITERS = {writer.name: writer for writer in (_WandbWriter, _MlflowWriter)}
