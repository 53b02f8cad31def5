"""Restores films: reads, restores, encodes part by part, joins, measures."""

import dataclasses
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import logging

from semanir_jax.films import encoding, muxing, reading, segments
from semanir_jax.films.encoding import EncoderOptions, Target
from semanir_jax.films.library import FilmError, load_av
from semanir_jax.films.reading import Damage, Film, FilmFrame
from semanir_jax.films.segments import Parts
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.machine import files, memory
from semanir_jax.machine.progress import Progress
from semanir_jax.restoration import film_frames, film_report
from semanir_jax.restoration.planning import Job

_PROGRESS_SECONDS = 10.0  # between two lines
_ERRORS = (files.FileError, memory.OutOfMemoryError)


@dataclasses.dataclass(frozen=True)
class FilmJob:
  """A film that can be restored, as far as could be seen before.

  Attributes:
    job: where it goes.
    film: the input.
    target: how the result is encoded.
    clean: the film to compare with, or None.
  """

  job: Job
  film: Film
  target: Target
  clean: Film | None


def restore_all(
  restorer: TiledRestorer,
  jobs: list[Job],
  options: EncoderOptions,
  settings: dict[str, Any],
) -> None:
  """Restores films; reports the bad ones and goes on.

  All are looked at before the first is restored.

  Args:
    restorer: the network.
    jobs: of `planning.plan`.
    options: of the encoder.
    settings: what else a result depends on, plain JSON values: parts that other
      ones made are not gone on with.

  Raises:
    FilmError: a film cannot be read, restored or written, or is damaged; of
      several, after the others were restored.
    OutOfMemoryError: of a single job.
    ValueError: an option is none of the codec's.
  """
  failures, incomplete, ready = [], [], []
  for job in jobs:
    try:
      ready.append(_prepare(restorer, job, options))
    except _ERRORS as error:
      _tell_or_raise(error, jobs)
      failures.append(job.name)
  settings = settings | {"network": _fingerprint(restorer)}
  for film_job in ready:
    try:
      if _restore(restorer, film_job, settings):
        incomplete.append(film_job.job.name)
    except _ERRORS as error:
      _tell_or_raise(error, jobs)
      failures.append(film_job.job.name)
  told = []
  if failures:
    told.append(
      f"{len(failures)} of {len(jobs)} films were not restored:"
      f" {', '.join(failures)}"
    )
  if incomplete:
    told.append(
      f"{len(incomplete)} of {len(jobs)} films are damaged, and restored as far"
      f" as they can be read: {', '.join(incomplete)}"
    )
  if told:
    raise FilmError("; ".join((*told, "the messages above say why")))


def _tell_or_raise(error: Exception, jobs: list[Job]) -> None:
  """Logs what one of several films did not survive; raises it for one."""
  if len(jobs) == 1:
    raise error
  logging.error("%s", error)


def _prepare(
  restorer: TiledRestorer, job: Job, options: EncoderOptions
) -> FilmJob:
  """Looks at a film, and at what its result needs."""
  film = reading.probe(job.source)
  film_frames.check_channels(film, restorer.network)
  film_frames.tell_hint(film, restorer.network)
  scale = restorer.model.scale
  target = encoding.make_target(film, job.result.suffix.lower(), scale, options)
  muxing.check(film, target)
  clean = film_report.check_reference(job, film, scale)
  return FilmJob(job, film, target, clean)


def _restore(
  restorer: TiledRestorer, film_job: FilmJob, settings: dict[str, Any]
) -> bool:
  """Restores one film; says whether it was damaged."""
  job, film, target = film_job.job, film_job.film, film_job.target
  logging.info(
    "%s: %dx%d, %s, about %d frames; to %dx%d, %s",
    job.name,
    film.width,
    film.height,
    film.layout.name,
    film.num_frames,
    target.width,
    target.height,
    " ".join((target.codec, *(f"{k}={v}" for k, v in target.options))),
  )
  _make_folder(job.result.parent)
  parts = Parts(job.result, settings | _made_by(film, target))
  if parts.replaced:
    logging.info("%s: parts that other settings made are thrown away", job.name)
  damage = Damage(film.path)
  with memory.explain_out_of_memory(
    f"{film.path}: a frame does not fit the memory; give a smaller --tile"
  ):
    _restore_parts(restorer, film_job, parts, damage)
  if not parts.count():
    raise FilmError(f"{film.path}: not one frame of it could be restored")
  muxing.write(film, target, parts, job.result, damage)
  logging.info("%s", job.result)
  try:
    film_report.report(job, film, film_job.clean, restorer.model.scale)
  except film_report.WrongResultError:
    # Else the next run would keep it as done. The parts stay.
    job.result.unlink()
    raise
  parts.remove()
  return bool(damage)


def _restore_parts(
  restorer: TiledRestorer, film_job: FilmJob, parts: Parts, damage: Damage
) -> None:
  """Restores and encodes what is not done yet, part by part."""
  film, name = film_job.film, film_job.job.name
  frames = reading.read_frames(film, damage)
  done = parts.count()
  skipped = sum(1 for _ in itertools.islice(frames, done * segments.NUM_FRAMES))
  if skipped:
    logging.info("%s: goes on after %d frames that are done", name, skipped)
  ahead = max(film.num_frames - skipped, 1)
  progress = Progress(ahead, "frames", every_seconds=_PROGRESS_SECONDS)
  counted = _count(frames, progress, name, skipped, film.num_frames)
  for index in itertools.count(done):
    first = next(counted, None)
    if first is None:
      return
    rest = itertools.islice(counted, segments.NUM_FRAMES - 1)
    restored = film_frames.restore_frames(
      restorer, film, itertools.chain([first], rest)
    )
    parts.write(index, list(encoding.encode(film_job.target, restored)))


def _count(
  frames: Iterator[FilmFrame],
  progress: Progress,
  name: str,
  skipped: int,
  total: int,
) -> Iterator[FilmFrame]:
  """Passes frames on; tells now and then how many were restored."""
  done = 0
  for frame in frames:
    if done and done + skipped < total and progress.advance(done):
      logging.info(
        "%s: %d of %d frames, %s",
        name,
        skipped + done,
        total,
        progress.describe(),
      )
    yield frame
    done += 1
  if not done:
    return
  progress.advance(done)
  logging.info(
    "%s: all %d frames, %.2f frames/s", name, skipped + done, progress.rate
  )


def _make_folder(folder: pathlib.Path) -> None:
  """Makes the folder of a result."""
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError as error:
    raise FilmError(
      f"{folder}: cannot be created ({error.strerror}); choose another --output"
    ) from error


def _made_by(film: Film, target: Target) -> dict[str, Any]:
  """Returns what parts depend on beside the network."""
  av = load_av()
  status = film.path.stat()
  return {
    "film": [str(film.path.resolve()), status.st_size, status.st_mtime_ns],
    "target": repr(target),
    "frames": segments.NUM_FRAMES,
    "libraries": {"av": av.__version__}
    | {name: list(found) for name, found in av.library_versions.items()},
  }


def _fingerprint(restorer: TiledRestorer) -> str:
  """Returns a hash of the network and its parameters."""
  digest = hashlib.sha256(repr(restorer.model).encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(
    restorer.network.params
  ):
    digest.update(jax.tree_util.keystr(path).encode())
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()
