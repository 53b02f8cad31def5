"""Pixel shuffles in torch's channel order, so that weights can be exchanged."""

import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.models import resampling


@pytest.mark.parametrize("scale", [2, 3])
def test_pixel_shuffle_spreads_channels_as_torch_does(scale):
  x = np.random.default_rng(0).normal(size=(2, 3, 4, 5 * scale**2))
  out = resampling.pixel_shuffle(jnp.asarray(x, jnp.float32), scale)
  assert out.shape == (2, 3 * scale, 4 * scale, 5)
  for b, h, w, c, i, j in np.ndindex(2, 3, 4, 5, scale, scale):
    np.testing.assert_allclose(
      out[b, h * scale + i, w * scale + j, c],
      x[b, h, w, (c * scale + i) * scale + j],
      rtol=1e-6,
    )


@pytest.mark.parametrize("scale", [2, 3])
def test_pixel_unshuffle_inverts_pixel_shuffle(scale):
  x = jnp.arange(2 * 3 * 4 * 2 * scale**2.0).reshape(2, 3, 4, -1)
  shuffled = resampling.pixel_shuffle(x, scale)
  np.testing.assert_array_equal(resampling.pixel_unshuffle(shuffled, scale), x)
