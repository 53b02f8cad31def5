"""Restores image files with a trained network."""

import collections
import os
import pathlib
import time
from typing import NamedTuple

import numpy as np
from absl import logging

from semanir_jax import evaluation, reports, test_sets
from semanir_jax.checkpoint import load_for_inference
from semanir_jax.data import image_codecs, images
from semanir_jax.inference import Restorer

# How a comparison with the clean image is measured and captioned.
_PROTOCOL = {
  "channel": "rgb",
  "crop_px": 0,
  "ssim": "valid",
  "psnr_b": False,
  "also": (),
}


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
    ValueError: `num_keys` does not fit the network.
  """
  jobs = _jobs(pathlib.Path(source), pathlib.Path(output), reference)
  model, params, _ = load_for_inference(checkpoint_path)
  restorer = Restorer(model, params)
  num_keys = restorer.checked_num_keys(num_keys)
  failures = []
  start = time.monotonic()
  for done, job in enumerate(jobs, 1):
    try:
      _restore_file(restorer, job, num_keys)
    except images.ImageError as error:
      if len(jobs) == 1:
        raise
      logging.error("%s", error)
      failures.append(job.source.name)
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


class _Job(NamedTuple):
  """What is read and written for one image."""

  source: pathlib.Path
  result: pathlib.Path
  reference: pathlib.Path | None
  comparison: pathlib.Path | None


def _jobs(
  source: pathlib.Path, output: pathlib.Path, reference: str | None
) -> list[_Job]:
  """Plans all files; refuses what is missing, would collide or overwrite."""
  if source.is_dir():
    sources = images.list_images(source)
  elif source.exists():
    sources = [source]
  else:
    raise images.ImageError(f"{source}: no such file or folder; check --input")
  named = not source.is_dir() and output.suffix.lower() in images.SUFFIXES
  references = _references(sources, reference)
  jobs = []
  for path, clean in zip(sources, references, strict=True):
    result = output if named else output / f"{path.stem}.png"
    picture = result.with_name(f"{result.stem}_comparison.png")
    jobs.append(_Job(path, result, clean, picture if clean else None))
  written = [p.resolve() for j in jobs for p in (j.result, j.comparison) if p]
  counts = collections.Counter(written)
  read = {p.resolve() for j in jobs for p in (j.source, j.reference) if p}
  for path in written:
    if path in read:
      raise images.ImageError(
        f"{path}: an input would be overwritten; choose another --output"
      )
    if counts[path] > 1:
      raise images.ImageError(
        f"{path}: two results would be written there; rename an input"
      )
  _check_writable(jobs[0].result.parent)
  return jobs


def _references(
  sources: list[pathlib.Path], reference: str | None
) -> list[pathlib.Path | None]:
  """The clean image of every source; Nones without a `reference`."""
  if reference is None:
    return [None] * len(sources)
  folder = pathlib.Path(reference)
  if folder.is_dir():
    by_stem = {path.stem: path for path in images.list_images(folder)}
    missing = [path.name for path in sources if path.stem not in by_stem]
    if missing:
      raise images.ImageError(
        f"{folder}: holds no clean image of the name of {missing[0]}"
        f" ({len(missing)} missing); add it, or leave out --reference"
      )
    return [by_stem[path.stem] for path in sources]
  if len(sources) > 1:
    raise images.ImageError(
      f"{folder}: must be a folder of clean images, since --input is a folder"
    )
  return [folder]


def _check_writable(folder: pathlib.Path) -> None:
  """Refuses an output folder that cannot be, before anything is computed."""
  place = folder
  while not place.exists():
    place = place.parent
  if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
    raise images.ImageError(
      f"{folder}: cannot be written ({place} is no writable folder); choose"
      " another --output"
    )


def _restore_file(restorer: Restorer, job: _Job, num_keys: int) -> None:
  """Restores one file; writes the comparison where there is a reference."""
  model = restorer.model
  image = _read(job.source, model.in_channels)
  target = None
  if job.reference is not None:
    target = _read(job.reference, model.out_channels)
    sides = tuple(side * model.scale for side in image.shape[:2])
    if target.shape[:2] != sides:
      raise images.ImageError(
        f"{job.reference}: is {target.shape[0]}x{target.shape[1]}, the result"
        f" {sides[0]}x{sides[1]}; give the clean image of {job.source.name}"
      )
  peak = np.iinfo(image.dtype).max
  lq = _unit(image)
  restored = restorer(lq[None], num_keys=num_keys)[0]
  if not np.isfinite(restored).all():
    raise images.ImageError(
      f"{job.source}: the network returned NaN or infinity; use another"
      " checkpoint"
    )
  levels = np.rint(np.clip(restored, 0.0, 1.0) * peak).astype(image.dtype)
  result = None
  if target is not None:
    example = test_sets.Example(job.source.stem, lq, _unit(target))
    result = _measured(example, restored)
  _write(job.result, levels)
  if result is not None:
    _write(job.comparison, reports.comparison(result))
    logging.info("before / after / truth: %s", job.comparison)


def _measured(
  example: test_sets.Example, restored: np.ndarray
) -> evaluation.Result:
  """Compares a result with its reference, and says how well they agree."""
  try:
    result = evaluation.measured(example, restored, _PROTOCOL)
  except ValueError as error:
    raise images.ImageError(
      f"{example.name}: cannot be compared ({error}); leave out --reference"
    ) from error
  row = result.row
  logging.info(
    "%s: PSNR %.2f dB (input %.2f), SSIM %.4f (%.4f); all channels, 8 bits",
    example.name,
    row["psnr"],
    row["input_psnr"],
    row["ssim"],
    row["input_ssim"],
  )
  return result


def _read(path: pathlib.Path, channels: int) -> np.ndarray:
  """Reads an image with the network's channels; gray is repeated to RGB."""
  image = images.read_image(path)
  if image.shape[2] > channels:
    raise images.ImageError(
      f"{path}: is a colour image, but the network is of gray images; convert"
      " it to gray first, or use the checkpoint of a colour network"
    )
  return images.with_channels(image, str(path), channels=channels)


def _write(path: pathlib.Path, image: np.ndarray) -> None:
  """Writes an image; its folder is only made for one that can be encoded."""
  data = image_codecs.encode(image, path.suffix.lower(), str(path))
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise images.ImageError(
      f"{path.parent}: cannot be created ({error.strerror}); choose another"
      " --output"
    ) from error
  images.write_bytes(path, data)


def _unit(image: np.ndarray) -> np.ndarray:
  """Integer image to float32 in [0, 1], by its bit depth."""
  return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
