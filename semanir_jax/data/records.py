"""Sources that read record files at random: our ArrayRecord packs, and TFDS.

One record of a pack is a line of JSON, `{"name": ..., "image": 1234}` or with
`"input"` and `"target"`, that gives the number of bytes of each image file that
follows it. `prepare` writes packs; both sources give the records described in
`sources`.
"""

import contextlib
import functools
import importlib
import json
import pathlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from semanir_jax.data.pairing import cut_pair, image_size, pair_scale
from semanir_jax.images import image_file
from semanir_jax.images.image_file import (
  AS_IN_FILE,
  ImageError,
  PixelOptions,
)
from semanir_jax.machine.files import Path, as_path

INDEX_NAME = "pack.json"


def pack(name: str, files: Mapping[str, bytes]) -> bytes:
  """Packs image files (bytes by key: image, or input and target)."""
  sizes = {key: len(data) for key, data in files.items()}
  header = json.dumps({"name": name, **sizes})
  return b"\n".join([header.encode(), b"".join(files.values())])


def unpack(record: bytes) -> tuple[str, dict[str, bytes]]:
  """Inverts `pack`."""
  header, _, body = record.partition(b"\n")
  sizes = json.loads(header)
  name = sizes.pop("name")
  files, start = {}, 0
  for key, size in sizes.items():
    files[key] = body[start : start + size]
    start += size
  return name, files


class ArrayRecordSource:
  """Images or pairs packed by `semanir_jax.data.prepare`.

  Attributes:
    scale: target side / input side; 1 for single images.
    num_images: that the records were cut from; None in packs of before 2026-11.
  """

  def __init__(
    self, folder: Path, *, pixels: PixelOptions = AS_IN_FILE
  ) -> None:
    """Opens a finished pack.

    Args:
      folder: the `--output` of prepare.
      pixels: which channels the records get.

    Raises:
      ImageError: no pack, an unfinished one, a shard of the wrong size, or a
        damaged one, which may be found only when a record is read.
    """
    folder = as_path(folder)
    index = read_index(folder)
    if not index["finished"]:
      raise ImageError(
        f"{folder}: is not finished; run the same prepare command again"
      )
    for shard, facts in index["shards"].items():
      path = folder / shard
      if not path.is_file() or path.stat().st_size != facts["bytes"]:
        raise ImageError(
          f"{path}: missing or of the wrong size; copy the pack again and "
          "check it: sha256sum -c SHA256SUMS"
        )
    self.scale = index["scale"]
    self.num_images = index.get("images")
    self._folder = folder
    self._pixels = pixels
    array_record_data_source = array_record("array_record_data_source")
    with _damage_named(f"{folder}"):
      self._records = array_record_data_source.ArrayRecordDataSource(
        [str(folder / shard) for shard in index["shards"]]
      )

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    if not 0 <= index < len(self):
      raise IndexError(f"record {index} of {len(self)}")
    with _damage_named(f"{self._folder}, record {index}"):
      name, files = unpack(self._records[index])
    where = f"{self._folder}, record {index} ({name})"
    return {"name": name} | {
      key: image_file.decode_image(data, where, self._pixels)
      for key, data in files.items()
    }


def array_record(module: str) -> types.ModuleType:
  """Imports a module of array_record, which has no wheel for Windows.

  Raises:
    ImageError: it is not installed.
  """
  try:
    return importlib.import_module(f"array_record.python.{module}")
  except ImportError as error:
    raise ImageError(
      f"packs need the package array_record ({error}); use folders of images"
    ) from error


@contextlib.contextmanager
def _damage_named(what: str) -> Iterator[None]:
  """Turns what the record reader raises of damaged shards into one line."""
  try:
    yield
  except (RuntimeError, ValueError) as error:
    reason = " ".join(str(error).split())
    raise ImageError(
      f"{what}: a shard is damaged ({reason}); find it with sha256sum -c"
      " SHA256SUMS, and copy it again or remove it and run prepare again"
    ) from error


