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
    same_size = example.lq.shape == target.shape
    values = measure(
      before, target, protocol, exact=example.lq if same_size else None
    )
    row |= {f"input_{name}": value for name, value in values.items()}
    if output is not None:
      values = measure(after, target, protocol, exact=output)
    row |= values
  return Result(row, before, after, target)


def measure(
  image: np.ndarray,
  target: np.ndarray,
  protocol: Mapping[str, Any],
  *,
  exact: np.ndarray | None = None,
) -> dict[str, float]:
  """Measures one image.

  Args:
    image: uint8 `[H, W, C]`.
    target: clean image, same shape.
    protocol: `channel`, `crop_px`, `ssim` (variant), `psnr_b` (bool), and
      `also`: further columns, psnr_CHANNEL, ssim_VARIANT,
      ssim_VARIANT_CHANNEL or psnr_float.
    exact: the image before it was rounded, float, for psnr_float; None where
      there is none.

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
    if name == "psnr_float":
      pixels = image / np.float32(255) if exact is None else exact
      crop_px = protocol["crop_px"]
      values[name] = metrics.psnr_float(pixels, target, crop_px=crop_px)
      continue
    if not (column := _COLUMN.fullmatch(name)):
      raise ValueError(
        f"config.eval.protocol.also: unknown column {name!r}; use psnr_rgb,"
        " psnr_y, psnr_y_rounded or psnr_float, ssim_valid, ssim_zero_pad or"
        " ssim_3d, or an SSIM and a channel, as ssim_zero_pad_y"
      )
    part: dict[str, Any] = column.groupdict()  # literals, by the pattern
    channel = part["channel"] or part["psnr"] or protocol["channel"]
    options = common | {"channel": channel}
    if variant := part["variant"]:
      values[name] = metrics.ssim(image, target, variant=variant, **options)
    else:
      values[name] = metrics.psnr(image, target, **options)
  return values
