"""Restores image files with a trained network."""

import jax
from absl import logging

from semanir_jax.evaluation import wording
from semanir_jax.images.level_range import FULL_RANGE, LevelRange
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.networks.load import check_there, load_network
from semanir_jax.restoration import comparison, planning, runner


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
) -> None:
  """Restores an image file, or all images of a folder or pattern.

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
    level_range: which integers of the files are black and white.

  Raises:
    ImageError: a file cannot be read or written; of several, after the others
      were restored.
    CheckpointError: see `load_network`.
    ValueError: an option does not fit the network or the format.
  """
  jobs = planning.plan(
    source, output, reference=reference, output_format=output_format
  )
  planning.check_quality(jobs, quality)
  open_jobs = [job for job in jobs if overwrite or not job.is_done()]
  if len(open_jobs) < len(jobs):
    logging.info(
      "%d of %d are restored already and kept, by whatever network and k and"
      " from whatever image of that name%s; --overwrite restores them again",
      len(jobs) - len(open_jobs),
      len(jobs),
      "" if reference is None else ", and not compared again",
    )
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
  runner.restore_all(restorer, open_jobs, quality, level_range)
