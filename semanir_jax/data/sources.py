"""Where images come from: indexable sources for grain and for evaluation.

A source has a length and gives, by index, a record of uint8 arrays `[H, W, C]`:

  {"image": ..., "name": ...}                 clean images
  {"input": ..., "target": ..., "name": ...}  pairs: the sides of the target are
                                              those of the input times a scale

Sources can be pickled, as grain's worker processes need. Images of 16 bits are
refused: degradations and metrics are defined on 8 (protocols.md 1.5).
"""

import functools
import importlib.util
import pathlib
from typing import Any, Protocol

from semanir_jax.data.folders import ImageFolder, PairedFolder
from semanir_jax.data.pair_folders import find_pair
from semanir_jax.data.records import INDEX_NAME, ArrayRecordSource, TfdsSource
from semanir_jax.images.image_file import (
  AS_IN_FILE,
  ImageError,
  PixelOptions,
)
from semanir_jax.machine.files import Path, as_path, join

__all__ = [
  "ArrayRecordSource",
  "ImageFolder",
  "PairedFolder",
  "Source",
  "TfdsSource",
  "absent_folder",
  "locate",
  "open_photographs",
  "open_source",
]

# (module, file): colour photographs inside the wheels, which need no download.
# The two for tests were chosen for fine hair and fine architecture.
_PHOTOGRAPHS = {
  "train": (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/motorcycle_right.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
  ),
  "test": (
    ("skimage", "data/chelsea.png"),
    ("sklearn", "datasets/images/china.jpg"),
  ),
}
_PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


class Source(Protocol):
  """What the pipeline and the evaluation read from."""

  def __len__(self) -> int:
    """Returns the number of records."""
    ...

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Reads record `index`; raises `ImageError` if it cannot be read."""
    ...


def open_photographs(
  split: str, *, pixels: PixelOptions = AS_IN_FILE
) -> ImageFolder:
  """Opens the photographs inside the wheels of scikit-image and scikit-learn.

  Enough to try things out without a download, not to train a model with: the
  two packages are not imported, since that takes seconds.

  Args:
    split: "train" (6 images, two of them views of one scene) or "test" (2).
    pixels: which channels the records get.

  Raises:
    ImageError: a package is not installed, or without its images.
    ValueError: unknown split.
  """
  if split not in _PHOTOGRAPHS:
    raise ValueError(f"photographs:{split}: use one of {sorted(_PHOTOGRAPHS)}")
  paths = []
  for module, file in _PHOTOGRAPHS[split]:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
      raise ImageError(
        f"photographs:{split}: {file} is part of {_PACKAGES[module]}, which is "
        f"not installed; pip install {_PACKAGES[module]}"
      )
    paths.append(pathlib.Path(spec.submodule_search_locations[0]) / file)
  return ImageFolder(paths, pixels=pixels)


def open_source(
  spec: str,
  *,
  pixels: PixelOptions = AS_IN_FILE,
  on_bad_image: str = "fail",
  recursive: bool = False,
  data_dir: Path | None = None,
) -> Source:
  """Opens the source that a string of a config names.

  Args:
    spec: one of
      a folder of images, or one image file;
      a folder with the subfolders `input` and `target` (pairs), or of other
      names that mean these (`pair_folders`);
      "INPUT_FOLDER,TARGET_FOLDER" (pairs);
      a folder written by `semanir_jax.data.prepare`;
      "photographs:train", "photographs:test" (no download);
      "tfds:NAME:SPLIT", as "tfds:div2k/bicubic_x2:train".
    pixels: which channels the records get.
    on_bad_image: "fail" or "skip", for folders of images (`ImageFolder`).
    recursive: look into subfolders too, for folders of images.
    data_dir: where TFDS keeps its sets; None for its default.

  Raises:
    ImageError: nothing usable is there.
    ValueError: the string or an option is not understood.
  """
  if spec.startswith("photographs:"):
    return open_photographs(spec.removeprefix("photographs:"), pixels=pixels)
  if spec.startswith("tfds:"):
    name, _, split = spec.removeprefix("tfds:").partition(":")
    if not name or not split:
      raise ValueError(f'{spec!r} must be "tfds:NAME:SPLIT"')
    return TfdsSource(name, split=split, data_dir=data_dir, pixels=pixels)
  open_paired = functools.partial(
    PairedFolder,
    pixels=pixels,
    on_bad_image=on_bad_image,
    recursive=recursive,
  )
  if "," in spec and not as_path(spec).exists():
    input_folder, _, target_folder = spec.partition(",")
    return open_paired((input_folder, target_folder))
  folder = as_path(spec)
  if (folder / INDEX_NAME).exists() or any(folder.glob("*.array_record")):
    return ArrayRecordSource(folder, pixels=pixels)
  if pair := find_pair(folder):
    return open_paired(pair)
  return ImageFolder(
    folder, pixels=pixels, on_bad_image=on_bad_image, recursive=recursive
  )


def locate(source: str, data_dir: str) -> str:
  """Puts `data_dir` in front of the folders of a source, where they are
  relative; "photographs:" and "tfds:" sources stay as they are.
  """
  return ",".join(_parts(source, data_dir))


def absent_folder(source: str, data_dir: str) -> str | None:
  """Returns the folder, or file, of a source that is not there, or None."""
  if source.startswith(("photographs:", "tfds:")):
    return None
  folders = _parts(source, data_dir)
  return next((f for f in folders if not as_path(f).exists()), None)


def _parts(source: str, data_dir: str) -> list[str]:
  """Returns the folders of a source, two of pairs; or one that has none.

  A comma separates two folders, unless a folder is called so.
  """
  if source.startswith(("photographs:", "tfds:")):
    return [source]
  whole = join(data_dir, source)
  if whole.exists():
    return [str(whole)]
  return [str(join(data_dir, part)) for part in source.split(",")]
