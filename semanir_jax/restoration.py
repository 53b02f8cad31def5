"""Restores image files with a trained network."""

import errno
import math
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from semanir_jax import (
  comparison,
  ensemble,
  memory,
  pixel_formats,
  restoration_plan,
  result_files,
  wording,
)
from semanir_jax.data import demosaic, images
from semanir_jax.models.semanir import SemanIR
from semanir_jax.restoration_plan import Job
from semanir_jax.tiles import TiledRestorer
from semanir_jax.weights import load_network

_PROGRESS_SECONDS = 10.0  # between two lines about one image
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def restore_files(
  checkpoint_path: str,
  source: str,
  output: str,
  *,
  num_keys: int | None = None,
  reference: str | None = None,
  output_format: str | None = None,
  quality: int | None = None,
  overwrite: bool = False,
  tile: int | None = None,
  self_ensemble: bool = False,
  dtype: str | None = None,
) -> None:
  """Restores an image file, or all images of a folder or pattern.

  Results that exist are kept, so that an interrupted run continues. A file that
  cannot be restored is reported and the others go on.

  Args:
    checkpoint_path: see `load_network`.
    source: see `restoration_plan.plan`.
    output: see there.
    num_keys: k; None for the checkpoint's.
    reference: see `restoration_plan.plan`; a comparison is written beside each
      result then, its PSNR in the caption.
    output_format: see `restoration_plan.plan`.
    quality: of JPEG and WebP results, 1 to 100; None for 95 and lossless.
    overwrite: restore again what was restored.
    tile: see `TiledRestorer`.
    self_ensemble: see `TiledRestorer`.
    dtype: operand type, "float32" or "bfloat16"; None for the checkpoint's.

  Raises:
    ImageError: a file cannot be read or written; of several, after the others
      were restored.
    CheckpointError: see `load_network`.
    ValueError: an option does not fit the network or the format.
  """
  jobs = restoration_plan.plan(
    source, output, reference=reference, output_format=output_format
  )
  restoration_plan.check_quality(jobs, quality)
  open_jobs = [job for job in jobs if overwrite or not job.is_done()]
  if len(open_jobs) < len(jobs):
    logging.info(
      "%d of %d are restored already and kept, by whatever network and k and"
      " from whatever image of that name; --overwrite restores them again",
      len(jobs) - len(open_jobs),
      len(jobs),
    )
  if not open_jobs:
    return
  model, params, config = load_network(checkpoint_path)
  if dtype is not None:
    model = model.clone(dtype=dtype)
  if self_ensemble:
    ensemble.check_turnable(config["data"]["degradation"])
  restorer = TiledRestorer(
    model, params, num_keys=num_keys, tile=tile, self_ensemble=self_ensemble
  )
  logging.info("%s", describe(model, config, num_keys))
  if reference is not None:
    measures = wording.measures(comparison.protocol(model.scale))
    logging.info("protocol: %s", measures)
  mosaics = demosaic.is_mosaic(config["data"]["degradation"])
  _restore_all(restorer, open_jobs, quality, mosaics)


def describe(
  model: SemanIR, config: Mapping[str, Any], num_keys: int | None
) -> str:
  """One line about a network: what it is for, and what it takes."""
  degradation = dict(config["data"]["degradation"])
  task = degradation.pop("name", "pairs of images")
  values = "".join(f", {k} {v}" for k, v in degradation.items())
  kinds = {1: "gray", 3: "RGB"}
  return (
    f"network: {task}{values}; scale {model.scale},"
    f" {kinds[model.in_channels]} to {kinds[model.out_channels]}, window"
    f" {model.window_size}, k = {num_keys or model.num_keys}; sides are padded"
    f" to multiples of {model.size_multiple}; on {jax.devices()[0].device_kind}"
  )


