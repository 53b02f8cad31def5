"""Phases of a run: patch and batch sizes that change at given steps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from semanir_jax import test_sets
from semanir_jax.data import splits
from semanir_jax.data.augmentation import Augmentation
from semanir_jax.data.pipeline import make_train_iterator
from semanir_jax.data.sources import Source, open_source
from semanir_jax.data.train_iterator import TrainIterator
from semanir_jax.degradations import make as make_degradation
from semanir_jax.images.image_file import ImageError
from semanir_jax.models.semanir import SemanIR


class Phase(NamedTuple):
  """Steps `start + 1` to `stop` of a run.

  Attributes:
    index: of the phase, from 0.
    start: updates made before it.
    stop: updates made at its end.
    patch_size: side of a clean patch, px.
    batch_size: patches per step, over all devices.
  """

  index: int
  start: int
  stop: int
  patch_size: int
  batch_size: int


def make_phases(config: Any, num_devices: int) -> list[Phase]:
  """The phases of a config: those of `train.progressive`, or a single one.

  Raises:
    ValueError: their steps are not those of the run, the first has not the
      sizes of the config, or a batch cannot be split over the devices and
      `train.accumulate` parts.
  """
  train = config.train
  rows = [tuple(row) for row in train.progressive]
  if any(len(row) != 3 or min(row) < 1 for row in rows):
    raise ValueError(
      f"config.train.progressive={rows}: every phase is (steps, patch_size,"
      " batch_size), each at least 1"
    )
  only = (train.num_steps, config.data.patch_size, train.batch_size)
  if rows and rows[0][1:] != only[1:]:
    # Else a size from the command line would be ignored without a word.
    raise ValueError(
      f"config.data.patch_size={only[1]} and config.train.batch_size={only[2]}"
      f" must be those of the first phase, {rows[0][1:]}; change both, or set"
      " config.train.progressive=() for a single phase"
    )
  rows = rows or [only]
  if (total := sum(row[0] for row in rows)) != train.num_steps:
    raise ValueError(
      f"the phases of config.train.progressive have {total} steps in all; they"
      f" must have config.train.num_steps={train.num_steps}; change both, or"
      " set config.train.progressive=() for a single phase"
    )
  phases, start = [], 0
  for index, (steps, patch_size, batch_size) in enumerate(rows):
    if batch_size % (num_devices * train.accumulate):
      raise ValueError(
        f"config.train.batch_size={batch_size} must be a multiple of the number"
        f" of devices, {num_devices}"
        + (
          f", times config.train.accumulate={train.accumulate}"
          if train.accumulate > 1
          else ""
        )
        + (f" (phase {index} of config.train.progressive)" if index else "")
      )
    phases.append(Phase(index, start, start + steps, patch_size, batch_size))
    start += steps
  return phases


def check_network(config: Any, model: SemanIR) -> None:
  """Looks before anything compiles; of pairs the scale is not known yet.

  Raises:
    ValueError: the network does not take and make what the data hold.
  """
  channels, options = config.data.channels, config.data.degradation.to_dict()
  if not model.in_channels == model.out_channels == channels:
    raise ValueError(
      f"config.model.in_channels={model.in_channels} and"
      f" out_channels={model.out_channels} must both be"
      f" config.data.channels={channels}"
    )
  if options and (scale := make_degradation(**options).scale) != model.scale:
    raise ValueError(
      f"config.model.scale={model.scale} must be that of"
      f" config.data.degradation, {scale}"
    )


def open_train_sources(config: Any) -> list[Source]:
  """Opens the training sources.

  Raises:
    ImageError: one cannot be read.
  """
  data = config.data
  for spec in data.train:
    if absent := test_sets.absent_folder(spec, data.data_dir):
      raise ImageError(
        f"{absent}: no such folder; config.data.train has {spec!r}, looked for"
        f" in config.data.data_dir={data.data_dir!r} (docs/data.md says where"
        " to get the sets)"
      )
  sources = [
    open_source(
      test_sets.locate(spec, data.data_dir),
      channels=data.channels,
      gray=data.gray or None,
      on_bad_image=data.on_bad_image,
      recursive=data.recursive,
      data_dir=data.data_dir or None,
    )
    for spec in data.train
  ]
  splits.warn_of_mixed_splits(data.train, sources)
  total = max(1, sum(map(len, sources)))
  for spec, source in zip(data.train, sources, strict=True):
    logging.info(
      "training data: %s, %d records, %.1f %% of the patches",
      spec,
      len(source),
      100 * len(source) / total,
    )
  return sources


def make_data(
  config: Any, sources: Sequence[Source], phase: Phase
) -> TrainIterator:
  """This process's share of the batches of a phase.

  Every phase is a stream of its own, shuffled by a seed of the run's and its
  index, so that a position in it means the same whatever came before.
  """
  data = config.data
  options = data.degradation.to_dict()
  return make_train_iterator(
    sources,
    degradation=make_degradation(**options) if options else None,
    patch_size=phase.patch_size,
    batch_size=phase.batch_size,
    seed=_stream_seed(config.seed, phase.index),
    augmentation=Augmentation(tuple(data.shrink), tuple(data.saturation)),
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    num_workers=data.num_workers,
    num_threads=data.num_threads,
    cache_bytes=int(data.cache_gib * 2**30),
  )


def _stream_seed(seed: int, phase: int) -> int:
  """Of the first phase the run's; of the others none that another run has."""
  if not phase:
    return seed
  return int(np.random.SeedSequence([seed, phase]).generate_state(1)[0])
