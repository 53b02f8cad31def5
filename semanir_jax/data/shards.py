"""Writes one ArrayRecord file of a pack: complete, or not at all."""

import collections
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import tqdm
from absl import logging

from semanir_jax.data.bad_images import with_way_out
from semanir_jax.data.records import array_record
from semanir_jax.data.sub_images import Cutter, Files
from semanir_jax.images.image_file import ImageError
from semanir_jax.machine import files
from semanir_jax.machine.files import FileError


def is_done(path: pathlib.Path, facts: dict[str, Any] | None) -> bool:
  """Says whether a shard is there and is what the index says (its hash)."""
  return (
    facts is not None
    and path.exists()
    and files.hash_file(path)[1] == facts["sha256"]
  )


def write_shard(
  path: pathlib.Path,
  items: Sequence[Files],
  cutter: Cutter,
  on_bad_image: str,
  bar: tqdm.tqdm,
) -> dict[str, Any]:
  """Writes one shard atomically.

  Args:
    path: of the shard.
    items: files of its images or pairs, in order.
    cutter: makes records of them.
    on_bad_image: "fail" or "skip", for images that cannot be decoded.
    bar: told of every image.

  Returns:
    Its entry of the index: sha256, bytes, number of records, bad images.

  Raises:
    ImageError: a bad image under "fail", or no way to write.
  """
  # array_record writes files alone: for a bucket into a folder of this machine.
  folder = tempfile.gettempdir() if files.is_bucket(path) else path.parent
  partial = pathlib.Path(folder, f".tmp-{uuid.uuid4().hex}")
  num_records, bad_images = 0, []
  try:
    writer = array_record("array_record_module").ArrayRecordWriter(
      str(partial),
      "group_size:1,uncompressed",  # image files do not shrink
    )
    for result in _in_order(cutter, items):
      bar.update()
      if isinstance(result, FileError):
        if on_bad_image == "fail":
          raise with_way_out(result)
        logging.warning("Skipped: %s", result)
        bad_images.append(str(result))
        continue
      for record in result:
        writer.write(record)
      num_records += len(result)
    writer.close()
    num_bytes, digest = files.hash_file(partial)
    files.put(partial, path)
  except (OSError, RuntimeError) as error:  # array_record raises RuntimeError
    raise ImageError(
      f"{path}: cannot be written ({error}); free space or choose another "
      "output, then run the same command again"
    ) from error
  finally:
    partial.unlink(missing_ok=True)
  return {
    "sha256": digest,
    "bytes": num_bytes,
    "records": num_records,
    "bad_images": bad_images,
  }


def _in_order(
  cutter: Cutter, items: Sequence[Files]
) -> Iterator[list[bytes] | FileError]:
  """Makes records in threads (codecs release the GIL), a few images ahead."""

  def work(item: Files) -> list[bytes] | FileError:
    try:
      return cutter.records(item)
    except FileError as error:
      return error

  num_threads = os.cpu_count() or 1
  with futures.ThreadPoolExecutor(num_threads) as pool:
    pending: collections.deque[futures.Future] = collections.deque()
    for item in items:
      pending.append(pool.submit(work, item))
      if len(pending) > 2 * num_threads:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
