"""Test sets in the fixed form that published numbers were measured on."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from semanir_jax.data.degradations import make as make_degradation
from semanir_jax.data.degradations import modcrop
from semanir_jax.data.sources import Source, open_source


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


def locate(source: str, data_dir: str) -> str:
  """Puts `data_dir` in front of the folders of a source, where they are
  relative; "photographs:" and "tfds:" sources stay as they are.
  """
  if source.startswith(("photographs:", "tfds:")):
    return source
  folders = [str(pathlib.Path(data_dir) / part) for part in source.split(",")]
  return ",".join(folders)


def present(
  sets: Mapping[str, Mapping[str, Any]], data_dir: str
) -> Iterator[tuple[str, Mapping[str, Any], Source]]:
  """Opens the test sets of a config whose folders exist; names the others.

  Args:
    sets: `config.eval.sets`.
    data_dir: folder of the test sets.

  Yields:
    Name, options and source of each set.
  """
  for name, options in sets.items():
    source = locate(options["source"], data_dir)
    remote = source.startswith(("photographs:", "tfds:"))
    folders = [] if remote else source.split(",")
    absent = [f for f in folders if not pathlib.Path(f).exists()]
    if absent:
      logging.warning("%s: left out, there is no %s", name, absent[0])
    else:
      yield name, options, open_test_set(name, options, data_dir)


def open_test_set(
  name: str, options: Mapping[str, Any], data_dir: str
) -> Source:
  """Opens one entry of `config.eval.sets`.

  Args:
    name: of the entry, for messages.
    options: `source` (see `open_source`, relative to `data_dir`), `channels`,
      `gray`, `num_images` that the set has, 0 for any number.
    data_dir: folder of the test sets.

  Raises:
    ImageError: the images are not there or cannot be read.
    ValueError: the set has another number of images.
  """
  source = open_source(
    locate(options["source"], data_dir),
    channels=options["channels"],
    gray=options["gray"] or None,
    data_dir=data_dir or None,
  )
  expected = options["num_images"]
  if expected and len(source) != expected:
    raise ValueError(
      f"{name} ({options['source']}) has {len(source)} images where the"
      f" published numbers have {expected}; look for missing or extra files (a"
      " training split mixed in?), or set config.eval.sets."
      f"{name}.num_images=0"
    )
  return source


def examples(
  source: Source, options: Mapping[str, Any], *, max_images: int
) -> Iterator[Example]:
  """Degrades the images of a test set, one by one.

  Random degradations start from numpy's RandomState(0) at every image, as
  SwinIR's tests do (protocol section 3.2).

  Args:
    source: of `open_test_set`.
    options: `degradation`, empty for pairs as they are; `crop_multiple`, sides
      are cropped to multiples of it first.
    max_images: stop after so many; 0 for all.
  """
  degrade = dict(options["degradation"])
  degradation = make_degradation(**degrade) if degrade else None
  for index in range(min(len(source), max_images or len(source))):
    record = source[index]
    if degradation is None:
      pair = (_unit(record["input"]), _unit(record["target"]))
    else:
      clean = record["image"] if "image" in record else record["target"]
      clean = modcrop(clean, options["crop_multiple"])
      pair = degradation(np.random.RandomState(0), clean)
    yield Example(record["name"], *pair)


def _unit(image: np.ndarray) -> np.ndarray:
  """uint8 to float32 in [0, 1]."""
  return image.astype(np.float32) / np.float32(255.0)
