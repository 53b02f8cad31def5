"""Backward kernel of key-semantic attention on a TPU.

One kernel computes all gradients, with the grid of the forward pass. It makes
the weights again from the saved logarithms. With P the weights, O the output
and dO its gradient, of one head

  dV = dO P,  dS = P * (V^T dO - sum(dO * O)),  dband = sum of dS,
  dQ = scale * K dS,  dK = scale * Q dS,  dscale = sum of dQ * Q / scale.

What is summed over query tiles (dK, dV) and over windows (dband, dscale) stays
on chip for as long; a fixed order of sums gives equal bits.

Source: FlashAttention-2, Dao 2023; the band is [ours].
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from semanir_jax.ops.attention.pallas_band import (
  LOG2_E,
  Band,
  fill_band,
  fold_band,
)
from semanir_jax.ops.attention.pallas_forward import (
  as_operand,
  contract,
  find_queries,
  is_kept,
  operand_gradient,
)

KEYS_AT_ONCE = 256


def backward_kernel(
  scale_ref: Any,
  qkv_ref: Any,
  words_ref: Any,
  flat_ref: Any,
  out_ref: Any,
  lse_ref: Any,
  d_out_ref: Any,
  d_qkv_ref: Any,
  d_flat_ref: Any,
  d_scale_ref: Any,
  *scratch: Any,
  cosine: bool,
) -> None:
  """Computes dQ of a query tile, and its part of all other gradients.

  Arguments as of `forward_kernel`, whose results `out_ref` and `lse_ref` are,
  and besides:
    d_out_ref: `[D, Q]`, gradient of the output.
    d_qkv_ref: `[3, D, N]`, written when the last tile of the window is done.
    d_flat_ref: `[2, F]` float32, written when all windows of a head are done.
    d_scale_ref: `[1, Q]` float32, summed over the windows of a head.
    *scratch: the band and its gradient, of `Band.shape`; the keys, filled once
      for every window; gradients of keys and values, `[D, N]` float32.
  """
  band_ref, d_band_ref, key_ref, d_key_ref, d_value_ref = scratch
  n, block = qkv_ref.shape[-1], words_ref.shape[1]
  start, queries = find_queries(n, block)
  window, tile = pl.program_id(1), pl.program_id(2)
  last_tile = tile == n // block - 1
  scale = scale_ref[pl.program_id(0)]

  @pl.when((window == 0) & (tile == 0))
  def _() -> None:
    fill_band(flat_ref, band_ref)
    d_band_ref[...] = jnp.zeros_like(d_band_ref)
    d_scale_ref[...] = jnp.zeros_like(d_scale_ref)

  @pl.when(tile == 0)
  def _() -> None:
    key_ref[...] = as_operand(qkv_ref[1], cosine)
    d_key_ref[...] = jnp.zeros_like(d_key_ref)
    d_value_ref[...] = jnp.zeros_like(d_value_ref)

  query = as_operand(qkv_ref[0, :, queries], cosine)
  delta = out_ref[...].astype(jnp.float32) * d_out_ref[...].astype(jnp.float32)
  delta = jnp.sum(delta, axis=0, keepdims=True)
  of_queries = (scale * LOG2_E, delta, words_ref[...], lse_ref[...])
  value_ref, d_out = qkv_ref.at[2], d_out_ref[...]
  unscaled = _sum_over_keys(
    query, d_out, value_ref, of_queries, start, *scratch
  )
  d_query = operand_gradient(qkv_ref[0, :, queries], unscaled * scale, cosine)
  d_qkv_ref[0, :, queries] = d_query.astype(d_qkv_ref.dtype)
  parts = unscaled * query.astype(jnp.float32)
  d_scale_ref[...] += jnp.sum(parts, axis=0, keepdims=True)

  @pl.when(last_tile)
  def _() -> None:
    d_key = operand_gradient(qkv_ref[1], d_key_ref[...] * scale, cosine)
    d_qkv_ref[1] = d_key.astype(d_qkv_ref.dtype)
    d_qkv_ref[2] = d_value_ref[...].astype(d_qkv_ref.dtype)

  @pl.when((window == pl.num_programs(1) - 1) & last_tile)
  def _() -> None:
    fold_band(d_band_ref, d_flat_ref)


def _sum_over_keys(
  query: jax.Array,
  d_out: jax.Array,
  value_ref: Any,
  of_queries: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
  start: Any,
  band_ref: Any,
  d_band_ref: Any,
  key_ref: Any,
  d_key_ref: Any,
  d_value_ref: Any,
) -> jax.Array:
  """Adds a query tile's part to the gradients of keys, values and band.

  Args:
    query: `[D, Q]`, as the products take it.
    d_out: `[D, Q]`.
    value_ref: `[D, N]`.
    of_queries: see `_weigh`.
    start: first query of the tile.
    band_ref: this and what follows: `scratch` of `backward_kernel`.

  Returns:
    `[D, Q]` float32, the gradient of the query before the scale.
  """
  n, p = key_ref.shape[-1], of_queries[2].shape[0]
  unscaled = jnp.zeros(d_out.shape, jnp.float32)
  for first in range(0, n, KEYS_AT_ONCE):
    keys = slice(first, min(n, first + KEYS_AT_ONCE))
    key, value = key_ref[:, keys], value_ref[:, keys]
    weights, d_logits = _weigh(
      contract(key, query, 0, 0),
      contract(value, d_out, 0, 0),
      of_queries,
      (first // p, start),
      band_ref,
      d_band_ref,
    )
    weights = weights.astype(query.dtype)
    d_logits = d_logits.astype(query.dtype)
    d_value_ref[:, keys] += contract(d_out, weights, 1, 1)
    d_key_ref[:, keys] += contract(query, d_logits, 1, 1)
    unscaled += contract(key, d_logits, 1, 0)
  return unscaled


def _weigh(
  dots: jax.Array,
  d_weights: jax.Array,
  of_queries: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
  place: tuple[int, Any],
  band_ref: Any,
  d_band_ref: Any,
) -> tuple[jax.Array, jax.Array]:
  """Computes the weights of some rows of keys, and the gradient of the logits.

  Args:
    dots: `[K, Q]` float32, products of keys and queries.
    d_weights: `[K, Q]` float32, gradient of the weights.
    of_queries: factor of the products, sum(dO * O), mask words, logarithms.
    place: row of the first key, and first query.
    band_ref: see `backward_kernel`.
    d_band_ref: likewise; what is found here is added.

  Returns:
    Weights and gradient, `[K, Q]` float32.
  """
  scale, delta, words, lse = of_queries
  first_row, start = place
  p, block = words.shape
  weights, d_logits = [], []
  for i in range(dots.shape[0] // p):
    row, of_row = first_row + i, slice(i * p, i * p + p)
    index = Band(p).slice_of(row, start, block)
    logits = dots[of_row] * scale + band_ref[index]
    weight = jnp.where(is_kept(words, row), jnp.exp2(logits - lse), 0.0)
    d_logit = weight * (d_weights[of_row] - delta)
    d_band_ref[index] += d_logit
    weights.append(weight)
    d_logits.append(d_logit)
  return jnp.concatenate(weights, axis=0), jnp.concatenate(d_logits, axis=0)
