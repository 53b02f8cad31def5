"""What becomes of files that cannot be used: named, counted, skipped on demand.

`on_bad_image` is "fail" (the default: one error names them all) or "skip".
"""

import pathlib
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, Protocol, TypeVar

from absl import logging

from semanir_jax.images import image_file
from semanir_jax.images.image_file import (
  ImageError,
  ImageInfo,
  PixelOptions,
)
from semanir_jax.machine.files import FileError

Item = TypeVar("Item")
_NUM_THREADS = 16  # reading a header costs latency, not CPU
_NUM_LISTED = 10


class Readable(Protocol):
  """A source of files, of which some may turn out bad."""

  bad_images: list[str]

  def __len__(self) -> int:
    """Returns the number of records."""
    ...

  def read(self, index: int) -> dict[str, Any]:
    """Reads record `index` or raises `ImageError`."""
    ...


def check_header(path: pathlib.Path, pixels: PixelOptions) -> ImageInfo:
  """Reads a header; raises `ImageError` for what no source can give."""
  info = image_file.probe_image(path)
  if info.bits != 8:
    # How to get from 16 to 8 bits (gamma, clipping) is the owner's choice.
    raise ImageError(
      f"{path}: has 16 bits per sample, training and evaluation are defined on "
      "8; convert it first"
    )
  if info.channels == 3 and pixels == PixelOptions(channels=1):
    raise ImageError(
      f'{path}: is a colour image but channels=1; choose gray="y" or '
      'gray="rgb2gray", or use channels=3'
    )
  return info


def select_good(
  items: Sequence[Item], check: Callable[[Item], Any], *, on_bad_image: str
) -> tuple[list[Item], list[str]]:
  """Checks items in parallel; returns the good ones and reasons for the rest.

  Raises:
    ImageError: bad items under "fail", or no good one.
    ValueError: `on_bad_image` is neither "fail" nor "skip".
  """
  if on_bad_image not in ("fail", "skip"):
    raise ValueError(f'{on_bad_image=} must be "fail" or "skip"')

  def reason(item: Item) -> str | None:
    try:
      check(item)
    except FileError as error:
      return str(error)
    return None

  with futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
    reasons = list(pool.map(reason, items))
  good = [item for item, why in zip(items, reasons, strict=True) if not why]
  bad = [why for why in reasons if why]
  if not bad:
    return good, bad
  lines = [f"{len(bad)} of {len(items)} images cannot be used:", *bad]
  if len(bad) > _NUM_LISTED:
    lines[_NUM_LISTED + 1 :] = [f"and {len(bad) - _NUM_LISTED} more"]
  if on_bad_image == "fail" or not good:
    remedy = "none is left"
    if good:
      remedy = (
        "replace or remove them, or leave them out (training, packing):"
        ' on_bad_image="skip"'
      )
    raise ImageError("\n  ".join([*lines, remedy]))
  logging.warning("Skipped: %s", "\n  ".join(lines))
  return good, bad


def with_way_out(error: FileError) -> FileError:
  """Returns the error of one image with how training and packing go on."""
  return type(error)(
    f'{error}; or leave it out (training, packing): on_bad_image="skip"'
  )


def read_or_stand_in(
  source: Readable, index: int, on_bad_image: str
) -> dict[str, Any]:
  """Reads a record, under "skip" the next one that can be read.

  The choice depends on the files alone, not on what was read before: processes
  and restarted runs agree.

  Raises:
    ImageError: the record is bad under "fail", or all are.
    IndexError: no such record; so `for record in source` ends.
  """
  if not 0 <= index < len(source):
    raise IndexError(f"record {index} of {len(source)}")
  for offset in range(len(source)):
    try:
      return source.read((index + offset) % len(source))
    except FileError as error:
      if on_bad_image == "fail":
        raise with_way_out(error) from error
      if str(error) not in source.bad_images:
        source.bad_images.append(str(error))
        logging.warning("The next image stands in for: %s", error)
  raise ImageError("no image can be read:\n  " + "\n  ".join(source.bad_images))
