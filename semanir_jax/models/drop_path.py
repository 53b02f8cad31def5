"""Drop path: in training, some images skip some branches."""

from collections.abc import Sequence

import jax
import numpy as np


def draw_branch_scales(
  key: jax.Array, num_images: int, depths: Sequence[int], rate: float
) -> jax.Array | None:
  """Draws which branches of which images are left out.

  Drawn for the global batch, outside of the network, so that an image's draw
  does not depend on how many devices share the batch.

  Args:
    key: random key.
    num_images: B.
    depths: layers of every stage of the network.
    rate: probability of the last layer, in [0, 1); linear from 0 at the first.

  Returns:
    `[B, layers, 2]` float32, for attention and MLP: 0 with the probability of
    the layer, else 1 / (1 - probability); None where the rate is 0.
  """
  if rate == 0.0:
    return None
  layers = sum(depths)
  keep = 1.0 - np.linspace(0.0, rate, layers)[:, None]
  kept = jax.random.bernoulli(key, keep, (num_images, layers, 2))
  return kept / keep.astype(np.float32)
