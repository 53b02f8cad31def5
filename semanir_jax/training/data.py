"""The training data of a config: its sources, and the batches of a phase."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from semanir_jax.data import splits
from semanir_jax.data.augmentation import Augmentation
from semanir_jax.data.pipeline import make_train_iterator
from semanir_jax.data.sources import Source, absent_folder, locate, open_source
from semanir_jax.data.train_iterator import TrainIterator
from semanir_jax.degradations import make as make_degradation
from semanir_jax.images.image_file import ImageError
from semanir_jax.training.phases import Phase


def open_train_sources(config: Any) -> list[Source]:
  """Opens the training sources.

  Raises:
    ImageError: one cannot be read.
  """
  data = config.data
  for spec in data.train:
    if absent := absent_folder(spec, data.data_dir):
      raise ImageError(
        f"{absent}: no such folder; config.data.train has {spec!r}, looked for"
        f" in config.data.data_dir={data.data_dir!r} (docs/data.md says where"
        " to get the sets)"
      )
  sources = [
    open_source(
      locate(spec, data.data_dir),
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
    augmentation=Augmentation(
      tuple(data.shrink), tuple(data.saturation), data.dither, data.graphics
    ),
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