def _restore_all(
  restorer: TiledRestorer,
  jobs: list[Job],
  quality: int | None,
  mosaics: bool,
) -> None:
  """Restores files; reports the bad ones and goes on."""
  failures = []
  start = time.monotonic()
  for done, job in enumerate(jobs, 1):
    try:
      with memory.explained(
        f"{job.source}: does not fit the memory together with its result; free"
        " some, or cut it into parts"
      ):
        _restore_file(restorer, job, quality, mosaics)
    except (images.ImageError, memory.OutOfMemoryError) as error:
      if len(jobs) == 1:
        raise
      logging.error("%s", error)
      failures.append(job.name)
      if getattr(error.__cause__, "errno", None) in _DISK_FULL:
        # Of the others none could be written either, after hours of work.
        failures += [later.name for later in jobs[done:]]
        break
      continue
    rate = done / (time.monotonic() - start)
    logging.info(
      "%d of %d, %s, %.2f images/s, %.0f s left",
      done,
      len(jobs),
      job.result,
      rate,
      (len(jobs) - done) / rate,
    )
  if failures:
    raise images.ImageError(
      f"{len(failures)} of {len(jobs)} images were not restored:"
      f" {', '.join(failures)}; the messages above say why"
    )


def _restore_file(
  restorer: TiledRestorer, job: Job, quality: int | None, mosaics: bool
) -> None:
  """Restores one file; writes the comparison where there is a reference."""
  model, suffix = restorer.model, job.result.suffix.lower()
  picture = pixel_formats.read_picture(job.source)
  picture = pixel_formats.fitted(picture, suffix, model.scale)
  shape = pixel_formats.result_shape(picture, model, mosaics=mosaics)
  target = None
  if job.reference is not None:
    target = comparison.read_reference(job, shape, model.scale)
  levels = np.empty(shape, pixel_formats.result_type(picture, suffix))
  pixels = pixel_formats.network_input(
    picture, model.in_channels, mosaics=mosaics
  )
  restore_into(levels, restorer, pixels, picture.name)
  _warn_of_no_change(picture, levels)
  data = result_files.encode(job.result, levels, picture, quality=quality)
  compared = None
  if target is not None:
    written = result_files.decode(data, job.result, levels.shape[2])
    # Gray as it was, not three times over.
    before = pixels if mosaics else picture.pixels
    compared = comparison.measure(job, before, written, target, model.scale)
  result_files.write(job.result, data)
  if compared is not None:
    images.write_image(job.comparison, compared)
    logging.info("before / after / truth: %s", job.comparison)


def restore_into(
  levels: np.ndarray, restorer: TiledRestorer, pixels: np.ndarray, name: str
) -> None:
  """Fills `levels`, the result; only a band of tiles is held as floats.

  Args:
    levels: `[H * S, W * S, C']` uint8 or uint16; C' of the network, or 1 for
      the luma of 3.
    restorer: the network.
    pixels: `[H, W, C]`, see `TiledRestorer.bands`.
    name: of the image, for messages.

  Raises:
    ImageError: the network returns NaN, or the memory runs out.
  """
  height, _, channels = levels.shape
  tiles = restorer.tile_px(*pixels.shape[:2])
  if tiles[2] > 1:
    logging.info("%s: in %d tiles of %dx%d px", name, tiles[2], *tiles[:2])
  top, start = 0, time.monotonic()
  told = start
  short = (
    f"does not fit the memory in tiles of {tiles[0]}x{tiles[1]} px; give a"
    " smaller --tile"
  )
  try:
    with memory.explained(short):
      for band in restorer.bands(pixels):
        bottom = top + len(band)
        levels[top:bottom] = pixel_formats.to_levels(
          band, channels=channels, dtype=levels.dtype
        )
        top, now = bottom, time.monotonic()
        if now - told > _PROGRESS_SECONDS and top < height:
          told = now
          left = (now - start) * (height / top - 1)
          share = math.floor(100 * top / height)
          logging.info("%s: %d %%, %.0f s left", name, share, left)
  except ValueError as error:
    raise images.ImageError(f"{name}: {error}") from error


def _warn_of_no_change(
  picture: pixel_formats.Picture, levels: np.ndarray
) -> None:
  """Warns where a result equals its input, both rounded to 8 bits."""
  if levels.shape != picture.pixels.shape:
    return
  before, after = (
    image if image.dtype == np.uint8 else (image.astype(np.uint32) + 128) // 257
    for image in (picture.pixels, levels)
  )
  if (before == after).all():
    logging.warning(
      "%s: the result equals the input; is the checkpoint trained, and for"
      " images like this?",
      picture.name,
    )
