"""Restores image files and films with a trained network."""

from typing import Any

import jax
from absl import logging

from semanir_jax.evaluation import wording
from semanir_jax.films.encoding import AS_SUITS, EncoderOptions
from semanir_jax.films.library import load_av
from semanir_jax.images.level_range import FULL_RANGE, LevelRange
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.machine.files import FileError
from semanir_jax.networks.load import check_there, load_network
from semanir_jax.restoration import comparison, film_runner, planning, runner
from semanir_jax.restoration.planning import Job


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
  level_range: LevelRange = FULL_RANGE,
  film: EncoderOptions = AS_SUITS,
) -> None:
  """Restores an image file or film, or all of a folder or pattern.

  Results that exist are kept, so that an interrupted run continues. A file that
  cannot be restored is reported and the others go on.

  Args:
    checkpoint_path: see `load_network`.
    source: see `planning.plan`.
    output: see there.
    num_keys: k; None for the checkpoint's.
    reference: see `planning.plan`; a comparison is written beside each
      result then, its PSNR in the caption.
    output_format: see `planning.plan`.
    quality: of JPEG and WebP results, 1 to 100; None for 95 and lossless.
    overwrite: restore again what was restored.
    tile: see `TiledRestorer`.
    self_ensemble: see `TiledRestorer`.
    dtype: operand type, "float32" or "bfloat16"; None for the checkpoint's.
    level_range: which integers of the images are black and white.
    film: how films are encoded.

  Raises:
    FileError: a file cannot be read or written; of several, after the others
      were restored.
    CheckpointError: see `load_network`.
    ValueError: an option does not fit the network or the format.
  """
  jobs = planning.plan(
    source, output, reference=reference, output_format=output_format
  )
  _check_options(jobs, output_format, quality, level_range, film)
  open_jobs = [job for job in jobs if overwrite or not job.is_done()]
  _tell_kept(len(jobs) - len(open_jobs), jobs, compared=reference is not None)
  if not open_jobs:
    check_there(checkpoint_path)  # or a mistyped name would seem to be right
    return
  network = load_network(checkpoint_path).with_dtype(dtype)
  restorer = TiledRestorer(
    network, num_keys=num_keys, tile=tile, self_ensemble=self_ensemble
  )
  logging.info(
    "network: %s; on %s",
    network.describe(num_keys),
    jax.devices()[0].device_kind,
  )
  if reference is not None:
    measures = wording.measures(comparison.protocol(network.model.scale))
    logging.info("protocol: %s", measures)
  settings = {"num_keys": num_keys, "tile": tile, "ensemble": self_ensemble}
  _restore(restorer, open_jobs, quality, level_range, film, settings)


def _tell_kept(count: int, jobs: list[Job], *, compared: bool) -> None:
  """Says how many results of earlier runs stay as they are."""
  if count:
    logging.info(
      "%d of %d are restored already and kept, by whatever network and k and"
      " from whatever image of that name%s; --overwrite restores them again",
      count,
      len(jobs),
      ", and not compared again" if compared else "",
    )


def _restore(
  restorer: TiledRestorer,
  jobs: list[Job],
  quality: int | None,
  level_range: LevelRange,
  film: EncoderOptions,
  settings: dict[str, Any],
) -> None:
  """Restores the images, then the films, whatever became of the images."""
  images = [job for job in jobs if not job.is_film]
  films = [job for job in jobs if job.is_film]
  failed = None
  if images:
    try:
      runner.restore_all(restorer, images, quality, level_range)
    except FileError as error:
      if not films:
        raise
      logging.error("%s", error)
      failed = error
  if films:
    film_runner.restore_all(restorer, films, film, settings)
  if failed is not None:
    raise failed


def _check_options(
  jobs: list[Job],
  output_format: str | None,
  quality: int | None,
  level_range: LevelRange,
  film: EncoderOptions,
) -> None:
  """Refuses options that what is restored has no use for.

  Raises:
    ValueError: names the option.
    FilmError: the only job is a film, and PyAV is missing.
  """
  images = [job for job in jobs if not job.is_film]
  if len(images) == len(jobs) and film:
    raise ValueError("codec, crf and preset are of films; leave them out")
  if not images:
    if quality is not None or output_format is not None or level_range:
      raise ValueError(
        "quality, format, black_level and white_level are of images; films have"
        " --codec, --crf and --preset, and the name of --output"
      )
    load_av()
  planning.check_quality(images, quality)
