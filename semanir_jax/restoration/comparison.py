"""Compares restored images with the clean ones that their owner has."""

import pathlib
from typing import Any

import numpy as np
from absl import logging

from semanir_jax.evaluation import measures, test_sets, wording
from semanir_jax.images import image_file
from semanir_jax.restoration.planning import Job


def protocol(scale: int) -> dict[str, Any]:
  """Says how a comparison is measured and captioned (docs/protocols.md).

  Enlarged images are as in super-resolution, others in all channels to the
  border.
  """
  channel, crop_px = ("y", scale) if scale > 1 else ("rgb", 0)
  return {
    "channel": channel,
    "crop_px": crop_px,
    "ssim": "valid",
    "psnr_b": False,
    "also": (),
  }


def read_reference(
  path: pathlib.Path, job: Job, shape: tuple[int, int, int], scale: int
) -> np.ndarray:
  """Reads a clean image, in the `shape` of the job's result; gray is repeated.

  What of it is no multiple of `scale` is cut off at the bottom and the right,
  as it was when the input was made of it (modcrop).

  Raises:
    ImageError: it cannot be read, or has another shape.
  """
  height, width, channels = shape
  target = image_file.read_image(path)
  rest = np.subtract(target.shape[:2], (height, width))
  if not ((rest >= 0) & (rest < scale)).all():
    raise image_file.ImageError(
      f"{path}: is {target.shape[0]}x{target.shape[1]}, the result"
      f" {height}x{width}; give the clean image of {job.source.name}"
    )
  if target.shape[2] > channels:
    raise image_file.ImageError(
      f"{path}: is a colour image, but the result is gray; give a gray"
      " clean image"
    )
  target = target[:height, :width]
  return image_file.convert_channels(
    target, str(path), image_file.PixelOptions(channels=channels)
  )


def measure(
  job: Job,
  source: np.ndarray,
  result: np.ndarray,
  target: np.ndarray,
  scale: int,
) -> measures.Result:
  """Measures and says how well result and clean image agree.

  Args:
    job: for messages.
    source: the input, `[h, w, C']` float32, white at 1.
    result: `[H, W, C']`, the same.
    target: clean image, the same, of the shape of the result.
    scale: of the network, see `protocol`.

  Raises:
    ImageError: they cannot be compared, being too small for SSIM.
  """
  example = test_sets.Example(job.source.stem, source, target)
  try:
    compared = measures.measure_example(example, result, protocol(scale))
  except ValueError as error:
    raise image_file.ImageError(
      f"{job.name}: cannot be compared ({error}); leave out --reference"
    ) from error
  logging.info("%s: %s", job.name, wording.scores(compared.row))
  return compared