def read_index(folder: pathlib.Path) -> dict[str, Any]:
  """Reads the index that `prepare` wrote into the folder of a pack."""
  try:
    return json.loads((folder / INDEX_NAME).read_text())
  except (OSError, json.JSONDecodeError) as error:
    raise ImageError(
      f"{folder / INDEX_NAME}: cannot be read ({error}); make the pack with "
      "python -m semanir_jax.data.prepare"
    ) from error


class TfdsSource:
  """A prepared set of the TensorFlow Datasets catalogue, without TensorFlow.

  Features `lr` and `hr` (as in div2k) become input and target, `image` the
  image.
  """

  def __init__(
    self,
    name: str,
    *,
    split: str,
    data_dir: Path | None = None,
    pixels: PixelOptions = AS_IN_FILE,
  ) -> None:
    """Opens a set that was prepared in the array_record format.

    Args:
      name: with its configuration, as "div2k/bicubic_x2".
      split: a split or a part of one, as "train" or "train[:90%]".
      data_dir: where TFDS keeps its sets; None for its default.
      pixels: which channels the records get.

    Raises:
      ImageError: not prepared, in another format, or without images.
      ValueError: no such set or split in the catalogue.
    """
    try:
      import tensorflow_datasets as tfds
    except ImportError as error:
      raise ImageError(
        f"tfds:{name}:{split}: needs the package tensorflow-datasets ({error});"
        " pip install tensorflow-datasets"
      ) from error

    # Reopened in grain's workers: builders cannot be pickled in general.
    self._open = functools.partial(
      TfdsSource, name, split=split, data_dir=data_dir, pixels=pixels
    )
    self._name = f"tfds:{name}:{split}"
    self._pixels = pixels
    builder: Any = tfds.builder(name, data_dir=data_dir)
    try:
      self._records = builder.as_data_source(split=split)
    except (NotImplementedError, AssertionError) as error:
      raise ImageError(
        f"{self._name}: {_how_to_prepare(name, builder.data_path, data_dir)}"
      ) from error
    features = set(builder.info.features)
    if {"lr", "hr"} <= features:
      self._keys = {"input": "lr", "target": "hr"}
    elif "image" in features:
      self._keys = {"image": "image"}
    else:
      raise ImageError(
        f"{self._name}: has features {sorted(features)}; a set with `image`, or"
        " `lr` and `hr`, is needed"
      )

  def __reduce__(self) -> tuple[functools.partial["TfdsSource"], tuple[()]]:
    return self._open, ()

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    if not 0 <= index < len(self):
      raise IndexError(f"record {index} of {len(self)}")
    record, name = self._records[index], f"{self._name}[{index}]"
    arrays = {
      ours: self._convert(record[theirs], name)
      for ours, theirs in self._keys.items()
    }
    if "target" in arrays:
      arrays = _cut_to_scale(arrays, name)
    return {"name": name} | arrays

  def _convert(self, image: np.ndarray, name: str) -> np.ndarray:
    """Checks an image of the catalogue, and gives it the channels asked."""
    if (
      image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3)
    ):
      raise ImageError(
        f"{name}: is {image.dtype} {image.shape}; sets of gray or RGB images of"
        " 8 bits can be read"
      )
    return image_file.convert_channels(image, name, self._pixels)


def _cut_to_scale(
  pair: Mapping[str, np.ndarray], name: str
) -> dict[str, np.ndarray]:
  """Cuts off what only one image of a pair shows, as `PairedFolder` does."""
  lq, hq = pair["input"], pair["target"]
  scale = pair_scale(image_size(lq), image_size(hq))
  if not scale:
    raise ImageError(
      f"{name}: a target of {hq.shape[:2]} and an input of {lq.shape[:2]} are"
      " of no whole scale; crop both to the part that both show"
    )
  lq, hq = cut_pair(lq, hq, scale)
  return {"input": lq, "target": hq}


def _how_to_prepare(name: str, place: Path, data_dir: Path | None) -> str:
  where = "" if data_dir is None else f", data_dir='{data_dir}'"
  return (
    f"is not prepared for random access under {place}; run once: "
    'python -c "import tensorflow_datasets as tfds; '
    f"tfds.builder('{name}', file_format='array_record'{where})"
    '.download_and_prepare()" (most builders of the catalogue, div2k among '
    "them, need TensorFlow for this step only; or use a folder of the images)"
  )
