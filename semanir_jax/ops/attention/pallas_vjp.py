"""Key-semantic attention in Pallas kernels for TPUs, with its gradient."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from semanir_jax.ops import pallas_mode
from semanir_jax.ops.attention.offsets import flatten_offsets
from semanir_jax.ops.attention.pallas_backward import backward_kernel
from semanir_jax.ops.attention.pallas_band import Band
from semanir_jax.ops.attention.pallas_forward import forward_kernel
from semanir_jax.ops.chunks import ATTENDED
from semanir_jax.ops.dictionary.selection import Dictionary
from semanir_jax.ops.dictionary.words import with_words

# Queries of a tile: the default limit of on-chip memory holds its logits.
MOST_QUERIES = 512
# D is padded to whole vectors of bfloat16 numbers.
ROWS = 16


def padded_channels(channels: int) -> int:
  """Returns D of the kernels for a head of `channels`."""
  return -(-channels // ROWS) * ROWS


def key_semantic_attention_pallas(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  dictionary: Dictionary,
  scale: jax.Array,
  offsets: jax.Array,
) -> jax.Array:
  """Attends over the dictionary; arrays are those of the other forms.

  Args:
    query: `[B, G, N, A, D]` float32 or bfloat16; N = 64, 256 or 1024, any D.
    key: same shape and dtype.
    value: same shape and dtype.
    dictionary: in its bits form.
    scale: `[A]` float32.
    offsets: `[2P-1, 2P-1, A]` float32, the position bias.

  Returns:
    `[B, G, N, A, D]` in the dtype of `query`, see `attend_in_lanes`.
  """
  b, g, n, a, d = query.shape
  qkv = jnp.stack([query, key, value]).reshape(3, b * g, n, a, d)
  rows = padded_channels(d) - d
  qkv = jnp.pad(
    qkv.transpose(0, 1, 3, 4, 2), [(0, 0)] * 3 + [(0, rows), (0, 0)]
  )
  flat = flatten_offsets(offsets)
  out = attend_in_lanes(qkv, dictionary, scale, flat, cosine=False)
  return out[:, :, :d].transpose(0, 3, 1, 2).reshape(query.shape)


def attend_in_lanes(
  qkv: jax.Array,
  dictionary: Dictionary,
  scale: jax.Array,
  flat: jax.Array,
  *,
  cosine: bool,
) -> jax.Array:
  """Attends over the dictionary without any N x N array in main memory.

  Under a mesh it has to be called inside `shard_map`: elsewhere the compiler
  refuses to split it.

  Args:
    qkv: `[3, W, A, D, N]` float32 or bfloat16: query, key and value of W
      windows; D a multiple of 16 (`padded_channels`), N = 64, 256 or 1024.
    dictionary: of these windows, in its bits form; its words are used if it has
      some.
    scale: `[A]` float32.
    flat: `[A, 2, F]` float32, the position bias (`offsets.flatten_offsets`).
    cosine: whether query and key are L2-normalised first.

  Returns:
    `[W, A, D, N]` in the dtype of `qkv`, named `chunks.ATTENDED`;
    differentiable in all but the dictionary. A row without any key (a broken
    input) gives the mean of all values, and its weights no gradient.
  """
  words = with_words(dictionary).words
  assert words is not None
  scale, flat = scale.astype(jnp.float32), flat.astype(jnp.float32)
  static = (cosine, pallas_mode.is_interpreted())
  return _attend(qkv, words, scale, flat, *static)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(
  qkv: jax.Array,
  words: jax.Array,
  scale: jax.Array,
  flat: jax.Array,
  cosine: bool,
  interpret: bool,
) -> jax.Array:
  return _forward(qkv, words, scale, flat, cosine, interpret)[0]


def _forward(
  qkv: jax.Array,
  words: jax.Array,
  scale: jax.Array,
  flat: jax.Array,
  cosine: bool,
  interpret: bool,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  """Returns the output and what the backward pass needs, of `_attend`."""
  _, num_windows, heads, channels, n = qkv.shape
  specs = _Specs(qkv, flat)
  out, lse = pl.pallas_call(
    functools.partial(forward_kernel, cosine=cosine),
    grid=specs.grid,
    in_specs=[specs.scale, specs.qkv, specs.words, specs.flat],
    out_specs=[specs.out, specs.lse],
    out_shape=[
      jax.ShapeDtypeStruct((num_windows, heads, channels, n), qkv.dtype),
      jax.ShapeDtypeStruct((num_windows, heads, 1, n), jnp.float32),
    ],
    scratch_shapes=[
      pltpu.VMEM(specs.band.shape, jnp.float32),
      pltpu.VMEM((channels, n), qkv.dtype),
      pltpu.VMEM((n, specs.block), jnp.float32),
    ],
    compiler_params=_COMPILER_PARAMS,
    interpret=interpret,
    name="key_semantic_attention_forward",
  )(scale, qkv, words, flat)
  # Else a `jax.checkpoint` that keeps the output would run the kernel again.
  out, lse = checkpoint_name((out, lse), ATTENDED)
  return out, (qkv, words, scale, flat, out, lse)


def _backward(
  cosine: bool,
  interpret: bool,
  saved: tuple[jax.Array, ...],
  d_out: jax.Array,
) -> tuple[jax.Array | None, ...]:
  """Returns the gradients of the arrays of `_attend`."""
  qkv, words, scale, flat, out, lse = saved
  _, _, heads, channels, n = qkv.shape
  specs = _Specs(qkv, flat)
  per_head = pl.BlockSpec((None, 1, specs.block), lambda h, w, i: (h, 0, 0))
  d_qkv, d_flat, d_scale = pl.pallas_call(
    functools.partial(backward_kernel, cosine=cosine),
    grid=specs.grid,
    in_specs=[
      specs.scale,
      specs.qkv,
      specs.words,
      specs.flat,
      specs.out,
      specs.lse,
      specs.out,
    ],
    out_specs=[specs.qkv, specs.flat, per_head],
    out_shape=[
      jax.ShapeDtypeStruct(qkv.shape, qkv.dtype),
      jax.ShapeDtypeStruct(flat.shape, jnp.float32),
      jax.ShapeDtypeStruct((heads, 1, specs.block), jnp.float32),
    ],
    scratch_shapes=[
      pltpu.VMEM(specs.band.shape, jnp.float32),
      pltpu.VMEM(specs.band.shape, jnp.float32),
      pltpu.VMEM((channels, n), qkv.dtype),
      pltpu.VMEM((channels, n), jnp.float32),
      pltpu.VMEM((channels, n), jnp.float32),
    ],
    compiler_params=_COMPILER_PARAMS,
    interpret=interpret,
    name="key_semantic_attention_backward",
  )(scale, qkv, words, flat, out, lse, d_out)
  return d_qkv, None, jnp.sum(d_scale, axis=(1, 2)), d_flat


_attend.defvjp(_forward, _backward)

# The band of a head is filled by its first program and lives until its last.
_COMPILER_PARAMS = pltpu.CompilerParams(
  dimension_semantics=("parallel", "arbitrary", "arbitrary")
)


class _Specs:
  """Says which block of each array a program sees; grid: head, window, tile."""

  def __init__(self, qkv: jax.Array, flat: jax.Array):
    _, num_windows, heads, channels, n = qkv.shape
    self.band = Band(math.isqrt(n))
    self.block = min(n, MOST_QUERIES)
    self.grid = (heads, num_windows, n // self.block)
    self.scale = pl.BlockSpec(memory_space=pltpu.SMEM)
    self.qkv = pl.BlockSpec(
      (3, None, None, channels, n), lambda h, w, i: (0, w, h, 0, 0)
    )
    self.words = pl.BlockSpec(
      (None, self.band.side, self.block), lambda h, w, i: (w, 0, i)
    )
    self.flat = pl.BlockSpec((None, *flat.shape[1:]), lambda h, w, i: (h, 0, 0))
    self.out = pl.BlockSpec(
      (None, None, channels, self.block), lambda h, w, i: (w, h, 0, i)
    )
    self.lse = pl.BlockSpec(
      (None, None, 1, self.block), lambda h, w, i: (w, h, 0, i)
    )
