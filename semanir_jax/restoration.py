"""Restores image files with a trained network."""

import pathlib
import time

import numpy as np
from absl import logging

from semanir_jax import evaluation, reports, test_sets
from semanir_jax.checkpoint import load_for_inference
from semanir_jax.data import images
from semanir_jax.inference import Restorer

# How a comparison with the clean image is measured and captioned.
_PROTOCOL = {"channel": "rgb", "crop_px": 0, "ssim": "valid", "psnr_b": False}


def restore_files(
  checkpoint_path: str,
  source: str,
  output: str,
  *,
  num_keys: int | None = None,
  reference: str | None = None,
) -> None:
  """Restores an image file or all images of a folder.

  A file that cannot be restored is reported and the others go on.

  Args:
    checkpoint_path: see `load_for_inference`.
    source: image file or folder.
    output: folder, created if needed; results are PNG files of the same names
      and bit depth. For one file it may be a file name too.
    num_keys: k; None for the checkpoint's.
    reference: clean image, or folder of clean images of the same names; a
      comparison is written beside each result then, its PSNR in the caption.

  Raises:
    ImageError: a file cannot be read or written; of a folder, after the others
      were restored.
    CheckpointError: see `load_for_inference`.
  """
  jobs = _jobs(pathlib.Path(source), pathlib.Path(output))
  model, params, _ = load_for_inference(checkpoint_path)
  restorer = Restorer(model, params)
  failures = []
  start = time.monotonic()
  for done, (path, result_path) in enumerate(jobs, 1):
    try:
      _restore_file(restorer, path, result_path, num_keys, reference)
    except images.ImageError as error:
      if len(jobs) == 1:
        raise
      logging.error("%s", error)
      failures.append(path.name)
      continue
    rate = done / (time.monotonic() - start)
    logging.info(
      "%d of %d, %s, %.2f images/s, %.0f s left",
      done,
      len(jobs),
      result_path,
      rate,
      (len(jobs) - done) / rate,
    )
  if failures:
    raise images.ImageError(
      f"{len(failures)} of {len(jobs)} images were not restored:"
      f" {', '.join(failures)}; the messages above say why"
    )


def _jobs(
  source: pathlib.Path, output: pathlib.Path
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """(input, output) paths; refuses outputs that would collide or overwrite."""
  if source.is_dir():
    files = images.list_images(source)
    jobs = [(path, output / f"{path.stem}.png") for path in files]
  elif output.suffix.lower() in images.SUFFIXES:
    jobs = [(source, output)]
  else:
    jobs = [(source, output / f"{source.stem}.png")]
  results = [result for _, result in jobs]
  for path, result in jobs:
    if result.absolute() == path.absolute():
      raise images.ImageError(
        f"{result}: would overwrite the input; choose another --output"
      )
    if results.count(result) > 1:
      raise images.ImageError(
        f"{result}: two inputs would be written there; rename one of them"
      )
  folder = results[0].parent
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise images.ImageError(
      f"{folder}: cannot be created ({error.strerror}); choose another --output"
    ) from error
  return jobs


def _restore_file(
  restorer: Restorer,
  path: pathlib.Path,
  result_path: pathlib.Path,
  num_keys: int | None,
  reference: str | None,
) -> None:
  """Restores one file; writes the comparison where there is a reference."""
  model = restorer.model
  image = images.read_image(path, channels=model.in_channels)
  peak = np.iinfo(image.dtype).max
  lq = image.astype(np.float32) / np.float32(peak)
  restored = restorer(lq[None], num_keys=num_keys)[0]
  if not np.isfinite(restored).all():
    raise images.ImageError(
      f"{path}: the network returned NaN or infinity; the checkpoint is broken"
    )
  levels = np.rint(np.clip(restored, 0.0, 1.0) * peak).astype(image.dtype)
  images.write_image(result_path, levels)
  if reference is None:
    return
  clean = pathlib.Path(reference)
  if clean.is_dir():
    clean = _same_name(clean, path)
  target = images.read_image(clean, channels=model.out_channels)
  example = test_sets.Example(path.stem, lq, _unit(target))
  result = evaluation.measured(example, restored, _PROTOCOL)
  row = result.row
  logging.info(
    "%s: PSNR %.2f dB (input %.2f), SSIM %.4f (%.4f); all channels, 8 bits",
    path.name,
    row["psnr"],
    row["input_psnr"],
    row["ssim"],
    row["input_ssim"],
  )
  picture = result_path.with_name(f"{result_path.stem}_comparison.png")
  images.write_image(picture, reports.comparison(result))
  logging.info("before / after / truth: %s", picture)


def _same_name(folder: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """The image of a folder with the stem of `path`."""
  for candidate in images.list_images(folder):
    if candidate.stem == path.stem:
      return candidate
  raise images.ImageError(f"{folder}: holds no reference for {path.name}")


def _unit(image: np.ndarray) -> np.ndarray:
  """Integer image to float32 in [0, 1], by its bit depth."""
  return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
