"""Files for tests of restoring, and what is said where it is refused."""

import pathlib
from typing import Any

import numpy as np
import pytest

from semanir_jax.images.image_file import write_image
from semanir_jax.machine.files import FileError
from semanir_jax.networks.build import CheckpointError
from semanir_jax.restoration.restore import restore_files


def random_pixels(
  *shape: int, dtype: Any = np.uint8, seed: int = 0
) -> np.ndarray:
  """Draws pixels of all values of their type."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write_random(
  path: pathlib.Path, *shape: int, dtype: Any = np.uint8, seed: int = 0
) -> np.ndarray:
  """Writes random pixels of `shape` and returns them."""
  pixels = random_pixels(*shape, dtype=dtype, seed=seed)
  path.parent.mkdir(parents=True, exist_ok=True)
  write_image(path, pixels)
  return pixels


def files(folder: pathlib.Path) -> list[str]:
  """All there is below a folder, hidden files too."""
  return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def refused(runs: dict[str, str], tmp_path: pathlib.Path, **changes: Any):
  """What is said of one image that cannot be restored; nothing may be left."""
  run = changes.pop("run", "color")
  kind = changes.pop("kind", FileError | CheckpointError)
  source = str(changes.pop("source", tmp_path / "a.png"))
  output = str(changes.pop("output", tmp_path / "out" / "deep"))
  before = files(tmp_path)
  with pytest.raises(ValueError) as error:
    restore_files(runs[run], source, output, **changes)
  assert files(tmp_path) == before
  assert "\n" not in str(error.value)
  kind = ValueError if {"num_keys", "quality", "tile"} & set(changes) else kind
  assert isinstance(error.value, kind)
  return str(error.value)
