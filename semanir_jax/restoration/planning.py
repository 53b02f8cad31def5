"""Finds which files `restore.py` reads and writes, before it computes."""

import fnmatch
import glob
import os
import pathlib
from typing import NamedTuple

from PIL import Image

from semanir_jax.data import folders, listing
from semanir_jax.films.library import SUFFIXES as FILMS
from semanir_jax.images import image_file, kinds
from semanir_jax.machine import files
from semanir_jax.restoration import pixel_formats

_LOSSY = ("JPEG", "WEBP")


class Job(NamedTuple):
  """What is read and written for one image or film.

  Attributes:
    name: of the source below the input folder, as "holiday/beach.jpg".
    source: the image to restore.
    result: where it goes.
    reference: the clean image, or None.
    comparison: where the picture of the comparison goes, or of films the table;
      or None.
  """

  name: str
  source: pathlib.Path
  result: pathlib.Path
  reference: pathlib.Path | None
  comparison: pathlib.Path | None

  @property
  def is_film(self) -> bool:
    """Says whether it is a film, by its name."""
    return _is_film(self.source)

  def is_done(self) -> bool:
    """Says whether everything was written: writes are atomic."""
    return self.result.is_file() and (
      self.comparison is None or self.comparison.is_file()
    )


def plan(
  source: str,
  output: str,
  *,
  reference: str | None = None,
  output_format: str | None = None,
) -> list[Job]:
  """Plans all files; refuses what is missing, would collide or overwrite.

  Args:
    source: image file or film, folder, or pattern with * ? [] or **
      (subfolders). Of a folder the subfolders are taken too; of neither what
      lies in `output` below it.
    output: folder, in which the folders of the source are repeated; for one
      file a file name too, of an image or of a film.
    reference: clean image, or folder of clean images of the same names.
    output_format: of images, of `pixel_formats.FORMATS`; None as
      `pixel_formats.result_suffix` says. Films keep their suffix.

  Returns:
    Jobs, sorted by name, at least one.

  Raises:
    ImageError: names what is wrong and the remedy.
  """
  options = {"input": source, "output": output, "reference": reference}
  for option, value in options.items():
    if value == "":
      raise image_file.ImageError(f"--{option} is empty; give a file or folder")
  target = files.as_path(output)
  root, sources = _find_sources(source, target)
  alone = sources[0] if root is None else None
  named = alone is not None and (
    _names_a_film(target) if _is_film(alone) else _names_a_file(target)
  )
  if named and output_format is not None:
    raise image_file.ImageError(
      f"{target}: names a format already; leave out --format, or give a folder"
    )
  names = [path.relative_to(root or path.parent) for path in sources]
  references = _find_references(names, reference, alone=root is None)
  jobs = []
  for path, name, clean in zip(sources, names, references, strict=True):
    suffix = pixel_formats.result_suffix(path.suffix)
    if output_format is not None:
      suffix = pixel_formats.FORMATS[output_format]
    if _is_film(path):
      suffix = path.suffix.lower()
    result = target if named else target / name.with_suffix(suffix)
    kind = "csv" if _is_film(path) else "png"
    picture = result.with_name(f"{result.stem}_comparison.{kind}")
    jobs.append(
      Job(name.as_posix(), path, result, clean, picture if clean else None)
    )
  _check_films(jobs)
  _check_collisions(jobs)
  if not named:
    _check_owners(jobs)
  if root is not None and not _lies_below(target, root):
    _check_next_run(jobs, source, root)
  _check_writable(jobs[0].result.parent if named else target)
  return jobs


def check_quality(jobs: list[Job], quality: int | None) -> None:
  """Refuses a quality that is none, or that a result has no use for."""
  if quality is None:
    return
  if not 1 <= quality <= 100:
    raise ValueError(f"quality={quality} must lie in [1, 100]")
  for job in jobs:
    if kinds.WRITTEN.get(job.result.suffix.lower()) not in _LOSSY:
      raise ValueError(
        f"quality={quality} is of JPEG and WebP, but {job.result} is neither;"
        " add --format=jpeg, or leave it out"
      )


def _find_sources(
  source: str, output: pathlib.Path
) -> tuple[pathlib.Path | None, list[pathlib.Path]]:
  """Finds the images, and the folder names are relative to (None for one)."""
  path = files.as_path(source)
  if path.is_dir():
    root = path
    found = listing.list_images(path, recursive=True, also=FILMS)
  elif path.exists():
    return None, [path]
  elif glob.has_magic(source):
    parts = path.parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root, found = type(path)(*parts[:fixed]), _find_matches(source)
  else:
    raise image_file.ImageError(
      f"{path}: no such file or folder; check --input"
    )
  if _lies_below(output, root):  # Results of an earlier run are no input.
    inside = output.resolve()
    found = [p for p in found if not p.resolve().is_relative_to(inside)]
  if not found:
    raise image_file.ImageError(f"{source}: holds no image outside of {output}")
  return root, found


def _find_matches(pattern: str) -> list[pathlib.Path]:
  """Finds the images that a pattern matches, sorted; `ImageError` for none."""
  found = sorted(p for p in files.find_matches(pattern) if p.is_file())
  if not found:
    raise image_file.ImageError(
      f"{pattern}: matches no file; check --input (patterns need quotes, and a"
      " [ that is meant as such is [[])"
    )
  return listing.select_images(found, pattern, also=FILMS)


