"""Changes of resolution: pixel shuffle, upsamplers, the U-shape's steps."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from semanir_jax.models.affine import Conv

UPSAMPLER_WIDTH = 64  # channels in front of the pixel shuffles
UPSAMPLERS = ("pixelshuffle", "pixelshuffledirect")


def pixel_shuffle(x_BHWC: jax.Array, scale: int) -> jax.Array:
  """Maps `[B, H, W, C * S * S]` to `[B, H * S, W * S, C]`, in torch's order."""
  b, h, w, c = x_BHWC.shape
  x = x_BHWC.reshape(b, h, w, c // scale**2, scale, scale)
  return x.transpose(0, 1, 4, 2, 5, 3).reshape(b, h * scale, w * scale, -1)


def pixel_unshuffle(x_BHWC: jax.Array, scale: int) -> jax.Array:
  """Undoes `pixel_shuffle`."""
  b, h, w, c = x_BHWC.shape
  x = x_BHWC.reshape(b, h // scale, scale, w // scale, scale, c)
  return x.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // scale, w // scale, -1)


class Upsampler(nn.Module):
  """From features to an image `scale` times as large.

  `pixelshuffle` (S, B): conv to 64 channels, LeakyReLU 0.01, then a conv and a
  pixel shuffle of 2 once for x2, twice for x4, three times for x8, or one of 3
  for x3, and a last conv [fits]. `pixelshuffledirect` (light, tiny): one conv,
  one pixel shuffle, as in SwinIR-light and GRL-tiny.

  Attributes:
    scale: 2, 3, 4 or 8.
    out_channels: channels of the image.
    kind: one of `UPSAMPLERS`.
    dtype: operand type of the convolutions.
  """

  scale: int
  out_channels: int
  kind: str
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x_BHWC: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` to `[B, H * scale, W * scale, out_channels]`."""
    if self.kind == "pixelshuffledirect":
      features = self.out_channels * self.scale**2
      x = Conv(features, dtype=self.dtype, name="conv")(x_BHWC)
      return pixel_shuffle(x, self.scale)
    x = Conv(UPSAMPLER_WIDTH, dtype=self.dtype, name="before")(x_BHWC)
    x = nn.leaky_relu(x, 0.01)
    steps = [3] if self.scale == 3 else [2] * (self.scale.bit_length() - 1)
    for i, step in enumerate(steps):
      features = UPSAMPLER_WIDTH * step**2
      x = Conv(features, dtype=self.dtype, name=f"up_{i}")(x)
      x = pixel_shuffle(x, step)
    return Conv(self.out_channels, dtype=self.dtype, name="last")(x)


class Downsample(nn.Module):
  """Half the resolution, twice the channels: conv 3x3, pixel unshuffle."""

  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x_BHWC: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` to `[B, H / 2, W / 2, 2C]`."""
    c = x_BHWC.shape[-1]
    x = Conv(c // 2, dtype=self.dtype, name="conv")(x_BHWC)
    return pixel_unshuffle(x, 2)


class Upsample(nn.Module):
  """Twice the resolution, half the channels: conv 3x3, pixel shuffle."""

  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x_BHWC: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` to `[B, 2H, 2W, C / 2]`."""
    c = x_BHWC.shape[-1]
    x = Conv(2 * c, dtype=self.dtype, name="conv")(x_BHWC)
    return pixel_shuffle(x, 2)
