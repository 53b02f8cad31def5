"""Restores test images and measures them under a stated protocol.

Every image is degraded in its fixed test form, restored and rounded to 8 bits;
both the degraded input and the result are compared with the clean image. Means
are means of per-image values (protocol section 0.10).

Several processes share a set: process p of n restores images p, p + n, ... on
its own devices and tells the others what it measured, after each batch. So
every image counts once, and what one process compiles no other has to.
"""

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple

import jax
import numpy as np

from semanir_jax.evaluation import test_sets
from semanir_jax.evaluation.measures import Result, measure, measure_example
from semanir_jax.machine import distributed, memory

Restore = Callable[[np.ndarray], np.ndarray]

# To measure a colour image of 1024 x 768 takes a core about a second, in which
# a GPU would wait.
_THREADS = min(8, os.cpu_count() or 1)


class Round(NamedTuple):
  """What all processes measured between two meetings.

  Attributes:
    rows: of all processes, in the order of the set.
    results: of this process alone, by their index in the set.
  """

  rows: list[dict[str, Any]]
  results: dict[int, Result]


def evaluate_set(
  restore: Restore | None,
  examples: Iterable[test_sets.Example],
  protocol: Mapping[str, Any],
  *,
  batch_size: int,
) -> Iterator[Result]:
  """Restores images, and measures them in threads meanwhile.

  Args:
    restore: `[B, h, w, C]` float32 to `[B, H, W, C']` float32; None measures
      the degraded input itself.
    examples: test images; neighbours of one size share a batch.
    protocol: see `measure`.
    batch_size: most images restored at a time.

  Yields:
    Results in the order of the examples.

  Raises:
    ValueError: the restored image has not the size of the clean one, or does
      not fit the memory; the results before it came first.
  """
  pool = futures.ThreadPoolExecutor(_THREADS)
  submitted = (
    pool.submit(measure_example, example, output, protocol)
    for example, output in _restore_batches(restore, examples, batch_size)
  )
  try:
    yield from _in_order(submitted, ahead=_THREADS)
  finally:
    pool.shutdown(cancel_futures=True)


def _in_order(
  submitted: Iterator[futures.Future[Result]], ahead: int
) -> Iterator[Result]:
  """Yields results in their order, while `ahead` more are on their way.

  An error in making the next one waits for the results before it.
  """
  waiting: collections.deque[futures.Future[Result]] = collections.deque()
  failure: Exception | None = None
  while failure is None:
    try:
      waiting.append(next(submitted))
    except StopIteration:
      break
    except Exception as error:
      failure = error
    if len(waiting) > ahead:
      yield waiting.popleft().result()
  while waiting:
    yield waiting.popleft().result()
  if failure is not None:
    raise failure


def _restore_batches(
  restore: Restore | None,
  examples: Iterable[test_sets.Example],
  batch_size: int,
) -> Iterator[tuple[test_sets.Example, np.ndarray | None]]:
  """Yields examples with their restored images, see `evaluate_set`."""
  failures: list[Exception] = []
  readable = _read_until_failure(examples, failures)
  for _, same_size in itertools.groupby(readable, key=lambda e: e.lq.shape):
    while batch := list(itertools.islice(same_size, batch_size)):
      restored = [None] * len(batch)
      if restore is not None:
        height, width, _ = batch[0].lq.shape
        short = memory.explain_out_of_memory(
          f"{len(batch)} of {height}x{width} px do not fit the memory at a"
          " time; use a smaller config.eval.batch_size, or leave out images as"
          " large as this (restore.py restores them in tiles)"
        )
        with test_sets.errors_name(batch[0].name), short:
          restored = restore(np.stack([example.lq for example in batch]))
      yield from zip(batch, restored, strict=True)
  if failures:
    raise failures[0]


def _read_until_failure(
  examples: Iterable[test_sets.Example], failures: list[Exception]
) -> Iterator[test_sets.Example]:
  """Yields examples up to the first that fails.

  Its error goes to `failures`, so that those that would share a batch with it
  are restored.
  """
  try:
    yield from examples
  except Exception as error:
    failures.append(error)


def evaluate_shared(
  restore: Restore | None,
  test_set: test_sets.TestSet,
  protocol: Mapping[str, Any],
  *,
  batch_size: int,
  max_images: int,
) -> Iterator[Round]:
  """Restores and measures a test set together with the other processes.

  Args:
    restore: see `evaluate_set`; on devices of this process alone.
    test_set: the same in all processes.
    protocol: see `measure`.
    batch_size: most images that a device restores at a time.
    max_images: of all processes together; 0 for the whole set.

  Yields:
    As often in every process: after each batch.

  Raises:
    ValueError: an image of any process cannot be read, or its result has not
      the size of the clean one; what was measured before came first.
  """
  num_images = len(test_set.source)
  count = min(num_images, max_images or num_images)
  batch_size *= jax.local_device_count()
  share = range(jax.process_index(), count, jax.process_count())
  mine = evaluate_set(
    restore,
    test_sets.examples(test_set, share),
    protocol,
    batch_size=batch_size,
  )
  for start in range(0, -(-count // jax.process_count()), batch_size):
    results, failure = [], None
    try:
      for result in itertools.islice(mine, batch_size):
        results.append(result)
    except Exception as error:  # after what was measured before it
      failure = error
    shares = distributed.gather([result.row for result in results])
    rows = [
      row
      for one_of_each in itertools.zip_longest(*shares)
      for row in one_of_each
      if row is not None
    ]
    yield Round(rows, dict(zip(share[start:], results, strict=False)))
    with distributed.shared_errors():
      if failure is not None:
        raise failure


def check_options(options: Any) -> None:
  """Refuses numbers of images that are none, and protocols of no measure.

  Args:
    options: `config.eval`.

  Raises:
    ValueError: `batch_size` or `max_images` is too small, or see `measure`.
  """
  for field, least in (("batch_size", 1), ("max_images", 0)):
    if options[field] < least:
      raise ValueError(
        f"config.eval.{field}={options[field]} must be at least {least}"
      )
  side = 64 + 2 * max(0, options["protocol"]["crop_px"])
  image = np.zeros((side, side, 3), np.uint8)
  measure(image, image, options["protocol"])
