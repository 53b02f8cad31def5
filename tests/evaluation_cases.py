"""A protocol and random images for tests of evaluation and its reports."""

import numpy as np

from semanir_jax.evaluation.test_sets import Example

PROTOCOL = {
  "channel": "rgb",
  "crop_px": 0,
  "ssim": "valid",
  "psnr_b": False,
  "also": (),
}


def random_image(*shape: int, seed: int = 0) -> np.ndarray:
  """Float32 in [0, 1]."""
  return np.random.RandomState(seed).uniform(0, 1, shape).astype(np.float32)


def random_example(
  name: str, *shape: int, scale: int = 1, seed: int = 0
) -> Example:
  """One whose input, `[h, w, c]`, has nothing to do with its clean image."""
  h, w, c = shape
  hq = random_image(h * scale, w * scale, c, seed=seed)
  return Example(name, random_image(*shape, seed=seed + 100), hq)
