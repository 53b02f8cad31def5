"""Transformer layer of SemanIR.

Where the paper is silent the block is GRL's, on whose code SemanIR was built:
residual post-norm, cosine attention with a learned logit scale, a continuous
position bias of 16 * sigmoid(MLP), exact GELU, LayerNorm with eps 1e-5, drop
path, normal(0.02) linear weights (docs/design.md). Parameters, norms, logit
scale, softmax and the residual stream are float32; `dtype` is the operand type
of the matrix products.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from semanir_jax.models.affine import join_heads, linear, split_heads
from semanir_jax.models.execution import Execution
from semanir_jax.models.position_bias import PositionBias
from semanir_jax.ops import Dictionary, key_semantic_attention
from semanir_jax.ops.attention.offsets import flatten_offsets
from semanir_jax.ops.chunks import ATTENDED

LAYER_NORM_EPSILON = 1e-5  # torch's default; Flax's is 1e-6
INITIAL_LOGIT_SCALE = 10.0
LARGEST_LOGIT_SCALE = 100.0
FOUND = "found"  # names the keys that a layer has found by itself
# What `remat` keeps: a layer is computed again without its products then, but
# for those of the position bias and the logits.
KEPT = ("qkv", ATTENDED, "projection", "expand", "reduce", FOUND)
# With the kernels of a TPU: to multiply again takes less time there than to
# write a product and to read it (docs/kernels.md).
KEPT_ON_TPU = (ATTENDED, FOUND)


def layer_norm(name: str) -> nn.LayerNorm:
  """Normalises over channels, in float32 whatever the compute type."""
  return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=jnp.float32, name=name)


class KeySemanticAttention(nn.Module):
  """Multi-head cosine attention over the keys of the stage's dictionary.

  Attributes:
    num_heads: A; must divide the channels.
    execution: how it is computed.
  """

  num_heads: int
  execution: Execution = Execution()

  @nn.compact
  def __call__(
    self,
    x_BGNC: jax.Array,
    dictionary: Dictionary,
    flat: jax.Array | None = None,
  ) -> jax.Array:
    """Maps `[B, G, N, C]` float to the same shape in `execution.dtype`.

    Args:
      x_BGNC: `[B, G, N, C]` float.
      dictionary: of these windows.
      flat: the position bias as the TPU's kernels take it, of `flat_biases`;
        None where the layer makes its own.
    """
    c = x_BGNC.shape[-1]
    logit_scale = self.param(
      "logit_scale",
      nn.initializers.constant(math.log(INITIAL_LOGIT_SCALE)),
      (self.num_heads,),
      jnp.float32,
    )
    scale = jnp.exp(jnp.minimum(logit_scale, math.log(LARGEST_LOGIT_SCALE)))
    if self.execution.implementation == "pallas":
      if flat is None:
        flat = flatten_offsets(self._offsets(x_BGNC.shape[2]))
      return self._attend_in_lanes(x_BGNC, dictionary, scale, flat)
    b, g, n, _ = x_BGNC.shape
    dtype = self.execution.dtype
    qkv = linear(x_BGNC, 3 * c, dtype=dtype, name="qkv")
    qkv = qkv.reshape(b, g, n, 3, self.num_heads, c // self.num_heads)
    query, key, value = (qkv[:, :, :, i] for i in range(3))
    out = key_semantic_attention(
      unit_length(query),
      unit_length(key),
      value,
      dictionary,
      scale=scale,
      bias=self._offsets(n),
      implementation=self.execution.implementation,
      platform=self.execution.platform,
    )
    out = out.reshape(b, g, n, c)
    return linear(out, c, dtype=dtype, name="projection")

  @nn.nowrap
  def _attend_in_lanes(
    self,
    x_BGNC: jax.Array,
    dictionary: Dictionary,
    scale: jax.Array,
    flat: jax.Array,
  ) -> jax.Array:
    """Does the same with tokens on the last axis, as the TPU's kernels do.

    A head's 30 channels are padded to 32 there, and to 128 as the last axis.
    """
    # Imported late, for other platforms need no Pallas.
    from semanir_jax.ops.attention import pallas_vjp

    c = x_BGNC.shape[-1]
    dtype = self.execution.dtype
    rows = pallas_vjp.padded_channels(c // self.num_heads)
    qkv = split_heads(x_BGNC, self.num_heads, rows, dtype=dtype, name="qkv")
    out = pallas_vjp.attend_in_lanes(qkv, dictionary, scale, flat, cosine=True)
    out = join_heads(out, c, dtype=dtype, name="projection")
    return out.reshape(x_BGNC.shape)

  @nn.nowrap
  def _offsets(self, num_tokens: int) -> jax.Array:
    """Returns the position bias of every offset, `[2P-1, 2P-1, A]`."""
    bias = PositionBias(self.num_heads, name="position_bias")
    return bias(math.isqrt(num_tokens))


def unit_length(x: jax.Array) -> jax.Array:
  """L2-normalises the last axis in float32; a zero vector stays zero."""
  squares = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
  # 1e-24 is the square of torch's bound on the norm; taking the maximum before
  # the root keeps the gradient of a zero vector finite.
  return (x * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))).astype(x.dtype)


def flat_biases(params: Any, num_heads: int, num_tokens: int) -> jax.Array:
  """Computes the position biases of a stage's layers, all at once.

  A layer would do it twice where it is computed again in the backward pass.

  Args:
    params: of the `PositionBias` of all layers, stacked.
    num_heads: A.
    num_tokens: N.

  Returns:
    `[layers, A, 2, F]` float32 of `offsets.flatten_offsets`.
  """

  def compute(params: Any) -> jax.Array:
    bias = PositionBias(num_heads).apply(
      {"params": params}, math.isqrt(num_tokens)
    )
    # A tuple only with `mutable`.
    return flatten_offsets(cast(jax.Array, bias))

  # Its hidden numbers are many and soon computed again.
  return jax.checkpoint(jax.vmap(compute))(params)


class Mlp(nn.Module):
  """Two linear layers with an exact GELU between them."""

  hidden: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[..., C]` to `[..., C]` in `dtype`."""
    hidden = linear(x, self.hidden, dtype=self.dtype, name="expand")
    hidden = nn.gelu(hidden, approximate=False)
    return linear(hidden, x.shape[-1], dtype=self.dtype, name="reduce")


