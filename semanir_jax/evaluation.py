"""Evaluation: restore test images and measure them under a stated protocol.

Every image is degraded in its fixed test form, restored and rounded to 8 bits;
both the degraded input and the result are compared with the clean image. Means
are means of per-image values (protocol section 0.10).
"""

import itertools
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from semanir_jax import metrics, reports, sharding, test_sets
from semanir_jax.checkpoint import load_for_inference
from semanir_jax.data.imresize import imresize
from semanir_jax.inference import Restorer

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
    ValueError: the restored image has not the size of the clean one.
  """
  for _, same_size in itertools.groupby(examples, key=lambda e: e.lq.shape):
    while batch := list(itertools.islice(same_size, batch_size)):
      restored = [None] * len(batch)
      if restore is not None:
        restored = restore(np.stack([example.lq for example in batch]))
      for example, output in zip(batch, restored, strict=True):
        yield measured(example, output, protocol)


def measured(
  example: test_sets.Example,
  output: np.ndarray | None,
  protocol: Mapping[str, Any],
) -> Result:
  """Compares one restored image, and its input, with the clean one."""
  target = metrics.to_uint8(example.hq)
  before = as_output(example.lq, example.hq.shape[0] // example.lq.shape[0])
  after = before if output is None else metrics.to_uint8(output)
  if after.shape != target.shape:
    raise ValueError(
      f"{example.name}: the network returns {after.shape} for an input of"
      f" {example.lq.shape} whose clean image is {target.shape}; use the config"
      " of the scale and channels it was trained for"
    )
  values = measure(before, target, protocol)
  row = {"name": example.name}
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


def evaluate(
  config: Any,
  *,
  checkpoint_path: str | None,
  data_dir: str,
  output: pathlib.Path,
  num_keys: int | None,
) -> None:
  """Runs a whole benchmark; prints and writes tables and pictures.

  Args:
    config: `config.eval`.
    checkpoint_path: see `load_for_inference`; None measures the inputs.
    data_dir: folder of the test sets.
    output: folder for `results.json`, `results.md`, and for every set a CSV
      file of its images and a folder of pictures; created if needed.
    num_keys: k; None for the checkpoint's.

  Raises:
    ValueError: bad input; nothing is written then but what was finished.
  """
  protocol = config.protocol.to_dict()
  restore = None
  if checkpoint_path is not None:
    model, params, _ = load_for_inference(checkpoint_path)
    mesh = sharding.make_mesh(data=-1, fsdp=1)
    restorer = Restorer(model, params, mesh=mesh)
    num_keys = restorer.checked_num_keys(num_keys)
    restore = lambda images: restorer(images, num_keys=num_keys)  # noqa: E731
    protocol |= {"num_keys": num_keys, "window_size": model.window_size}
  report = reports.Report(output, protocol, baseline=restore is None)
  logging.info("%s", report.protocol_line())
  for name, options, source in test_sets.present(config.sets, data_dir):
    results = evaluate_set(
      restore,
      test_sets.examples(source, options, max_images=config.max_images),
      protocol,
      batch_size=config.batch_size,
    )
    count = min(len(source), config.max_images or len(source))
    rows = []
    start = time.monotonic()
    for result in results:
      rows.append(result.row)
      if len(rows) <= config.num_pictures:
        report.write_pictures(name, result)
      _show_progress(name, len(rows), count, time.monotonic() - start)
    report.add_set(name, rows, options)
  report.finish()


def _show_progress(name: str, done: int, count: int, seconds: float) -> None:
  """Logs rate and time left about ten times a set."""
  if done % max(1, count // 10) == 0 or done == count:
    rate = done / max(seconds, 1e-9)
    logging.info(
      "%s: %d of %d images, %.2f images/s, %.0f s left",
      name,
      done,
      count,
      rate,
      (count - done) / rate,
    )
