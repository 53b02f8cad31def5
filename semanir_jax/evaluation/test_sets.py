"""Opens test sets in the fixed form that published numbers are of."""

import collections
import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from absl import logging
from PIL import Image

from semanir_jax.data import pair_folders, splits
from semanir_jax.data.sources import (
  ImageFolder,
  Source,
  absent_folder,
  locate,
  open_source,
)
from semanir_jax.degradations import make as make_degradation
from semanir_jax.degradations import modcrop
from semanir_jax.images.color import to_unit
from semanir_jax.images.image_file import PixelOptions
from semanir_jax.machine import distributed


class Example(NamedTuple):
  """One test image.

  Attributes:
    name: of the image.
    lq: `[h, w, C]` float32, what the network gets.
    hq: `[H, W, C']` float32 in [0, 1], what it should return.
  """

  name: str
  lq: np.ndarray
  hq: np.ndarray


@dataclasses.dataclass(frozen=True)
class TestSet:
  """An entry of `config.eval.sets`, with its images.

  Attributes:
    name: of the entry.
    options: `source` (see `open_source`), `channels`, `gray`, `num_images` and
      those of `examples`; see configs/base.py.
    source: of the images or pairs.
  """

  __test__: ClassVar[bool] = False  # pytest takes any Test* for a test

  name: str
  options: Mapping[str, Any]
  source: Source


def open_test_sets(
  sets: Mapping[str, Mapping[str, Any]], data_dir: str
) -> list[TestSet]:
  """Opens the test sets of a config whose folders exist; names the others.

  All processes must call it.

  Args:
    sets: `config.eval.sets`.
    data_dir: folder of the test sets.

  Raises:
    ValueError: see `open_test_set`; or processes see other files than others.
  """
  found: list[TestSet] = []
  left_out: dict[str, list[str]] = collections.defaultdict(list)
  with distributed.shared_errors():
    for name, options in sets.items():
      absent = absent_folder(options["source"], data_dir)
      _make_degradation(options)  # a mistake is told before hours of work
      if absent:
        left_out[absent].append(name)
      else:
        found.append(open_test_set(name, options, data_dir))
  for absent, names in left_out.items():
    logging.warning("%s: left out, there is no %s", ", ".join(names), absent)
  sizes = distributed.gather({one.name: len(one.source) for one in found})
  for index, size in enumerate(sizes):
    if size != sizes[0]:
      raise ValueError(
        f"images per test set: {sizes[0]} in process 0, {size} in process"
        f" {index}; all processes must read the same files"
      )
  return found


def open_test_set(
  name: str, options: Mapping[str, Any], data_dir: str
) -> TestSet:
  """Opens one entry of `config.eval.sets`.

  Args:
    name: of the entry, for messages.
    options: `source` (see `open_source`, relative to `data_dir`), `channels`,
      `gray`, `num_images` that the set has, 0 for any number.
    data_dir: folder of the test sets.

  Raises:
    ImageError: the images are not there or cannot be read.
    ValueError: the set has another number of images, or two of one name.
  """
  source = open_source(
    locate(options["source"], data_dir),
    pixels=PixelOptions(options["channels"], options["gray"] or None),
    data_dir=data_dir or None,
  )
  expected = options["num_images"]
  if expected and len(source) != expected:
    cause = splits.likely_cause(name, len(source), expected)
    raise ValueError(
      f"{name} ({options['source']}) has {len(source)} images where the"
      f" published numbers have {expected}: {cause}; put that right, or take"
      f" them as they are with --config.eval.sets.{name}.num_images=0"
    )
  if isinstance(source, ImageFolder):
    source.check_names()
  return TestSet(name, options, source)


