"""Linear layers and convolutions, with operands of a chosen type."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike


def linear(
  x: jax.Array, features: int, *, dtype: DTypeLike, name: str, bias: bool = True
) -> jax.Array:
  """Applies a linear layer of the calling module, GRL's initial weights.

  The leading axes are flattened around the product: XLA's CPU compiler chooses
  layouts for a gradient over several leading axes that cost five times as much
  (jax 0.10.2 and 0.12.0, measured); to other backends it makes no difference.

  Args:
    x: `[..., C]` float.
    features: output channels.
    dtype: operand type of the product; the result has it too.
    name: name of the layer in the calling module, and of its result for the
      policies of `jax.checkpoint`.
    bias: whether a bias is added.

  Returns:
    `[..., features]`.
  """
  layer = _Affine(
    jnp.matmul,
    (x.shape[-1], features),
    dtype,
    kernel_init=nn.initializers.normal(0.02),
    bias_init=nn.initializers.zeros_init() if bias else None,
    name=name,
  )
  y = layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], features)
  return checkpoint_name(y, name)


def split_heads(
  x_BGNC: jax.Array,
  num_heads: int,
  rows: int,
  *,
  dtype: DTypeLike,
  name: str,
) -> jax.Array:
  """Applies a linear layer to 3C channels, tokens on the last axis.

  The parameters are those of `linear`; they are rearranged, not the result.

  Args:
    x_BGNC: `[B, G, N, C]` float.
    num_heads: A.
    rows: D', channels of a head C / A filled up with zeros.
    dtype: see `linear`, and `name`.
    name: see dtype.

  Returns:
    `[3, B * G, A, D', N]`: query, key and value.
  """
  n, c = x_BGNC.shape[-2:]

  def rearrange(x: jax.Array) -> jax.Array:
    x = x.reshape(*x.shape[:-1], 3, num_heads, c // num_heads)
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, rows - c // num_heads)])

  layer = _Affine(
    lambda x, kernel: jnp.einsum("wnc,ckad->kwadn", x, rearrange(kernel)),
    (c, 3 * c),
    dtype,
    kernel_init=nn.initializers.normal(0.02),
    bias_init=nn.initializers.zeros_init(),
    arrange_bias=lambda bias: rearrange(bias)[:, None, :, :, None],
    name=name,
  )
  return checkpoint_name(layer(x_BGNC.reshape(-1, n, c)), name)


def join_heads(
  x_WADN: jax.Array, features: int, *, dtype: DTypeLike, name: str
) -> jax.Array:
  """Applies a linear layer to all heads, tokens on the last axis before it.

  Args:
    x_WADN: `[W, A, D', N]` float, zeros from D = `features` / A on.
    features: C.
    dtype: see `linear`, and `name`.
    name: see dtype.

  Returns:
    `[W, N, C]`.
  """
  _, num_heads, rows, _ = x_WADN.shape

  def multiply(x: jax.Array, kernel: jax.Array) -> jax.Array:
    kernel = kernel.reshape(num_heads, -1, features)
    padding = ((0, 0), (0, rows - kernel.shape[1]), (0, 0))
    return jnp.einsum("wadn,adc->wnc", x, jnp.pad(kernel, padding))

  layer = _Affine(
    multiply,
    (features, features),
    dtype,
    kernel_init=nn.initializers.normal(0.02),
    bias_init=nn.initializers.zeros_init(),
    name=name,
  )
  return checkpoint_name(layer(x_WADN), name)


class Conv(nn.Module):
  """Convolution with zero padding and torch's default initial weights.

  Attributes:
    features: output channels.
    kernel_size: side of the kernel in pixels.
    dtype: operand type; the result has it too.
  """

  features: int
  kernel_size: int = 3
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x_BHWC: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` to `[B, H, W, features]`."""
    sides, channels = (self.kernel_size,) * 2, x_BHWC.shape[-1]
    bound = 1.0 / math.sqrt(math.prod(sides) * channels)

    def uniform(
      key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
    ) -> jax.Array:
      return jax.random.uniform(key, shape, dtype, -bound, bound)

    convolve = functools.partial(
      lax.conv_general_dilated,
      window_strides=(1, 1),
      padding="SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return _Affine(
      convolve,
      (*sides, channels, self.features),
      self.dtype,
      kernel_init=uniform,
      bias_init=uniform,
      name="conv",
    )(x_BHWC)


class _Affine(nn.Module):
  """A product with a kernel, and a bias: `nn.Dense` and `nn.Conv`, whose bias
  in bfloat16 would get a gradient that is summed over all pixels of a batch in
  bfloat16: 1600 ones came to 1024 on a CPU.
  """

  product: Callable[[jax.Array, jax.Array], jax.Array]
  kernel_shape: tuple[int, ...]
  dtype: DTypeLike
  kernel_init: nn.initializers.Initializer
  bias_init: nn.initializers.Initializer | None
  arrange_bias: Callable[[jax.Array], jax.Array] = lambda bias: bias

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns product and bias, in `dtype`."""
    kernel = self.param("kernel", self.kernel_init, self.kernel_shape)
    y = self.product(x.astype(self.dtype), kernel.astype(self.dtype))
    if self.bias_init is None:
      return y
    bias = self.param("bias", self.bias_init, self.kernel_shape[-1:])
    # Spread before it is rounded, so that its gradient is a float32 sum.
    bias = self.arrange_bias(bias)
    return y + jnp.broadcast_to(bias, y.shape).astype(self.dtype)
