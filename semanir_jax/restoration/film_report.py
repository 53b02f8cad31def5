"""Reads a restored film again, and measures it frame by frame."""

import csv
import io
import itertools
import math
import pathlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from absl import logging

from semanir_jax.evaluation import measures, metrics
from semanir_jax.films import planes, reading
from semanir_jax.films.flicker import FlickerMeter
from semanir_jax.films.library import FilmError
from semanir_jax.films.reading import Damage, Film, FilmFrame
from semanir_jax.machine import files
from semanir_jax.restoration import comparison
from semanir_jax.restoration.planning import Job

_COLUMNS: tuple[str, ...] = (
  *("frame", "seconds", "input_psnr", "psnr"),
  *("input_flicker", "flicker", "reference_flicker"),
)


class WrongResultError(FilmError):
  """Says how a result differs from its film; this is an error of ours."""


def check_reference(job: Job, film: Film, scale: int) -> Film | None:
  """Reads what a clean film is, before the work; None without one.

  Raises:
    FilmError: it has not the size of the result.
  """
  if job.reference is None:
    return None
  clean = reading.probe(job.reference)
  for found, side in ((clean.width, film.width), (clean.height, film.height)):
    if not 0 <= found - scale * side < scale:
      raise FilmError(
        f"{clean.path}: is {clean.width}x{clean.height}, the result"
        f" {scale * film.width}x{scale * film.height}; give the clean film of"
        f" {job.source.name}"
      )
  return clean


def report(job: Job, film: Film, clean: Film | None, scale: int) -> None:
  """Tells how well a result is; writes the comparison where there is one.

  The result is decoded again, so that figures are of what people see, and its
  frames and times are compared with the input's.

  Args:
    job: whose result is there.
    film: the input.
    clean: of `check_reference`.
    scale: of the network.

  Raises:
    WrongResultError: the result has not the frames and times of the input.
    FilmError: the clean film has fewer frames.
  """
  result = reading.probe(job.result)
  films = [film, result] + ([clean] if clean else [])
  frames = [
    reading.read_frames(each, Damage(each.path, quiet=True)) for each in films
  ]
  meter, rows = FlickerMeter(), []
  count, shift = 0, None
  for before, after, *rest in itertools.zip_longest(*frames):
    if before is None and after is None:
      break  # of the clean film there is more
    if before is None or after is None:
      raise WrongResultError(
        f"{job.result}: has {'more' if before is None else 'fewer'} frames than"
        f" {film.path}, from the one after {count}; this is an error of ours,"
        " please report it with the film"
      )
    shift = _check_time(job, film, before, result, after, shift)
    target = rest[0] if rest else None
    if clean and target is None:
      raise FilmError(
        f"{clean.path}: has {count} frames, fewer than {film.path}; give the"
        " clean film of the same frames"
      )
    count += 1
    row = _compare(film, before, result, after, clean, target, scale)
    rows.append(
      {"frame": count, "seconds": float(before.pts * film.time_base)}
      | row
      | _measure_flicker(meter, film, before, result, after, clean, target)
    )
  _tell_flicker(job, meter)
  if clean is not None:
    assert job.comparison is not None  # there is one where there is a reference
    _tell_psnr(job, rows)
    _write(job.comparison, rows)


def _check_time(
  job: Job,
  film: Film,
  before: FilmFrame,
  result: Film,
  after: FilmFrame,
  shift: Fraction | None,
) -> Fraction:
  """Makes sure that a frame is shown when it was.

  Args:
    shift: by which the first frame is later, seconds; None for that itself:
      containers without negative times let all streams begin later.

  Returns:
    The shift of the first frame.
  """
  wanted, found = before.pts * film.time_base, after.pts * result.time_base
  if shift is None:
    shift = found - wanted
    if abs(shift) > result.time_base:
      logging.info(
        "%s: all its streams begin %.3f s later: %s has no negative times",
        job.name,
        float(shift),
        job.result.suffix,
      )
  if abs(wanted + shift - found) > result.time_base:
    raise WrongResultError(
      f"{job.result}: shows the frame of {float(wanted):.3f} s at"
      f" {float(found):.3f} s; this is an error of ours, please report it with"
      " the film"
    )
  return shift


