"""Measures a restored image and its degraded input under a stated protocol."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import numpy as np

from semanir_jax.evaluation import metrics, test_sets
from semanir_jax.images.imresize import imresize

_CHANNEL = "|".join(get_args(metrics.Channel))
_VARIANT = "|".join(get_args(metrics.SsimVariant))
_COLUMN = re.compile(
  f"psnr_(?P<psnr>{_CHANNEL})"
  f"|ssim_(?P<variant>{_VARIANT})(_(?P<channel>{_CHANNEL}))?"
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
  """Returns the degraded input as an 8-bit image of the target's size.

  What a user has without a network: the rounded input itself, or in
  super-resolution its MATLAB bicubic enlargement.
  """
  rounded = metrics.to_uint8(lq)
  return imresize(rounded, scale, rounding="once") if scale > 1 else rounded


def measure_example(
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
  common: dict[str, Any] = {
    "crop_px": protocol["crop_px"],
    "channel": protocol["channel"],
  }
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
    part: dict[str, Any] = column.groupdict()  # literals, by the pattern
    channel = part["channel"] or part["psnr"] or protocol["channel"]
    options = common | {"channel": channel}
    if variant := part["variant"]:
      values[name] = metrics.ssim(image, target, variant=variant, **options)
    else:
      values[name] = metrics.psnr(image, target, **options)
  return values