def examples(test_set: TestSet, indices: Iterable[int]) -> Iterator[Example]:
  """Degrades images of a test set, one by one.

  Random degradations start from numpy's RandomState(0) at every image, as
  SwinIR's tests do (protocol section 3.2).

  Args:
    test_set: its options say the `degradation`, empty for pairs as they are;
      `sides_px` of every image, `center_crop_px` and `crop_multiple` before
      degrading, `resize` of pairs (see configs/base.py).
    indices: of the images in the source.

  Raises:
    ImageError: an image cannot be read.
    ValueError: an image has other sides, or pairs are needed and not there.
  """
  options = test_set.options
  degradation = _make_degradation(options)
  for index in indices:
    record = test_set.source[index]
    with errors_name(record["name"]):
      if degradation is None:
        pair = _as_they_are(record, options["resize"])
      else:
        clean = record["image"] if "image" in record else record["target"]
        _check_sides(clean, options["sides_px"])
        clean = _center(clean, options["center_crop_px"])
        clean = modcrop(clean, options["crop_multiple"])
        pair = degradation(np.random.RandomState(0), clean)
    yield Example(record["name"], *pair)


def _make_degradation(options: Mapping[str, Any]) -> Any:
  """Makes what degrades the images of a set; None for pairs as they are."""
  degrade = dict(options["degradation"])
  return make_degradation(**degrade) if degrade else None


@contextlib.contextmanager
def errors_name(image: str) -> Iterator[None]:
  """Puts the name of an image in front of what is wrong with it."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f"{image}: {error}") from error


def all_weather_size(height: int, width: int) -> tuple[int, int]:
  """Returns the size at which the All-Weather benchmark restores an image.

  A longer side over 1024 px is shrunk to 1024 (the other rounded up), then both
  sides are rounded up to multiples of 16.

  Source: protocols 3.6 (TransWeather, WeatherDiffusion).
  """
  longer = max(height, width)
  if longer > 1024:
    height, width = (-(-side * 1024 // longer) for side in (height, width))
  return 16 * math.ceil(height / 16), 16 * math.ceil(width / 16)


def _as_they_are(
  record: Mapping[str, Any], resize: str
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a pair, resized where its benchmark does; float32 in [0, 1]."""
  if "input" not in record:
    raise ValueError(
      f"is a single image where pairs are expected; {pair_folders.EXPECTED}"
    )
  pair = record["input"], record["target"]
  if resize == "all_weather":
    pair = map(_all_weather, pair)
  elif resize:
    raise ValueError(f"unknown resize {resize!r}; use 'all_weather' or ''")
  lq, hq = map(to_unit, pair)
  return lq, hq


def _all_weather(image: np.ndarray) -> np.ndarray:
  """Resizes uint8 `[H, W, C]` by Lanczos to `all_weather_size`."""
  height, width = all_weather_size(*image.shape[:2])
  picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
  resized = picture.resize((width, height), Image.Resampling.LANCZOS)
  return np.asarray(resized).reshape(height, width, image.shape[2])


def _center(image: np.ndarray, side: int) -> np.ndarray:
  """Cuts an image's centre, as FFDNet did Kodak24; all of it for side 0."""
  if not side:
    return image
  height, width = image.shape[:2]
  if min(height, width) < side:
    raise ValueError(
      f"is {height}x{width} px, too small for the {side}x{side} centre"
      " that the published numbers are of; get the original images"
    )
  top, left = (height - side) // 2, (width - side) // 2
  return image[top : top + side, left : left + side]


def _check_sides(image: np.ndarray, sides: Sequence[int]) -> None:
  """Refuses another form of a set than the published numbers are of."""
  height, width = image.shape[:2]
  if not sides or sorted((height, width)) == sorted(sides):
    return
  shorter, longer = sorted(sides)
  raise ValueError(
    f"is {height}x{width} px where the published numbers are of images"
    f" of {longer}x{shorter}. Kodak24 has two forms: 768x512 (demosaicking) and"
    " its 500x500 centres (denoising); get the other one, or set"
    " config.eval.sets.NAME.sides_px to () and compare with nobody"
  )