def _compare(
  film: Film,
  before: FilmFrame,
  result: Film,
  after: FilmFrame,
  clean: Film | None,
  target: FilmFrame | None,
  scale: int,
) -> dict[str, float]:
  """Returns the PSNR of a frame and of its input; empty without a clean one."""
  if clean is None or target is None:
    return {}
  height, width = result.height, result.width
  truth = _to_uint8(clean, target)[:height, :width]
  lq = planes.to_unit(before.image, film.layout, film.colours)
  unrestored = measures.as_output(np.clip(lq, 0, 1), scale)
  protocol = comparison.protocol(scale)
  options = {key: protocol[key] for key in ("channel", "crop_px")}
  shape = (height, width, max(truth.shape[2], unrestored.shape[2]))
  truth = np.broadcast_to(truth, shape)
  return {
    name: metrics.psnr(np.broadcast_to(image, shape), truth, **options)
    for name, image in (
      ("input_psnr", unrestored),
      ("psnr", _to_uint8(result, after)),
    )
  }


def _to_uint8(film: Film, frame: FilmFrame) -> np.ndarray:
  """Returns a frame as 8-bit RGB or gray, `[H, W, C]`."""
  return metrics.to_uint8(
    planes.to_unit(frame.image, film.layout, film.colours)
  )


def _measure_flicker(
  meter: FlickerMeter,
  film: Film,
  before: FilmFrame,
  result: Film,
  after: FilmFrame,
  clean: Film | None,
  target: FilmFrame | None,
) -> dict[str, float]:
  """Takes a frame of all films; returns their flicker since the last."""
  versions = {
    "input_flicker": _luma(film, before),
    "flicker": _luma(result, after),
  }
  judge = versions["input_flicker"]
  if clean is not None and target is not None:
    luma = _luma(clean, target)[: result.height, : result.width]
    versions["reference_flicker"] = luma
    judge = luma if luma.shape == judge.shape else judge
  return meter.add(judge, **versions)


def _luma(film: Film, frame: FilmFrame) -> np.ndarray:
  return planes.luma_255(frame.image, film.layout, film.colours)


def _tell_flicker(job: Job, meter: FlickerMeter) -> None:
  """Says how much the result flickers, next to the input."""
  flicker = meter.flicker()
  if not flicker:
    logging.info("%s: flicker not measured: nothing stands still", job.name)
    return
  clean = flicker.get("reference_flicker")
  logging.info(
    "%s: flicker %.2f levels of 255 (input %.2f%s) where nothing moves, %.0f %%"
    " of the blocks",
    job.name,
    flicker["flicker"],
    flicker["input_flicker"],
    "" if clean is None else f", reference {clean:.2f}",
    100 * meter.share,
  )


def _tell_psnr(job: Job, rows: list[dict[str, Any]]) -> None:
  """Says the mean over the frames."""
  means = {
    name: sum(row[name] for row in rows) / len(rows)
    for name in ("psnr", "input_psnr")
  }
  worst = min(rows, key=lambda row: row["psnr"])
  logging.info(
    "%s: PSNR %.2f dB (input %.2f), mean of %d frames; the least %.2f at"
    " %.3f s",
    job.name,
    means["psnr"],
    means["input_psnr"],
    len(rows),
    worst["psnr"],
    worst["seconds"],
  )


def _write(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
  """Writes a row for every frame as a CSV file."""
  text = io.StringIO()
  writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
  writer.writeheader()
  writer.writerows(_rounded(rows))
  files.write_bytes(path, text.getvalue().encode())
  logging.info("frame by frame: %s", path)


def _rounded(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
  """Writes figures with four places, and infinity as "inf"."""
  for row in rows:
    yield {
      name: value
      if isinstance(value, int)
      else ("inf" if math.isinf(value) else f"{value:.4f}")
      for name, value in row.items()
    }
