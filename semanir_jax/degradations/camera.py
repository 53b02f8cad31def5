"""What a camera does last: noise that grows with the light, 8 bits, JPEG."""

import io

import numpy as np
from PIL import Image

from semanir_jax.degradations.base import Rng, draw_integer, draw_log_uniform

UNIT_PX = 16  # side of a coding unit of JPEG with 4:2:0, the largest


def draw_deviation(
  rng: Rng,
  image: np.ndarray,
  *,
  read_255: float | tuple[float, float],
  shot_255: float | tuple[float, float],
) -> np.ndarray:
  """Draws a sensor, and returns the standard deviation of its noise.

  sigma(x) = sqrt(read_255^2 + shot_255^2 x / 255).

  Args:
    rng: source of all randomness.
    image: float, the values x in 0 to 255.
    read_255: of the electronics, 0 to 255; one number, or (low, high) to draw
      its logarithm uniformly.
    shot_255: of photons where a value is 255; as `read_255`.

  Returns:
    Same shape as the image, 0 to 255.

  Source: Foi et al. 2008.
  """
  read = draw_log_uniform(rng, read_255)
  shot = draw_log_uniform(rng, shot_255)
  return np.sqrt(read**2 + shot**2 * image / 255.0)


def round_to_uint8(pixels: np.ndarray) -> np.ndarray:
  """Clips and rounds 0 to 255, as `metrics.to_uint8` does of 0 to 1."""
  return np.rint(np.clip(pixels, 0.0, 255.0)).astype(np.uint8)


def compress(
  image: np.ndarray, quality: int, subsampling: str = "4:2:0"
) -> np.ndarray:
  """Compresses with libjpeg and decodes: gray, or colour with such chroma.

  Args:
    image: `[H, W, C]` uint8.
    quality: 1 to 100.
    subsampling: of chroma.

  Returns:
    Same shape and dtype.
  """
  picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
  file = io.BytesIO()
  picture.save(file, "JPEG", quality=quality, subsampling=subsampling)
  with Image.open(file) as decoded:
    return np.asarray(decoded).reshape(image.shape)


def draw_phases(rng: Rng) -> tuple[int, int]:
  """Draws by how much a grid of coding units begins above and before."""
  return draw_integer(rng, 0, UNIT_PX - 1), draw_integer(rng, 0, UNIT_PX - 1)
