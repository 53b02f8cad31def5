"""clu's metric writers without TensorFlow.

clu writes TensorBoard files through TensorFlow, which this project does not
install: `import clu.metric_writers` would fail. tensorboardX writes the same
files, so it takes the place of clu's one TensorFlow module before the import.
"""

import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from semanir_jax.machine import files


def _make_clu_importable() -> types.ModuleType:
  """Puts a module without a writer where clu looks for its TensorFlow one."""
  name = "clu.metric_writers.summary_writer"
  module = types.ModuleType(name)
  # clu only names it in annotations on import.
  vars(module)["SummaryWriter"] = object
  sys.modules[name] = module
  return module


_MODULE = _make_clu_importable()

from clu import metric_writers  # noqa: E402
from clu.metric_writers import interface, utils  # noqa: E402

MetricWriter = metric_writers.MetricWriter


class PartialWriter(interface.MetricWriter):
  """Leaves to its subclasses the part of clu's interface that has a meaning
  here: scalars, images, `flush` and `close`.
  """

  def _ignore(self, *args: Any, **kwargs: Any) -> None:
    """Does nothing: nothing in this project writes these."""

  write_summaries = write_histograms = write_videos = write_audios = _ignore
  write_pointcloud = write_texts = write_hparams = _ignore


class _TensorBoardWriter(PartialWriter):
  """Writes by tensorboardX."""

  def __init__(self, logdir: str) -> None:
    import tensorboardX

    for scheme in files.SCHEMES:
      tensorboardX.record_writer.register_writer_factory(scheme, _Objects)
    # Its own flush does not wait for its queue: it must flush often. In a
    # bucket that writes the whole file again.
    seconds = 60 if files.is_bucket(logdir) else 10
    self._writer = tensorboardX.SummaryWriter(logdir, flush_secs=seconds)
    # Its thread must outlive a full disk: else its queue fills up, and who
    # writes or closes waits for it without end.
    writer: Any = self._writer.file_writer
    file = writer.event_writer._ev_writer
    for name in ("write_event", "flush", "close"):
      setattr(file, name, _tolerant(getattr(file, name)))

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    for tag, value in scalars.items():
      self._writer.add_scalar(tag, np.asarray(value).item(), step)

  def write_images(self, step: int, images: Mapping[str, Any]) -> None:
    for tag, value in images.items():
      self._writer.add_images(tag, np.asarray(value), step, dataformats="NHWC")

  def flush(self) -> None:
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


# Its SummaryWriter is this one everywhere.
for _target in (_MODULE, metric_writers, utils):
  vars(_target)["SummaryWriter"] = _TensorBoardWriter


class _Objects:
  """Is to tensorboardX what opens a file for events: here, of a bucket."""

  @staticmethod
  def open(path: str) -> "_Object":
    """Begins an object."""
    return _Object(path)

  @staticmethod
  def directory_check(path: str) -> None:
    """Does nothing: folders need not be made."""


class _Object:
  """Collects events, and writes the object whole at every flush."""

  def __init__(self, path: str) -> None:
    self._path, self._data, self._written = path, bytearray(), 0

  def write(self, data: bytes) -> None:
    """Adds to what is written next."""
    self._data += data

  def flush(self) -> None:
    """Writes all of it, if there is more."""
    if len(self._data) > self._written:
      files.as_path(self._path).write_bytes(bytes(self._data))
      self._written = len(self._data)

  close = flush


def _tolerant(write: Callable[..., None]) -> Callable[..., None]:
  """Makes a full disk no more than a warning of `write`, once."""

  def tolerant(*args: Any) -> None:
    try:
      write(*args)
    except OSError as error:
      logging.log_first_n(
        logging.WARNING, "the TensorBoard files are not complete (%s)", 1, error
      )

  return tolerant


def create_writer(workdir: str) -> MetricWriter:
  """Writes to TensorBoard files in `workdir`, in the background.

  Of several processes only the first writes.
  """
  if jax.process_index() > 0:
    return metric_writers.MultiWriter([])
  return metric_writers.AsyncWriter(metric_writers.SummaryWriter(workdir))
