"""Sources that read image files from folders (see `sources` for the contract).

Headers are read when a source is made, so that wrong files are named before
training starts, all at once; pixels are decoded when asked for.
"""

import collections
import contextlib
import itertools
import os
import pathlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from semanir_jax.data import listing, pair_folders
from semanir_jax.data.bad_images import (
  check_header,
  read_or_stand_in,
  select_good,
)
from semanir_jax.data.pairing import cut_pair, image_size, pair_scale
from semanir_jax.images import image_file
from semanir_jax.images.image_file import (
  AS_IN_FILE,
  ImageError,
  ImageInfo,
  PixelOptions,
)
from semanir_jax.machine.files import FileError, Path, as_path

# Pairs whose headers decide the scale of a folder.
_NUM_PROBED = 100


class ImageFolder:
  """Clean images: records `{"image": uint8 [H, W, C], "name": stem}`.

  Attributes:
    paths: the usable files, in the order of `folders`, sorted in each.
    bad_images: reasons for the files left out so far, one line each.
  """

  def __init__(
    self,
    folders: Path | Sequence[Path],
    *,
    pixels: PixelOptions = AS_IN_FILE,
    on_bad_image: str = "fail",
    recursive: bool = False,
  ) -> None:
    """Lists the files and reads their headers.

    Args:
      folders: folders and single image files.
      pixels: which channels the records get.
      on_bad_image: "fail" raises, naming all bad files; "skip" logs them and
        leaves them out. Where pixels turn out damaged later, the next good
        image stands in, so that all processes still see the same stream.
      recursive: look into subfolders too.

    Raises:
      ImageError: no image, bad ones under "fail", or pairs.
    """
    if isinstance(folders, (str, os.PathLike)):
      folders = [folders]
    found: list[pathlib.Path] = []
    for folder in map(as_path, folders):
      if folder.is_file():
        found.append(folder)
      else:
        images = listing.list_images(folder, recursive=recursive)
        pair_folders.check_clean(folder, images)
        found.extend(images)
    self._pixels = pixels
    self._on_bad_image = on_bad_image
    self.paths, self.bad_images = select_good(
      found,
      lambda path: check_header(path, pixels),
      on_bad_image=on_bad_image,
    )

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return read_or_stand_in(self, index, self._on_bad_image)

  def check_names(self) -> None:
    """Raises ImageError where two files give records of one name."""
    by_name: dict[str, pathlib.Path] = {}
    for path in self.paths:
      other = by_name.setdefault(path.stem, path)
      if other is not path:
        raise ImageError(
          f"{path}: has the name of {other}; an image belongs once into a test"
          " set: rename or remove one"
        )

  def read(self, index: int) -> dict[str, Any]:
    """Reads one record; raises `ImageError` whatever `on_bad_image` says."""
    image = image_file.read_image(self.paths[index], self._pixels)
    return {"image": image, "name": self.paths[index].stem}


