"""Evaluation: restore test images and measure them under a stated protocol.

Every image is degraded in its fixed test form, restored and rounded to 8 bits;
both the degraded input and the result are compared with the clean image. Means
are means of per-image values (protocol section 0.10).

Several processes share a set: process p of n restores images p, p + n, ... on
its own devices and tells the others what it measured, after each batch. So
every image counts once, and what one process compiles no other has to.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from semanir_jax import distributed, memory, metrics, test_sets
from semanir_jax.data.imresize import imresize
from semanir_jax.data.sources import Source

Restore = Callable[[np.ndarray], np.ndarray]

_CHANNEL = "rgb|y|y_rounded"
_COLUMN = re.compile(
  f"psnr_(?P<psnr>{_CHANNEL})"
  f"|ssim_(?P<variant>valid|zero_pad|3d)(_(?P<channel>{_CHANNEL}))?"
)


class Result(NamedTuple):
  """One measured image; the images are uint8 `[H, W, C]` of one size.

  Attributes:
    row: name, and the metrics of the input and of the result.
    before: degraded input, enlarged by bicubic in super-resolution.
    after: restored image.
    target: clean image.
  """

  row: dict[str, Any]
  before: np.ndarray
  after: np.ndarray
  target: np.ndarray


class Round(NamedTuple):
  """What all processes measured between two meetings.

  Attributes:
    rows: of all processes, in the order of the set.
    results: of this process alone, by their index in the set.
  """

  rows: list[dict[str, Any]]
  results: dict[int, Result]


def as_output(lq: np.ndarray, scale: int) -> np.ndarray:
  """The degraded input as an 8-bit image of the target's size.

  What a user has without a network: the rounded input itself, or in
  super-resolution its MATLAB bicubic enlargement.
  """
  rounded = metrics.to_uint8(lq)
  return imresize(rounded, scale, rounding="once") if scale > 1 else rounded


def evaluate_set(
  restore: Restore | None,
  examples: Iterable[test_sets.Example],
  protocol: Mapping[str, Any],
  *,
  batch_size: int,
) -> Iterator[Result]:
  """Restores and measures images.

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
      not fit the memory.
  """
  for _, same_size in itertools.groupby(examples, key=lambda e: e.lq.shape):
    while batch := list(itertools.islice(same_size, batch_size)):
      restored = [None] * len(batch)
      if restore is not None:
        height, width, _ = batch[0].lq.shape
        short = memory.explained(
          f"{len(batch)} of {height}x{width} px do not fit the memory at a"
          " time; use a smaller config.eval.batch_size, or leave out images as"
          " large as this (restore.py restores them in tiles)"
        )
        with test_sets.errors_name(batch[0].name), short:
          restored = restore(np.stack([example.lq for example in batch]))
      for example, output in zip(batch, restored, strict=True):
        yield measured(example, output, protocol)


def evaluate_shared(
  restore: Restore | None,
  source: Source,
  options: Mapping[str, Any],
  protocol: Mapping[str, Any],
  *,
  batch_size: int,
  max_images: int,
) -> Iterator[Round]:
  """Restores and measures a test set together with the other processes.

  Args:
    restore: see `evaluate_set`; on devices of this process alone.
    source: of `test_sets.open_test_set`, the same in all processes.
    options: see `test_sets.examples`.
    protocol: see `measure`.
    batch_size: most images that a process restores at a time.
    max_images: of all processes together; 0 for the whole set.

  Yields:
    As often in every process: after each batch.

  Raises:
    ValueError: an image of any process cannot be read, or its result has not
      the size of the clean one.
  """
  count = min(len(source), max_images or len(source))
  share = range(jax.process_index(), count, jax.process_count())
  mine = test_sets.examples(source, options, share)
  for start in range(0, -(-count // jax.process_count()), batch_size):
    with distributed.shared_errors():
      batch = itertools.islice(mine, batch_size)
      results = list(
        evaluate_set(restore, batch, protocol, batch_size=batch_size)
      )
    shares = distributed.gather([result.row for result in results])
    rows = [
      row
      for one_of_each in itertools.zip_longest(*shares)
      for row in one_of_each
      if row is not None
    ]
    yield Round(rows, dict(zip(share[start:], results, strict=False)))


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


def measured(
  example: test_sets.Example,
  output: np.ndarray | None,
  protocol: Mapping[str, Any],
) -> Result:
  """Compares one restored image, and its input, with the clean one."""
  target = metrics.to_uint8(example.hq)
  before = as_output(example.lq, example.hq.shape[0] // example.lq.shape[0])
  after = before if output is None else metrics.to_uint8(output)
  row = {"name": example.name}
  with test_sets.errors_name(example.name):
    if after.shape != target.shape:
      raise ValueError(
        f"the network returns {after.shape} for an input of {example.lq.shape}"
        f" whose clean image is {target.shape}; use the config of the scale and"
        " channels it was trained for"
      )
    values = measure(before, target, protocol)
    row |= {f"input_{name}": value for name, value in values.items()}
    row |= values if output is None else measure(after, target, protocol)
  return Result(row, before, after, target)


def measure(
  image: np.ndarray, target: np.ndarray, protocol: Mapping[str, Any]
) -> dict[str, float]:
  """Measures one image.

  Args:
    image: uint8 `[H, W, C]`.
    target: clean image, same shape.
    protocol: `channel`, `crop_px`, `ssim` (variant), `psnr_b` (bool), and
      `also`: further columns, psnr_CHANNEL, ssim_VARIANT or
      ssim_VARIANT_CHANNEL.

  Returns:
    PSNR in dB as "psnr", SSIM as "ssim", PSNR-B in dB as "psnr_b" where asked
    for, and what `also` names.

  Raises:
    ValueError: an unknown column, channel or variant.
  """
  common = {"crop_px": protocol["crop_px"], "channel": protocol["channel"]}
  values = {
    "psnr": metrics.psnr(image, target, **common),
    "ssim": metrics.ssim(image, target, variant=protocol["ssim"], **common),
  }
  if protocol["psnr_b"]:
    values["psnr_b"] = metrics.psnr_b(image, target, **common)
  for name in protocol["also"]:
    if not (column := _COLUMN.fullmatch(name)):
      raise ValueError(
        f"config.eval.protocol.also: unknown column {name!r}; use psnr_rgb,"
        " psnr_y or psnr_y_rounded, ssim_valid, ssim_zero_pad or ssim_3d, or an"
        " SSIM and a channel, as ssim_zero_pad_y"
      )
    variant, channel = column["variant"], column["channel"] or column["psnr"]
    options = common | ({"channel": channel} if channel else {})
    if variant:
      values[name] = metrics.ssim(image, target, variant=variant, **options)
    else:
      values[name] = metrics.psnr(image, target, **options)
  return values
