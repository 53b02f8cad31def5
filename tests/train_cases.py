"""A training of seconds: its images and its config."""

import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from semanir_jax.images.image_file import write_image
from tests import small

SPLITS = {"train": 4, "test": 2}


def write_photographs(root: pathlib.Path) -> pathlib.Path:
  """Smooth random images: folders `train` (4) and `test` (2)."""
  rng = np.random.RandomState(0)
  for split, count in SPLITS.items():
    (root / split).mkdir()
    for i in range(count):
      coarse = rng.randint(0, 256, (6, 7, 3), np.uint8)
      pixels = Image.fromarray(coarse).resize(
        (28, 24), Image.Resampling.BICUBIC
      )
      write_image(root / split / f"{i}.png", np.asarray(pixels))
  return root


def train_config(photographs: pathlib.Path, **changes: Any) -> ConfigDict:
  """`smoke` in one stage, with everything random on: noise, drop path, k."""
  test_set = base.test_set("test", base.noise(25.0))
  settings = {
    "data__data_dir": str(photographs),
    "data__train": ("train",),
    "model__architecture": "columnar",
    "model__depths": (2,),
    "model__drop_path_rate": 0.3,
    "train__random_num_keys": (4, 8, 16),
    "eval__every_steps": 0,
    "eval__max_images": 0,
    "eval__num_pictures": 1,
  }
  config = small.config(**settings | changes).unlock()
  config.eval.sets = ConfigDict({"ours": test_set})
  return config.lock()


def train_position(batches: int) -> dict[str, int]:
  """Of a run in these photographs, as a checkpoint has it."""
  return {"batches_taken": batches, "records": SPLITS["train"]}
