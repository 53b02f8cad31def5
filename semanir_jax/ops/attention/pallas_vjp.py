"""Key-semantic attention in Pallas kernels for TPUs, with its gradient."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from semanir_jax.ops.attention.pallas_backward import backward_kernel
from semanir_jax.ops.attention.pallas_band import Band
from semanir_jax.ops.attention.pallas_forward import forward_kernel
from semanir_jax.ops.chunks import ATTENDED

# Queries of a tile: the default limit of on-chip memory holds its logits.
MOST_QUERIES = 512
# D is padded to whole vectors of bfloat16 numbers.
ROWS = 16


def padded_channels(channels: int) -> int:
  """Returns D of the kernels for a head of `channels`."""
  return -(-channels // ROWS) * ROWS


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def attend(
  qkv: jax.Array,
  words: jax.Array,
  scale: jax.Array,
  flat: jax.Array,
  interpret: bool,
) -> jax.Array:
  """Attends over the dictionary without any N x N array in main memory.

  Under a mesh it has to be called inside `shard_map`.

  Args:
    qkv: `[3, W, A, D, N]` float32 or bfloat16: query, key and value of W
      windows; D a multiple of 16 (`padded_channels`), N = 64, 256 or 1024.
    words: `[W, P, N]` int32 of `dictionary.words.to_words`.
    scale: `[A]` float32.
    flat: `[A, 2, F]` float32 of `pallas_band.flatten_offsets`.
    interpret: runs the kernels as plain operations, on any machine.

  Returns:
    `[W, A, D, N]` in the dtype of `qkv`; differentiable in all but `words`. A
    row without any key (a broken input) gives the mean of all values and no
    gradient but that of none.
  """
  return _forward(qkv, words, scale, flat, interpret)[0]


def _forward(
  qkv: jax.Array,
  words: jax.Array,
  scale: jax.Array,
  flat: jax.Array,
  interpret: bool,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  """Returns the output and what the backward pass needs."""
  _, num_windows, heads, channels, n = qkv.shape
  specs = _Specs(qkv, flat)
  out, lse = pl.pallas_call(
    forward_kernel,
    grid=specs.grid,
    in_specs=[specs.scale, specs.qkv, specs.words, specs.flat],
    out_specs=[specs.out, specs.lse],
    out_shape=[
      jax.ShapeDtypeStruct((num_windows, heads, channels, n), qkv.dtype),
      jax.ShapeDtypeStruct((num_windows, heads, 1, n), jnp.float32),
    ],
    scratch_shapes=[
      pltpu.VMEM(specs.band.shape, jnp.float32),
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
  interpret: bool, saved: tuple[jax.Array, ...], d_out: jax.Array
) -> tuple[jax.Array | None, ...]:
  """Returns the gradients of the arrays of `attend`."""
  qkv, words, scale, flat, out, lse = saved
  _, _, heads, channels, n = qkv.shape
  specs = _Specs(qkv, flat)
  per_head = pl.BlockSpec((None, 1, specs.block), lambda h, w, i: (h, 0, 0))
  d_qkv, d_flat, d_scale = pl.pallas_call(
    backward_kernel,
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
      pltpu.VMEM((channels, n), jnp.float32),
      pltpu.VMEM((channels, n), jnp.float32),
    ],
    compiler_params=_COMPILER_PARAMS,
    interpret=interpret,
    name="key_semantic_attention_backward",
  )(scale, qkv, words, flat, out, lse, d_out)
  return d_qkv, None, jnp.sum(d_scale, axis=(1, 2)), d_flat


attend.defvjp(_forward, _backward)

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
