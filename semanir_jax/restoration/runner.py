"""Carries out the jobs of a plan: reads, restores, compares, writes."""

import collections
import contextlib
import errno
import functools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures

import numpy as np
from absl import logging

from semanir_jax.evaluation import reports, wording
from semanir_jax.evaluation.reports import Row
from semanir_jax.images import image_file
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.machine import files, memory
from semanir_jax.restoration import comparison, pixel_formats, result_files
from semanir_jax.restoration.planning import Job

_PROGRESS_SECONDS = 10.0  # between two lines about one image
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_ERRORS = (files.FileError, memory.OutOfMemoryError)
# Results are written in threads while others are restored: to compress a PNG
# file of a megapixel takes a core 0.3 s. Together they hold so much.
_THREADS = min(8, os.cpu_count() or 1)
_MOST_BYTES = 2**28


def restore_all(
  restorer: TiledRestorer,
  jobs: list[Job],
  quality: int | None,
  mosaics: bool,
) -> None:
  """Restores files; reports the bad ones and goes on.

  Args:
    restorer: the network.
    jobs: of `restoration_plan.plan`.
    quality: see `result_files.encode`.
    mosaics: whether one channel is a mosaic, see `pixel_formats`.

  Raises:
    ImageError: a file cannot be read or written; of several, after the others
      were restored.
    OutOfMemoryError: of a single job.
  """
  failures, untried, rows = [], [], []
  start = time.monotonic()
  remaining = iter(jobs)
  outcomes = _outcomes(restorer, remaining, quality, mosaics)
  for done, (job, finished) in enumerate(outcomes, 1):
    error = finished.exception()
    if error is None:
      if (row := finished.result()) is not None:
        rows.append(row)
      rate = done / (time.monotonic() - start)
      logging.info(
        "%d of %d, %s, %.2f images/s, %.0f s left",
        done,
        len(jobs),
        job.result,
        rate,
        (len(jobs) - done) / rate,
      )
      continue
    if len(jobs) == 1 or not isinstance(error, _ERRORS):
      raise error
    logging.error("%s", error)
    failures.append(job.name)
    if getattr(error.__cause__, "errno", None) in _DISK_FULL:
      # Of the others none could be written either, after hours of work.
      untried += [later.name for later in remaining]
  if len(rows) > 1:
    means = wording.scores(reports.mean_row(rows))
    logging.info("mean of %d images: %s", len(rows), means)
  failures += untried
  if failures:
    raise image_file.ImageError(
      f"{len(failures)} of {len(jobs)} images were not restored:"
      f" {', '.join(failures)}; the messages above say why"
    )


def _outcomes(
  restorer: TiledRestorer,
  jobs: Iterable[Job],
  quality: int | None,
  mosaics: bool,
) -> Iterator[tuple[Job, futures.Future]]:
  """Every job with what `_write` returned or raised, in order."""
  waiting = collections.deque()
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    for job in jobs:
      size, finished = 0, futures.Future()
      try:
        finish, size = _restored(restorer, job, quality, mosaics)
        finished = pool.submit(finish)
        del finish  # it holds the image
      except _ERRORS as error:
        finished.set_exception(error)
      waiting.append((job, finished, size))
      while waiting and (
        waiting[0][1].done()
        or len(waiting) > _THREADS
        or sum(size for *_, size in waiting) > _MOST_BYTES
      ):
        yield waiting.popleft()[:2]
    for job, finished, _ in waiting:
      yield job, finished


def _restored(
  restorer: TiledRestorer, job: Job, quality: int | None, mosaics: bool
) -> tuple[Callable[[], Row | None], int]:
  """Restores one file.

  Returns:
    What writes the result, and how many bytes it holds until then.
  """
  model, suffix = restorer.model, job.result.suffix.lower()
  with _explained(job):
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
  # Gray as it was, not three times over.
  before = pixels if mosaics else picture.pixels
  finish = functools.partial(
    _write, job, picture, levels, quality, before, target, model.scale
  )
  return finish, levels.nbytes + picture.pixels.nbytes + pixels.nbytes


def _write(
  job: Job,
  picture: pixel_formats.Picture,
  levels: np.ndarray,
  quality: int | None,
  before: np.ndarray,
  target: np.ndarray | None,
  scale: int,
) -> Row | None:
  """Writes a result, and the comparison where there is a reference.

  Returns:
    The figures of the comparison.
  """
  with _explained(job):
    _warn_of_no_change(picture, levels)
    data = result_files.encode(job.result, levels, picture, quality=quality)
    compared = None
    if target is not None:
      written = result_files.decode(data, job.result, levels.shape[2])
      compared = comparison.measure(job, before, written, target, scale)
    result_files.write(job.result, data)
    if compared is None:
      return None
    image_file.write_image(job.comparison, reports.comparison(compared))
    logging.info("before / after / truth: %s", job.comparison)
    return compared.row


def _explained(job: Job) -> contextlib.AbstractContextManager[None]:
  """Turns a lack of memory into one OutOfMemoryError that names the file."""
  return memory.explained(
    f"{job.source}: does not fit the memory together with its result; free"
    " some, or cut it into parts"
  )


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
    raise image_file.ImageError(f"{name}: {error}") from error


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