class TransformerLayer(nn.Module):
  """Attention over a dictionary of keys, then an MLP; residual post-norm.

  Attributes:
    num_heads: A.
    mlp_ratio: hidden width of the MLP over C.
    find_keys: finds the dictionary in the layer's input `[B, G, N, C]` and k;
      None for a layer that is given the dictionary.
    execution: how it is computed.
  """

  num_heads: int
  mlp_ratio: float = 2.0
  find_keys: Callable[[jax.Array, Any], Dictionary] | None = None
  execution: Execution = Execution()

  @nn.compact
  def __call__(
    self,
    x_BGNC: jax.Array,
    branch_scales: jax.Array | None,
    keys: Any,
    flat: jax.Array | None = None,
  ) -> tuple[jax.Array, None]:
    """Returns (`[B, G, N, C]` float32, None), as `nn.scan` wants it.

    Args:
      x_BGNC: `[B, G, N, C]` float32, the residual stream.
      branch_scales: `[B, 2]` factors of the two branches of every image (drop
        path); None for 1.
      keys: the `Dictionary` of this stage; or k, where the layer finds its own
        dictionary, which goes to the collection "intermediates".
      flat: see `KeySemanticAttention`.
    """

    def add(name: str, branch: jax.Array, index: int) -> jax.Array:
      branch = layer_norm(name)(branch)
      if branch_scales is not None:
        branch = branch * branch_scales[:, index, None, None, None]
      return x_BGNC + branch

    if self.find_keys is not None:
      # Kept where a layer is computed again, as that of a stage is.
      keys = jax.tree.map(
        lambda x: checkpoint_name(x, FOUND), self.find_keys(x_BGNC, keys)
      )
      self.sow("intermediates", "dictionary", keys)
    attention = self._make_attention()
    x_BGNC = add("attention_norm", attention(x_BGNC, keys, flat), 0)
    hidden = int(x_BGNC.shape[-1] * self.mlp_ratio)
    mlp = Mlp(hidden, dtype=self.execution.dtype, name="mlp")
    return add("mlp_norm", mlp(x_BGNC), 1), None

  @nn.nowrap
  def _make_attention(self) -> KeySemanticAttention:
    """Makes the attention of this layer."""
    return KeySemanticAttention(
      self.num_heads, self.execution, name="attention"
    )
