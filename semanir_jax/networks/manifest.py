"""What a checkpoint knows of its own bytes: size and hash of every file.

The list is written into a step before that is final: a step that was saved has
it, one that was interrupted is none. Steps of before it had none; they are read
as they are.
"""

import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orbax.checkpoint as ocp

from semanir_jax.machine import files

NAME = "manifest.json"  # inside a step

# Not listed: orbax writes some of these when it makes a step final, after the
# list, and reads nothing of a network from them.
_UNLISTED = ("_CHECKPOINT_METADATA", "commit_success.txt")
_THREADS = 8  # files read at a time


class ManifestError(ValueError):
  """Names a file of a checkpoint that is not as it was saved."""


class _Described:
  """Writes the list where orbax makes a step final; its items are no steps."""

  async def finalize(self: Any) -> None:
    """Writes the list, then makes it final."""
    if self.get_final().name.isdigit():
      write_manifest(self.get())
    await super().finalize()  # pyright: ignore  # of the class beside it


class _Renamed(_Described, ocp.path.atomicity.AtomicRenameTemporaryPath):
  """Makes a folder final by its name: on a disk."""


class _Committed(_Described, ocp.path.atomicity.CommitFileTemporaryPath):
  """Makes a folder final by its last object: in a bucket."""


def final_paths(
  folder: files.Path,
) -> type[ocp.path.atomicity_types.TemporaryPath]:
  """Returns how orbax makes the steps in a folder final."""
  return _Committed if files.is_bucket(folder) else _Renamed


def write_manifest(step: files.Path) -> None:
  """Writes the list of the files of a step that is not final yet."""
  step = files.as_path(step)
  paths = [p for p in files.find_files(step) if p.name not in _UNLISTED]
  with ThreadPoolExecutor(_THREADS) as threads:
    hashes = list(threads.map(files.hash_file, paths))
  listed = {
    path.relative_to(step).as_posix(): {"bytes": size, "sha256": digest}
    for path, (size, digest) in zip(paths, hashes, strict=True)
  }
  text = json.dumps(listed, indent=1, sort_keys=True)
  files.write_bytes(step / NAME, text.encode())


def check_manifest(step: files.Path, items: Collection[str]) -> None:
  """Compares files with the list, if there is one.

  Args:
    step: folder of a step.
    items: folders in it; nothing else is read.

  Raises:
    ManifestError: a file is missing or not as it was saved, or the list
      itself is damaged.
    OSError: a file cannot be read.
  """
  step = files.as_path(step)
  path = step / NAME
  if not path.exists():
    return
  try:
    listed = {
      name: (facts["bytes"], facts["sha256"])
      for name, facts in json.loads(path.read_bytes()).items()
    }
  except (ValueError, AttributeError, KeyError, TypeError) as error:
    raise ManifestError(f"{NAME} is damaged") from error
  wanted = [name for name in listed if name.split("/")[0] in items]

  def check(name: str) -> None:
    try:
      size, digest = files.hash_file(step / name)
    except FileNotFoundError as error:
      raise ManifestError(f"{name} is missing") from error
    if size != listed[name][0]:
      raise ManifestError(
        f"{name} has {size} bytes, it was saved with {listed[name][0]}"
      )
    if digest != listed[name][1]:
      raise ManifestError(f"the bytes of {name} are not those that were saved")

  with ThreadPoolExecutor(_THREADS) as threads:
    list(threads.map(check, wanted))
