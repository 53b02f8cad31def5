"""From sources to training batches: shuffle, crop, turn, degrade, batch.

Record i of the shuffled, repeated stream gets its own random generator, and all
that is random happens before the stream is dealt out to processes. So a seed
gives the same global batches, row by row, on any number of hosts and workers,
and the position in the stream is one number: the batches taken.

Arrays are uint8 until the degradation makes them float32.
"""

from collections.abc import Sequence

import grain

from semanir_jax.data.augmentation import NO_AUGMENTATION, Augmentation
from semanir_jax.data.cache import CachedRecords
from semanir_jax.data.patches import RandomPatch
from semanir_jax.data.sources import Source
from semanir_jax.data.train_iterator import TrainIterator
from semanir_jax.degradations import Degradation, Mixture

# Grain draws the place of a record in 13 ms / number of records: a few records
# are shuffled many epochs at a time.
_FEW = 1000
_PREFETCHED = 4  # batches made ahead, at least one for each thread


def make_train_iterator(
  sources: Sequence[Source],
  *,
  degradation: Degradation | Mixture | None,
  patch_size: int,
  batch_size: int,
  seed: int,
  augmentation: Augmentation = NO_AUGMENTATION,
  process_index: int = 0,
  process_count: int = 1,
  num_workers: int = 0,
  num_threads: int = 2,
  cache_bytes: int = 2 << 30,
) -> TrainIterator:
  """Makes the iterator over this process's share of the training batches.

  Each record gives one patch per epoch (`patches`).

  Args:
    sources: of single images or pairs, read as one set, in this order.
    degradation: applied to the clean images (of pairs, to the target); None
      for pairs as they are.
    patch_size: side of the clean patch, px; a multiple of
      `degradation.multiple`, or of the scale of the pairs.
    batch_size: of all processes together; a multiple of `process_count`.
    seed: of order, patches, orientations and degradations.
    augmentation: of clean images, before all else; not of pairs as they are.
    process_index: this process takes rows `process_index * n` to
      `(process_index + 1) * n` of each global batch, n = batch_size / count.
    process_count: number of processes.
    num_workers: worker processes; 0 decodes in threads only, which is faster
      on few cores. Scripts with workers need `if __name__ == "__main__"`.
    num_threads: decoding threads, per worker if there are any.
    cache_bytes: memory for decoded images in this process, shared out among
      its workers; images that do not fit are decoded for every patch.

  Returns:
    Iterator without end over `{"lq": [n, h, w, c], "hq": [n, H, W, c]}`,
    float32 with nominal range [0, 1]; its state does not depend on processes or
    workers.

  Raises:
    ValueError: options or sources that do not fit together.
    ImageError: now, or from `next`: an image that cannot be read.
  """
  if batch_size % process_count or batch_size < 1:
    raise ValueError(f"{batch_size=} must be a multiple of {process_count=}")
  if not 0 <= process_index < process_count:
    raise ValueError(f"{process_index=} must be in [0, {process_count=})")
  records = CachedRecords(sources, cache_bytes // max(1, num_workers))
  _check(sources, patch_size, degradation, augmentation)
  share = (
    _shuffled(records, seed)
    .random_map(RandomPatch(patch_size, degradation, augmentation))
    .batch(batch_size // process_count, drop_remainder=True)
    .slice(slice(process_index, None, process_count))
  )
  # A thread makes a whole batch; without a place for it it would wait.
  read = grain.ReadOptions(num_threads, max(_PREFETCHED, num_threads))
  return TrainIterator(records, share, read, num_workers)


def _shuffled(records: CachedRecords, seed: int) -> grain.MapDataset:
  """Repeats the records without end, each pass in an order of its own."""
  passes = -(-_FEW // len(records))
  dataset = grain.MapDataset.source(records).repeat(passes)
  return dataset.seed(seed).shuffle().repeat()


def _check(
  sources: Sequence[Source],
  patch_size: int,
  degradation: Degradation | Mixture | None,
  augmentation: Augmentation,
) -> None:
  """Looks at the first record of each source before training starts."""
  channels, scales = set(), set()
  for number, source in enumerate(sources):
    if not len(source):
      raise ValueError(f"source {number} is empty; remove it")
    record = source[0]
    clean = record["image"] if "image" in record else record["target"]
    channels.add(clean.shape[2])
    if degradation is not None:
      multiple = degradation.multiple
    elif "input" in record:
      multiple = record["target"].shape[0] // record["input"].shape[0]
      channels.add(record["input"].shape[2])
      scales.add(multiple)
    else:
      raise ValueError(
        f"{record['name']}: is a single image; choose a degradation, or give "
        "pairs"
      )
    if patch_size < 1 or patch_size % multiple:
      raise ValueError(
        f"{patch_size=} must be a multiple of {multiple}, for {degradation}"
      )
  if len(channels) != 1:
    raise ValueError(
      f"sources of {sorted(channels)} channels; give at least one source, and "
      "open all with the same channels"
    )
  if len(scales) > 1:
    raise ValueError(
      f"sources of pairs of scales {sorted(scales)}; train on one scale at a"
      " time"
    )
  augmentation.check(channels.pop(), pairs=degradation is None)
