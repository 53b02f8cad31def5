"""Carries out the jobs of a plan: reads, restores, compares, writes."""

import collections
import contextlib
import dataclasses
import errno
import math
import os
from collections.abc import Iterable, Iterator
from concurrent import futures

import numpy as np
from absl import logging

from semanir_jax.evaluation import reports, wording
from semanir_jax.evaluation.reports import Row
from semanir_jax.images import image_file
from semanir_jax.images.level_range import FULL_RANGE, LevelRange
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.machine import files, memory
from semanir_jax.machine.progress import Progress, format_duration
from semanir_jax.restoration import comparison, pixel_formats, result_files
from semanir_jax.restoration.hints import Hints
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
  level_range: LevelRange = FULL_RANGE,
) -> None:
  """Restores files; reports the bad ones and goes on.

  Args:
    restorer: the network.
    jobs: of `planning.plan`.
    quality: see `result_files.encode`.
    level_range: which integers of every file are black and white.

  Raises:
    ImageError: a file cannot be read or written; of several, after the others
      were restored.
    OutOfMemoryError: of a single job.
  """
  failures, untried, rows = [], [], []
  progress = Progress(len(jobs), "images")
  remaining = iter(jobs)
  hints = Hints()
  outcomes = _work_off(restorer, remaining, quality, level_range, hints)
  for done, (job, finished) in enumerate(outcomes, 1):
    error = finished.exception()
    if error is None:
      if (row := finished.result()) is not None:
        rows.append(row)
      progress.advance(done)
      speed = progress.describe()
      logging.info("%d of %d, %s, %s", done, len(jobs), job.result, speed)
      continue
    if len(jobs) == 1 or not isinstance(error, _ERRORS):
      raise error
    logging.error("%s", error)
    failures.append(job.name)
    if getattr(error.__cause__, "errno", None) in _DISK_FULL:
      # Of the others none could be written either, after hours of work.
      untried += [later.name for later in remaining]
  hints.summarize(len(jobs))
  if len(rows) > 1:
    means = wording.scores(reports.mean_row(rows))
    logging.info("mean of %d images: %s", len(rows), means)
  failures += untried
  if failures:
    raise image_file.ImageError(
      f"{len(failures)} of {len(jobs)} images were not restored:"
      f" {', '.join(failures)}; the messages above say why"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class RestoredFile:
  """A result that waits to be written.

  Attributes:
    job: where it goes.
    picture: the input, after `pixel_formats.fit_to_format`.
    levels: the result, `[H * S, W * S, C]` uint8 or uint16.
    before: the input for a comparison, `[H, W, C']`: gray as it was, not three
      times over; a mosaic filled in, float32.
    target: the clean image, of the shape of `levels`, or None.
    scale: S, of the network.
    num_bytes: that it holds in memory.
  """

  job: Job
  picture: pixel_formats.Picture
  levels: np.ndarray
  before: np.ndarray
  target: np.ndarray | None
  scale: int
  num_bytes: int


def _work_off(
  restorer: TiledRestorer,
  jobs: Iterable[Job],
  quality: int | None,
  level_range: LevelRange,
  hints: Hints,
) -> Iterator[tuple[Job, futures.Future]]:
  """Restores and writes; yields jobs in order, with what `_write` gave."""
  waiting = collections.deque()
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    for job in jobs:
      size, finished = 0, futures.Future()
      try:
        restored = _restore(restorer, job, level_range, hints)
        size = restored.num_bytes
        finished = pool.submit(_write, restored, quality)
        del restored  # it holds the image
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


def _restore(
  restorer: TiledRestorer, job: Job, level_range: LevelRange, hints: Hints
) -> RestoredFile:
  """Restores one file."""
  network, suffix = restorer.network, job.result.suffix.lower()
  scale = network.model.scale
  with _explain_out_of_memory(job):
    picture = pixel_formats.read_picture(job.source)
    picture = pixel_formats.set_levels(picture, level_range)
    picture = pixel_formats.fit_to_format(picture, suffix, scale)
    shape = pixel_formats.result_shape(picture, network)
    target = None
    if job.reference is not None:
      target = comparison.read_reference(job.reference, job, shape, scale)
    levels = np.empty(shape, pixel_formats.result_type(picture, suffix))
    pixels = pixel_formats.network_input(picture, network)
    hints.tell(picture, network)
    restore_into(levels, restorer, pixels, picture)
  return RestoredFile(
    job=job,
    picture=picture,
    levels=levels,
    before=pixels if network.takes_mosaics else picture.pixels,
    target=target,
    scale=scale,
    num_bytes=levels.nbytes + picture.pixels.nbytes + pixels.nbytes,
  )


def _write(restored: RestoredFile, quality: int | None) -> Row | None:
  """Writes a result, and the comparison where there is a reference.

  Returns:
    The figures of the comparison.
  """
  job, levels = restored.job, restored.levels
  with _explain_out_of_memory(job):
    _warn_of_no_change(restored.picture, levels)
    data = result_files.encode(
      job.result, levels, restored.picture, quality=quality
    )
    compared = None
    if restored.target is not None:
      written = result_files.decode(data, job.result, levels.shape[2])
      compared = comparison.measure(
        job,
        *(
          restored.picture.to_unit(image)
          for image in (restored.before, written, restored.target)
        ),
        scale=restored.scale,
      )
    result_files.write(job.result, data)
    if compared is None:
      return None
    assert job.comparison is not None  # there is one where there is a target
    image_file.write_image(job.comparison, reports.comparison(compared))
    logging.info("before / after / truth: %s", job.comparison)
    return compared.row


def _explain_out_of_memory(job: Job) -> contextlib.AbstractContextManager[None]:
  """Turns a lack of memory into one OutOfMemoryError that names the file."""
  return memory.explain_out_of_memory(
    f"{job.source}: does not fit the memory together with its result; free"
    " some, or cut it into parts"
  )


def restore_into(
  levels: np.ndarray,
  restorer: TiledRestorer,
  pixels: np.ndarray,
  picture: pixel_formats.Picture,
) -> None:
  """Fills `levels`, the result; only a band of tiles is held as floats.

  Args:
    levels: `[H * S, W * S, C']` uint8 or uint16; C' as in
      `pixel_formats.to_levels`.
    restorer: the network.
    pixels: `[H, W, C]`, see `TiledRestorer.bands`.
    picture: whose they are.

  Raises:
    ImageError: the network returns NaN, or the memory runs out.
  """
  height, _, channels = levels.shape
  name = picture.name
  level_range, span = pixel_formats.result_levels(picture, levels.dtype)
  tiles = restorer.tile_px(*pixels.shape[:2])
  if tiles[2] > 1:
    logging.info("%s: in %d tiles of %dx%d px", name, tiles[2], *tiles[:2])
  top = 0
  progress = Progress(height, "rows", every_seconds=_PROGRESS_SECONDS)
  short = (
    f"does not fit the memory in tiles of {tiles[0]}x{tiles[1]} px; give a"
    " smaller --tile"
  )
  try:
    with memory.explain_out_of_memory(short):
      for band in restorer.bands(pixels, picture.level_range):
        bottom = top + len(band)
        levels[top:bottom] = pixel_formats.to_levels(
          band,
          channels=channels,
          dtype=levels.dtype,
          level_range=level_range,
          span=span,
        )
        top = bottom
        if progress.advance(top) and top < height:
          share = math.floor(100 * top / height)
          left = format_duration(progress.seconds_left)
          logging.info("%s: %d %%, %s left", name, share, left)
  except ValueError as error:
    raise image_file.ImageError(f"{name}: {error}") from error


def _warn_of_no_change(
  picture: pixel_formats.Picture, levels: np.ndarray
) -> None:
  """Warns where a result equals its input, both rounded to 8 bits."""
  if levels.shape != picture.pixels.shape:
    return
  before, after = (
    image if image.dtype == np.uint8 else picture.level_range.to_8_bits(image)
    for image in (picture.pixels, levels)
  )
  if (before == after).all():
    logging.warning(
      "%s: the result equals the input; is the checkpoint trained, and for"
      " images like this?",
      picture.name,
    )
