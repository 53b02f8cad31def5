"""Buckets: `gs://BUCKET/...` as paths, through etils and fsspec.

A bucket holds objects and no folders: a folder is there while something is
below it. Objects are written whole: a reader sees the old one or all of the
new, so nothing is written aside and renamed. What cannot be reached is tried
again for half a minute, by gcsfs, and is an `OSError` then; it never counts as
not there.
"""

import contextlib
import dataclasses
import errno
import fnmatch
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import fsspec
from etils.epath import gpath

# Where TensorFlow is installed etils would go through it.
os.environ.setdefault("EPATH_USE_TF", "false")
# Or gcsfs would ask for the kind of bucket before everything that it does.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

_PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}


@dataclasses.dataclass(frozen=True)
class Status:
  """Is of an object what `os.stat_result` is of a file."""

  st_size: int
  st_mtime_ns: int


class BucketPath(gpath.PosixGPath):
  """Does for an object what `pathlib.Path` does for a file, as far as this
  project asks for it; every error names the object.
  """

  _kind: str | None = None  # "file" or "directory", where a listing told

  def exists(self) -> bool:
    """Says whether an object is there, or one below it."""
    return self._find_kind() is not None

  def is_dir(self) -> bool:
    """Says whether there are objects below it."""
    return self._find_kind() == "directory"

  def is_file(self) -> bool:
    """Says whether it is an object."""
    return self._find_kind() == "file"

  def is_symlink(self) -> bool:
    """Returns False: buckets have no links."""
    return False

  def absolute(self) -> "BucketPath":
    """Returns itself."""
    return self

  def resolve(self, strict: bool = False) -> "BucketPath":
    """Returns itself."""
    return self

  def samefile(self, other: Any) -> bool:
    """Says whether it is the same path."""
    return os.fspath(self) == os.fspath(other)

  def stat(self) -> Status:  # pyright: ignore  # less than etils tells
    """Returns size and time of the last change."""
    with _told(self) as system:
      facts = system.info(os.fspath(self))
    changed = facts.get("mtime") or facts.get("LastModified")
    seconds = changed.timestamp() if changed else 0
    return Status(int(facts["size"]), int(seconds * 1e9))

  def iterdir(self) -> Iterator["BucketPath"]:  # pyright: ignore
    """Yields what is in it."""
    with _told(self) as system:
      found = system.ls(os.fspath(self), detail=True)
    for facts in found:
      name = facts["name"].rstrip("/").rsplit("/", 1)[-1]
      child = self / name
      if name and len(child.parts) == facts["name"].rstrip("/").count("/") + 3:
        child._kind = facts["type"]
        yield child

  def glob(self, pattern: str) -> Iterator["BucketPath"]:  # pyright: ignore
    """Yields what is in it and matches; a pattern has no folders."""
    return (p for p in self.iterdir() if fnmatch.fnmatch(p.name, pattern))

  def find_files(self) -> Iterator["BucketPath"]:
    """Yields all objects below it, from one listing."""
    with _told(self) as system:
      found = system.find(os.fspath(self))
    scheme = self.parts[1]
    for name in found:
      child = type(self)(f"{scheme}://{name}")
      child._kind = "file"
      yield child

  def mkdir(self, *args: Any, **kwargs: Any) -> None:
    """Does nothing: folders need not be made."""

  @contextlib.contextmanager
  def open(self, mode: str = "r", *, block_size: int = 2**18) -> Any:  # pyright: ignore
    """Opens an object to read it in parts of `block_size` bytes."""
    assert mode == "rb", "objects are written whole, by write_bytes"
    with _told(self) as system:
      with system.open(os.fspath(self), mode, block_size=block_size) as file:
        yield file

  def read_bytes(self) -> bytes:
    """Reads an object."""
    with _told(self) as system:
      return system.cat_file(os.fspath(self))

  def read_text(self, encoding: str | None = None) -> str:
    """Reads an object of text."""
    return self.read_bytes().decode(encoding or "utf-8")

  def write_bytes(self, data: bytes) -> int:
    """Writes an object: whole, or not at all."""
    with _writing(self) as system:
      system.pipe_file(os.fspath(self), data)
    return len(data)

  def upload(self, file: pathlib.Path) -> None:
    """Copies a file of this machine there."""
    with _writing(self) as system:
      system.put_file(os.fspath(file), os.fspath(self))

  def unlink(self, missing_ok: bool = False) -> None:
    """Removes an object."""
    try:
      with _told(self) as system:
        system.rm_file(os.fspath(self))
    except FileNotFoundError:
      if not missing_ok:
        raise

  def rmtree(self, missing_ok: bool = False) -> None:
    """Removes all objects below it."""
    if missing_ok and not self.exists():
      return
    with _told(self) as system:
      system.rm(os.fspath(self), recursive=True)

  def replace(self, target: Any) -> "BucketPath":  # pyright: ignore
    """Copies an object, or all below, to another place and removes it here."""
    with _told(self) as system:
      folder = self.is_dir()
      system.copy(os.fspath(self), os.fspath(target), recursive=folder)
      system.rm(os.fspath(self), recursive=folder)
    return type(self)(target)

  def _find_kind(self) -> str | None:
    if self._kind is not None:
      return self._kind
    try:
      with _told(self) as system:
        return system.info(os.fspath(self))["type"]
    except FileNotFoundError:
      return None


def find_matches(pattern: str) -> list[BucketPath]:
  """Finds the objects that a pattern with * ? [] or ** matches."""
  with _told(BucketPath(pattern)) as system:
    found = system.glob(pattern)
  scheme = pattern.partition("://")[0]
  return [BucketPath(f"{scheme}://{name}") for name in found]


@contextlib.contextmanager
def _told(path: BucketPath) -> Iterator[Any]:
  """Gives the file system of a path; what it raises inside becomes an `OSError`
  whose `strerror` says what is wrong and what to do.
  """
  scheme = path.parts[1]
  try:
    # Others write there too, this process among them, past this object.
    yield fsspec.filesystem(scheme, use_listings_cache=False)
  except FileNotFoundError as error:
    reason = "there is no such object, or no such bucket"
    raise FileNotFoundError(errno.ENOENT, reason, str(path)) from error
  except ValueError:
    raise  # of who reads what is inside
  except Exception as error:
    raise OSError(errno.EIO, _reason(error, scheme), str(path)) from error


@contextlib.contextmanager
def _writing(path: BucketPath) -> Iterator[Any]:
  """Does `_told` where an object need not be there, but its bucket."""
  try:
    with _told(path) as system:
      yield system
  except FileNotFoundError as error:
    bucket = "/".join(path.parts[2:3])
    reason = (
      f"there is no bucket {path.parts[1]}://{bucket}; make it, or check its"
      " name"
    )
    raise FileNotFoundError(errno.ENOENT, reason, str(path)) from error


def _reason(error: Exception, scheme: str) -> str:
  """Says what a storage library means."""
  if isinstance(error, ImportError):
    return f"{scheme}:// needs another package: pip install {_PACKAGES[scheme]}"
  text = " ".join(str(error).split())[:200] or type(error).__name__
  code = str(getattr(error, "code", ""))
  if (
    code in ("401", "403")
    or text.startswith("Forbidden")
    or type(error).__module__.startswith("google.auth")
  ):
    return (
      f"access is refused: {text}; log in with `gcloud auth"
      " application-default login`, or let the service account of this machine"
      " read and write the bucket"
    )
  return (
    f"cannot be reached: {text}; check the network, then start the same command"
    " again"
  )
