"""Key-semantic attention in Triton kernels, with its gradient."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from semanir_jax.ops import triton_launch
from semanir_jax.ops.attention import tile_table
from semanir_jax.ops.attention.tile_table import choose_tiles
from semanir_jax.ops.attention.triton_backward import (
  bias_gradient_kernel,
  key_value_gradient_kernel,
  query_gradient_kernel,
)
from semanir_jax.ops.attention.triton_forward import forward_kernel
from semanir_jax.ops.chunks import ATTENDED
from semanir_jax.ops.triton_launch import Launcher, launch

# Of the gradient of the bias: programs that fill a GPU of 132 cores, and the
# least number of windows that one of them sums, so that partial sums stay few.
BIAS_PROGRAMS = 1024
WINDOWS_PER_PART = 8


def key_semantic_attention_triton(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bits: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  *,
  launcher: Launcher = launch,
) -> jax.Array:
  """Attends over the dictionary without any N x N array of a window.

  Tiles without a selected pair are skipped. The backward pass recomputes the
  weights; the gradient of the bias is summed over windows tile by tile. All
  sums have a fixed order: equal inputs give equal bits. Under a mesh it has to
  be called inside `shard_map`: elsewhere its inputs would be gathered.

  Args:
    query: `[B, G, N, A, D]` float32, bfloat16 or float16; any N, any D.
    key: same shape and dtype.
    value: same shape and dtype.
    bits: `[B, G, N, ceil(N / 32)]` uint32, `Dictionary.bits`.
    scale: `[A]` float32.
    bias: `[A, N, N]` float32.
    launcher: runs a kernel.

  Returns:
    `[B, G, N, A, D]` in the dtype of `query`; differentiable in all but `bits`.
    A row without any key (a broken input) gives zeros and no gradient.
  """
  capability = triton_launch.compute_capability()
  scale, bias = scale.astype(jnp.float32), bias.astype(jnp.float32)
  return _attend(query, key, value, bits, scale, bias, capability, launcher)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bits: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  capability: int,
  launcher: Launcher,
) -> jax.Array:
  inputs = (query, key, value, bits, scale, bias)
  return _forward(*inputs, capability, launcher)[0]


def _forward(*arguments: Any) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  """Returns the output and what the backward pass needs, of `_attend`."""
  *inputs, capability, launcher = arguments
  query, bits = inputs[0], inputs[3]
  b, g, n, a, _ = query.shape
  constants = _constants(tile_table.FORWARD, query, capability)
  occupied = _occupied_tiles(bits, constants)
  out, lse = launcher(
    forward_kernel,
    (occupied.shape[0] * occupied.shape[1], a),
    (*inputs, *_list_true(occupied)),
    (
      jax.ShapeDtypeStruct(query.shape, query.dtype),
      jax.ShapeDtypeStruct((b, g, a, n), jnp.float32),
    ),
    **constants,
  )
  # Else a `jax.checkpoint` that keeps the output would run the kernel again.
  out, lse = checkpoint_name((out, lse), ATTENDED)
  return out, (*inputs, out, lse)


def _backward(
  capability: int,
  launcher: Launcher,
  saved: tuple[jax.Array, ...],
  d_out: jax.Array,
) -> tuple[jax.Array | None, ...]:
  """Returns the gradients of the arrays of `_attend`."""
  *inputs, out, lse = saved
  query, bits = inputs[0], inputs[3]
  a = query.shape[3]
  like_query = jax.ShapeDtypeStruct(query.shape, query.dtype)
  constants = _constants(tile_table.QUERY_GRADIENT, query, capability)
  occupied = _occupied_tiles(bits, constants)
  programs = occupied.shape[0] * occupied.shape[1]
  d_query, delta, d_scale = launcher(
    query_gradient_kernel,
    (programs, a),
    (*inputs, *_list_true(occupied), out, lse, d_out),
    (
      like_query,
      jax.ShapeDtypeStruct(lse.shape, jnp.float32),
      jax.ShapeDtypeStruct((a, programs), jnp.float32),
    ),
    **constants,
  )
  rows = (lse, delta, d_out)
  constants = _constants(tile_table.KEY_VALUE_GRADIENT, query, capability)
  occupied = _occupied_tiles(bits, constants).swapaxes(1, 2)
  d_key, d_value = launcher(
    key_value_gradient_kernel,
    (occupied.shape[0] * occupied.shape[1], a),
    (*inputs, *_list_true(occupied), *rows),
    (like_query, like_query),
    **constants,
  )
  d_bias = _bias_gradient(inputs, rows, capability, launcher)
  return d_query, d_key, d_value, None, jnp.sum(d_scale, axis=1), d_bias


_attend.defvjp(_forward, _backward)


def _bias_gradient(
  inputs: list[jax.Array],
  rows: tuple[jax.Array, ...],
  capability: int,
  launcher: Launcher,
) -> jax.Array:
  """Returns `[A, N, N]`, in a few partial sums of many windows each."""
  query, bits = inputs[0], inputs[3]
  n, a = query.shape[2:4]
  constants = _constants(tile_table.BIAS_GRADIENT, query, capability)
  occupied = _occupied_tiles(bits, constants)
  windows, tiles_q, tiles_k = occupied.shape
  wanted = -(-BIAS_PROGRAMS // (a * tiles_q * tiles_k))
  most = -(-windows // max(1, min(wanted, windows // WINDOWS_PER_PART)))
  parts = -(-windows // most)
  padding = ((0, parts * most - windows), (0, 0), (0, 0))
  by_part = jnp.pad(occupied, padding).reshape(parts, most, tiles_q, tiles_k)
  listed, counts = _list_true(jnp.moveaxis(by_part, 1, -1))
  listed += most * jnp.arange(parts, dtype=jnp.int32)[:, None, None, None]
  (d_bias,) = launcher(
    bias_gradient_kernel,
    (parts * tiles_q * tiles_k, a),
    (*inputs, listed, counts, *rows),
    (jax.ShapeDtypeStruct((parts, a, n, n), jnp.float32),),
    MOST=most,
    **constants,
  )
  return jnp.sum(d_bias, axis=0)


def _constants(
  kernel: str, query: jax.Array, capability: int
) -> dict[str, int]:
  """Returns what a kernel is compiled for."""
  _, _, n, a, d = query.shape
  tiles = choose_tiles(kernel, n, query.dtype.itemsize, capability)
  return {
    "N": n,
    "A": a,
    "D": d,
    "WIDE_D": max(16, 1 << (d - 1).bit_length()),
    "BLOCK_Q": tiles.block_q,
    "BLOCK_K": tiles.block_k,
    "num_warps": tiles.num_warps,
    "num_stages": tiles.num_stages,
    "compute_capability": capability,
  }


def _occupied_tiles(bits: jax.Array, constants: dict[str, int]) -> jax.Array:
  """Says which tiles hold a selected pair: bool `[windows, tiles, tiles]`."""
  n, num_words = bits.shape[2:]
  block_q, words = constants["BLOCK_Q"], constants["BLOCK_K"] // 32
  tiles_q, tiles_k = math.ceil(n / block_q), math.ceil(num_words / words)
  padding = (tiles_q * block_q - n, tiles_k * words - num_words)
  bits = bits.reshape(-1, n, num_words)
  bits = jnp.pad(bits, ((0, 0), (0, padding[0]), (0, padding[1])))
  bits = bits.reshape(-1, tiles_q, block_q, tiles_k, words)
  return jnp.any(bits != 0, axis=(2, 4))


def _list_true(flags: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Lists the Trues of each row `[..., T]` in order, and counts them."""
  order = jnp.argsort(~flags, axis=-1, stable=True)
  counts = jnp.sum(flags, axis=-1, dtype=jnp.int32)
  return order.astype(jnp.int32), counts
