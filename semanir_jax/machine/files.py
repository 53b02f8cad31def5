"""Files and objects of buckets: read whole, written whole, with errors that
name them. A path from outside becomes one by `as_path`.
"""

import contextlib
import glob
import hashlib
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any, cast

Path = str | os.PathLike[str]

SCHEMES = ("gs", "s3")  # of buckets
_PREFIXES = tuple(f"{scheme}://" for scheme in SCHEMES)


class FileError(ValueError):
  """Names a file that cannot be read or written, and the remedy."""


def is_bucket(path: Path) -> bool:
  """Says whether a path leads into a bucket, as `gs://BUCKET/folder` does."""
  return os.fspath(path).startswith(_PREFIXES)


def as_path(path: Path) -> pathlib.Path:
  """Returns the path of a file, or of an object of a bucket.

  Raises:
    FileError: the packages that buckets need are not there.
  """
  if not is_bucket(path):
    return pathlib.Path(path)
  return cast(pathlib.Path, _buckets().BucketPath(os.fspath(path)))


def _buckets() -> Any:
  """Imports `buckets`, which takes as long as all else that restoring needs."""
  try:
    from semanir_jax.machine import buckets
  except ImportError as error:
    raise FileError(
      f"buckets need other packages ({error}): pip install gcsfs"
    ) from error
  return buckets


def read_bytes(path: Path) -> bytes:
  """Reads a file; `FileError` names the one that cannot be read."""
  with os_errors_named(path):
    return as_path(path).read_bytes()


def write_bytes(path: Path, data: bytes) -> None:
  """Writes a file atomically: a reader sees the old one or all of the new."""
  path = as_path(path)
  try:
    if is_bucket(path):
      path.write_bytes(data)
    else:
      _write_aside(path, data)
  except OSError as error:
    remedy = (
      ""
      if is_bucket(path)
      else "; check that its folder exists, may be written and has space, or"
      " choose another output"
    )
    raise FileError(
      f"{path}: cannot be written ({error.strerror}){remedy}"
    ) from error


def _write_aside(path: pathlib.Path, data: bytes) -> None:
  """Writes a file under another name, then gives it its own."""
  partial = path.with_name(f".tmp-{uuid.uuid4().hex}")
  try:
    partial.write_bytes(data)
    os.replace(partial, path)
  except BaseException:
    with contextlib.suppress(OSError):
      partial.unlink()
    raise


def make_folder(folder: Path) -> None:
  """Makes a folder; in a bucket writes an object there and removes it.

  Raises:
    OSError: it cannot be made or written.
  """
  folder = as_path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  if is_bucket(folder):
    trial = folder / f".tmp-{uuid.uuid4().hex}"
    trial.write_bytes(b"")
    trial.unlink(missing_ok=True)


def join(folder: Path, name: str) -> pathlib.Path:
  """Returns a path that may be relative to a folder, or lead elsewhere."""
  elsewhere = is_bucket(name) or os.path.isabs(name)
  return as_path(name) if elsewhere else as_path(folder) / name


def find_matches(pattern: str) -> list[pathlib.Path]:
  """Finds what a pattern with * ? [] or ** (subfolders) matches."""
  if is_bucket(pattern):
    return _buckets().find_matches(pattern)
  return [pathlib.Path(name) for name in glob.glob(pattern, recursive=True)]


def find_files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields all files below a folder."""
  if is_bucket(folder):
    yield from cast(Any, folder).find_files()
    return
  for path in folder.iterdir():
    if path.is_dir():
      yield from find_files(path)
    else:
      yield path


def remove_folder(folder: pathlib.Path) -> None:
  """Removes a folder and all in it; `OSError` if that cannot be."""
  if is_bucket(folder):
    cast(Any, folder).rmtree()
  else:
    shutil.rmtree(folder)


def put(source: pathlib.Path, target: pathlib.Path) -> None:
  """Gives a finished file of this machine its place, at once and whole.

  Args:
    source: of the same file system as the target, unless that is in a bucket;
      it is not there any more then, or a copy that nobody needs.
    target: replaced if it is there.

  Raises:
    OSError: it cannot be written.
  """
  if is_bucket(target):
    cast(Any, target).upload(source)
  else:
    os.replace(source, target)


@contextlib.contextmanager
def local_copy(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a file to libraries that open files themselves.

  Raises:
    OSError: an object of a bucket cannot be read.
  """
  if not is_bucket(path):
    yield path
    return
  with tempfile.TemporaryDirectory(prefix="semanir_jax_") as folder:
    local = pathlib.Path(folder, path.name)
    local.write_bytes(path.read_bytes())
    yield local


@contextlib.contextmanager
def local_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives libraries that write files themselves a folder; what is in it at the
  end is in `folder` then.

  Raises:
    OSError: an object of a bucket cannot be written.
  """
  if not is_bucket(folder):
    yield folder
    return
  with tempfile.TemporaryDirectory(prefix="semanir_jax_") as name:
    yield pathlib.Path(name)
    for file in find_files(pathlib.Path(name)):
      put(file, folder / file.relative_to(name).as_posix())


def hash_file(path: Path) -> tuple[int, str]:
  """Returns the bytes and the SHA-256 of a file; it is not read at once."""
  path = as_path(path)
  # Of a bucket as many bytes as a request is worth.
  options: Any = {"block_size": 2**24} if is_bucket(path) else {}
  with path.open("rb", **options) as file:
    digest = hashlib.file_digest(file, "sha256")
    return file.tell(), digest.hexdigest()


@contextlib.contextmanager
def os_errors_named(path: Path) -> Iterator[None]:
  """Turns what the system says inside into a `FileError` that names a file."""
  try:
    yield
  except OSError as error:
    remedy = "" if is_bucket(path) else "; check the path and its permissions"
    raise FileError(f"{path}: {error.strerror}{remedy}") from error


def first_line(error: Exception) -> str:
  """Returns what an error of a library says, in one short line."""
  return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
