"""Which files of a folder are images."""

import collections
import os
import pathlib
from collections.abc import Iterable, Iterator

from absl import logging

from semanir_jax.data import pair_folders
from semanir_jax.images import image_file
from semanir_jax.machine import files
from semanir_jax.machine.files import FileError


def list_images(
  folder: str | os.PathLike[str],
  *,
  recursive: bool = False,
  also: tuple[str, ...] = (),
) -> list[pathlib.Path]:
  """Lists the image files of a folder, sorted by their relative path.

  Files are chosen by `image_file.SUFFIXES` and `also`, in any case; how many
  others there are is logged. Hidden ones, and those of hidden folders below it,
  are left out. Links to folders count as the folders.

  Raises:
    ImageError: the folder is missing or holds no image.
  """
  folder = files.as_path(folder)
  if not folder.is_dir():
    raise image_file.ImageError(f"{folder}: no such folder; check the path")
  there = [
    path
    for path in (_walk(folder) if recursive else folder.glob("*"))
    if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    # A link to nothing is an image that is missing, and named by who reads it.
    and (path.is_file() or (path.is_symlink() and not path.exists()))
  ]
  try:
    found = select_images(there, str(folder), also=also)
  except FileError as error:
    hint = "" if recursive else "; subfolders are searched if recursive"
    if not recursive and any(path.is_dir() for path in folder.iterdir()):
      hint += f"; {pair_folders.EXPECTED}"
    raise image_file.ImageError(f"{error}{hint}") from error
  return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def select_images(
  paths: Iterable[pathlib.Path], place: str, *, also: tuple[str, ...] = ()
) -> list[pathlib.Path]:
  """Returns those with a suffix of `image_file.SUFFIXES` or `also`; logs how
  many others.

  Raises:
    ImageError: there is none in `place`.
  """
  others: collections.Counter[str] = collections.Counter()
  found = []
  for path in paths:
    suffix = path.suffix.lower()
    if suffix in image_file.SUFFIXES or suffix in also:
      found.append(path)
    else:
      others[suffix or "without a suffix"] += 1
  kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
  kinds += ", ..." if len(others) > 5 else ""
  if not found:
    there = f" but files of other kinds ({kinds})" if others else ""
    raise image_file.ImageError(
      f"{place}: holds no image{there}; images are files of the kinds"
      f" {' '.join(image_file.SUFFIXES)}"
    )
  if others:
    logging.info("%s: not read, files of other kinds: %s", place, kinds)
  return found


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields all files below a folder, also below links that do not lead back."""

  def refuse(error: OSError) -> None:
    raise image_file.ImageError(
      f"{error.filename}: {error.strerror}; check its permissions"
    ) from error

  if files.is_bucket(folder):
    yield from files.find_files(folder)
    return
  for name, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
    here = pathlib.Path(name)
    above = [p for p in here.parents if p == folder or folder in p.parents]
    if here.resolve() in [p.resolve() for p in above]:
      folders.clear()
    else:
      yield from (here / file for file in names)