class PairedFolder:
  """Degraded and clean images: `{"input": ..., "target": ..., "name": stem}`.

  A pair is two files of the same relative path but for the suffix and for the
  scale in the input's name, as in DIV2K: `0001x2.png` and `0001.png`. A target
  may differ from `scale` times its input by up to `scale - 1` px; what only one
  of them shows is cut off at the bottom and right (modcrop).

  Attributes:
    paths: the usable (input, target) files, sorted.
    scale: target side / input side, the same for all pairs.
    bad_images: reasons for the pairs left out so far, one line each.
  """

  def __init__(
    self,
    root: Path | tuple[Path, Path],
    *,
    pixels: PixelOptions = AS_IN_FILE,
    on_bad_image: str = "fail",
    recursive: bool = False,
  ) -> None:
    """Pairs the files by name and reads their headers.

    Args:
      root: a folder of pairs, see `pair_folders.find_pair`, or its two folders.
      pixels: which channels the records get.
      on_bad_image: see `ImageFolder`; a file without partner is a bad one.
      recursive: look into subfolders too.

    Raises:
      ImageError: no pair, or bad ones under "fail".
    """
    if isinstance(root, (str, os.PathLike)):
      found = pair_folders.find_pair(root)
      if found is None:
        raise ImageError(f"{root}: holds no pairs; {pair_folders.EXPECTED}")
      root = found
    inputs, targets = (by_key(folder, recursive=recursive) for folder in root)
    aliases = {name: partner_key(name, targets) for name in inputs}
    pairs: list[_Partners] = [
      (inputs[name], targets.get(aliases[name])) for name in inputs
    ]
    for name in sorted(set(targets) - set(aliases.values())):
      pairs.append((None, targets[name]))
    self._pixels = pixels
    self._on_bad_image = on_bad_image
    self.scale = _common_scale(pairs)
    good, self.bad_images = select_good(
      pairs, self._check, on_bad_image=on_bad_image
    )
    self.paths = [_both(pair) for pair in good]

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return read_or_stand_in(self, index, self._on_bad_image)

  def read(self, index: int) -> dict[str, Any]:
    """Reads one record; raises `ImageError` whatever `on_bad_image` says."""
    input_path, target_path = self.paths[index]
    lq = image_file.read_image(input_path, self._pixels)
    hq = image_file.read_image(target_path, self._pixels)
    # Cutting would hide files that changed since their headers were read.
    self._check_scale(self.paths[index], image_size(lq), image_size(hq))
    lq, hq = cut_pair(lq, hq, self.scale)
    return {"input": lq, "target": hq, "name": target_path.stem}

  def _check(self, partners: "_Partners") -> None:
    pair = _both(partners)
    lq, hq = (check_header(path, self._pixels) for path in pair)
    if lq.channels != hq.channels and self._pixels.channels is None:
      raise ImageError(
        f"{pair[0]}: has {lq.channels} channels but its target {hq.channels}; "
        "save both as gray or both as colour, or set channels"
      )
    self._check_scale(pair, _size(lq), _size(hq))

  def _check_scale(
    self,
    pair: tuple[pathlib.Path, pathlib.Path],
    lq: tuple[int, int],
    hq: tuple[int, int],
  ) -> None:
    if pair_scale(lq, hq) != self.scale:
      raise ImageError(
        f"{pair[1]}: is {hq[0]}x{hq[1]} but its input {pair[0].name} "
        f"{lq[0]}x{lq[1]}, not a pair of scale {self.scale}; crop both "
        "to the part that both show (modcrop) or fix the names"
      )


# Input and target; None where a folder has no file of the name.
_Partners = tuple[pathlib.Path | None, pathlib.Path | None]


def _both(partners: _Partners) -> tuple[pathlib.Path, pathlib.Path]:
  """Returns input and target; raises `ImageError` where one is missing."""
  lq, hq = partners
  if lq is None or hq is None:
    raise ImageError(
      f"{lq or hq}: has no partner of the same name in the "
      f"{'target' if lq else 'input'} folder; add or remove it"
    )
  return lq, hq


def key(path: pathlib.Path) -> str:
  """Returns what files are paired by: the relative path without suffix.

  It is in Unicode's composed form: archives made on a Mac have accents
  decomposed.
  """
  return unicodedata.normalize("NFC", path.with_suffix("").as_posix())


def by_key(
  folder: Path, *, recursive: bool, also: tuple[str, ...] = ()
) -> dict[str, pathlib.Path]:
  """Maps the keys of the image files of a folder to them.

  Args:
    folder: see `listing.list_images`.
    recursive: look into subfolders too.
    also: see there.

  Raises:
    ImageError: no image, or two of one name.
  """
  files: dict[str, pathlib.Path] = {}
  for path in listing.list_images(folder, recursive=recursive, also=also):
    name = key(path.relative_to(folder))
    if name in files:
      raise ImageError(
        f"{path}: has the name of {files[name].name}; pairs are found by name: "
        "rename or remove one"
      )
    files[name] = path
  return files


def partner_key(name: str, targets: dict[str, pathlib.Path]) -> str:
  """Returns the target's key: the same, or without DIV2K's `x2` at the end."""
  return name if name in targets else re.sub(r"x\d+$", "", name)


def _common_scale(pairs: Sequence[_Partners]) -> int:
  """Returns the scale that most of the first pairs have; 1 if none has one."""
  scales: collections.Counter[int] = collections.Counter()
  whole = ((lq, hq) for lq, hq in pairs if lq and hq)
  for pair in itertools.islice(whole, _NUM_PROBED):
    with contextlib.suppress(FileError):
      lq, hq = (_size(image_file.probe_image(path)) for path in pair)
      if scale := pair_scale(lq, hq):
        scales[scale] += 1
  return scales.most_common(1)[0][0] if scales else 1


def _size(info: ImageInfo) -> tuple[int, int]:
  return info.height, info.width