def _is_film(path: pathlib.Path) -> bool:
  return path.suffix.lower() in FILMS


def _check_films(jobs: list[Job]) -> None:
  """Refuses films of a bucket, which their library cannot reach."""
  for job in jobs:
    for path in (job.source, job.result, job.reference):
      if _is_film(job.source) and path is not None and files.is_bucket(path):
        raise image_file.ImageError(
          f"{path}: films are read and written on a disk; copy it there, or"
          " give --output a folder there"
        )


def _lies_below(output: pathlib.Path, root: pathlib.Path) -> bool:
  """Says whether results have a folder below that of the inputs."""
  return root.resolve() in output.resolve().parents


def _names_a_file(output: pathlib.Path) -> bool:
  """Says whether one result goes to a file; `ImageError` if of no use."""
  suffix = output.suffix.lower()
  known = {*Image.registered_extensions(), *kinds.READ, *FILMS}
  if output.is_dir() or suffix not in known:
    return False
  if suffix not in kinds.WRITTEN:
    raise image_file.ImageError(
      f"{output}: {suffix} is not written; use one of"
      f" {' '.join(kinds.WRITTEN)}, or give a folder"
    )
  return True


def _names_a_film(output: pathlib.Path) -> bool:
  """Says whether the one result, a film, goes to a file."""
  suffix = output.suffix.lower()
  if not output.is_dir() and suffix in kinds.READ:
    raise image_file.ImageError(
      f"{output}: is no name of a film; use one of {' '.join(FILMS)}, or give"
      " a folder"
    )
  return suffix in FILMS and not output.is_dir()


def _find_references(
  names: list[pathlib.Path], reference: str | None, *, alone: bool
) -> list[pathlib.Path | None]:
  """Finds the clean image of every source; Nones without a `reference`."""
  if reference is None:
    return [None] * len(names)
  folder = files.as_path(reference)
  if not folder.exists():
    raise image_file.ImageError(f"{folder}: No such file; check --reference")
  if folder.is_dir():
    clean = folders.by_key(folder, recursive=True, also=FILMS)
    keys = [folders.partner_key(folders.key(name), clean) for name in names]
    missing = [
      name for name, key in zip(names, keys, strict=True) if key not in clean
    ]
    if missing:
      raise image_file.ImageError(
        f"{folder}: holds no clean image of the name of {missing[0]}"
        f" ({len(missing)} missing); add it, or leave out --reference"
      )
    return [clean[key] for key in keys]
  if not alone:
    raise image_file.ImageError(
      f"{folder}: must be a folder of clean images, since --input is no file"
    )
  return [folder]


def _check_collisions(jobs: list[Job]) -> None:
  """Refuses to write over an input, or two results to one place."""
  writers: dict[pathlib.Path, list[str]] = {}
  for job in jobs:
    for path in filter(None, (job.result, job.comparison)):
      writers.setdefault(path.resolve(), []).append(job.name)
  read = {p.resolve() for j in jobs for p in (j.source, j.reference) if p}
  for path in writers:
    if path in read:
      raise image_file.ImageError(
        f"{path}: an input would be overwritten; choose another --output"
      )
  shared = {path: names for path, names in writers.items() if len(names) > 1}
  if shared:
    path, names = min(shared.items())
    more = f" ({len(shared) - 1} more such)" if len(shared) > 1 else ""
    raise image_file.ImageError(
      f"{path}: two results would be written there, of {' and '.join(names)}"
      f"{more}; rename inputs, or give each kind a run and a folder of its own"
    )


def _check_owners(jobs: list[Job]) -> None:
  """Refuses to take a user's file beside its input for an earlier result."""
  for job in jobs:
    for path in filter(None, (job.result, job.comparison)):
      if path.exists() and path.parent.samefile(job.source.parent):
        raise image_file.ImageError(
          f"{path}: is there already, and perhaps no result; choose another"
          " --output" + (", or name this file there" if len(jobs) == 1 else "")
        )


def _check_next_run(jobs: list[Job], source: str, root: pathlib.Path) -> None:
  """Refuses results that the next run would take for inputs."""
  path, place = files.as_path(source), root.resolve()
  pattern = "*" if path.is_dir() else path.name
  for written in (p for j in jobs for p in (j.result, j.comparison) if p):
    if written.resolve().is_relative_to(place) and fnmatch.fnmatch(
      written.name, pattern
    ):
      raise image_file.ImageError(
        f"{written}: would be an input of the next run; choose another --output"
      )


def _check_writable(folder: pathlib.Path) -> None:
  """Refuses an output folder that cannot be, before anything is computed."""
  if files.is_bucket(folder):
    try:
      files.make_folder(folder)
    except OSError as error:
      raise image_file.ImageError(
        f"{folder}: cannot be written ({error.strerror})"
      ) from error
    return
  place = folder
  while not place.exists():
    place = place.parent
  if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
    raise image_file.ImageError(
      f"{folder}: cannot be written ({place} is no writable folder); choose"
      " another --output"
    )
