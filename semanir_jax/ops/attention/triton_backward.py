"""Backward kernels of key-semantic attention.

Each recomputes the weights of its tiles from the saved log-sum-exp and owns
what it writes: no atomic additions, so that the same inputs give the same
gradients. With P the weights, O the output and dO its gradient, of one head

  dV = P^T dO,  dS = P * (dO V^T - rowsum(dO * O)),  dbias = sum of dS,
  dQ = scale * dS K,  dK = scale * dS^T Q,  dscale = sum of dS * (Q K^T).

Source: FlashAttention-2, Dao 2023; the split by what a program owns is [ours].
"""

import triton
import triton.language as tl

from semanir_jax.ops.attention.triton_forward import (
  PRECISION,
  find_tile,
  load_bias,
  load_tokens,
  load_words,
  mask_logits,
  store_tokens,
)


@triton.jit
def query_gradient_kernel(
  query_ptr,
  key_ptr,
  value_ptr,
  bits_ptr,
  scale_ptr,
  bias_ptr,
  tiles_ptr,
  counts_ptr,
  out_ptr,
  lse_ptr,
  d_out_ptr,
  d_query_ptr,
  delta_ptr,
  d_scale_ptr,
  N: tl.constexpr,
  A: tl.constexpr,
  D: tl.constexpr,
  WIDE_D: tl.constexpr,
  BLOCK_Q: tl.constexpr,
  BLOCK_K: tl.constexpr,
):
  """Computes dQ of a query tile, its part of dscale, and rowsum(dO * O).

  `tiles` and `counts` as in the forward kernel.
  """
  words: tl.constexpr = (N + 31) // 32
  key_tiles: tl.constexpr = (N + BLOCK_K - 1) // BLOCK_K
  window, head, tile = find_tile(N, BLOCK_Q)
  head_offset = window * (N * A * D) + head * D
  row_offset = (window * A + head) * N
  bits_ptr += window * (N * words)
  bias_ptr += head * (N * N)
  scale = tl.load(scale_ptr + head)
  queries = tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
  rows = queries[:, None]
  query = load_tokens(query_ptr + head_offset, queries, N, A, D, WIDE_D)
  out = load_tokens(out_ptr + head_offset, queries, N, A, D, WIDE_D)
  d_out = load_tokens(d_out_ptr + head_offset, queries, N, A, D, WIDE_D)
  lse = tl.load(lse_ptr + row_offset + queries, mask=queries < N, other=0.0)
  delta = tl.sum(out.to(tl.float32) * d_out.to(tl.float32), 1)
  rest = tl.zeros((BLOCK_Q,), tl.float32)
  mean_dot = tl.zeros((BLOCK_Q,), tl.float32)
  d_scale = tl.zeros((BLOCK_Q,), tl.float32)
  unscaled = tl.zeros((BLOCK_Q, WIDE_D), tl.float32)
  row = tl.program_id(0).to(tl.int64)
  for i in range(tl.load(counts_ptr + row)):
    first_key = tl.load(tiles_ptr + row * key_tiles + i) * BLOCK_K
    keys = first_key + tl.arange(0, BLOCK_K)
    key = load_tokens(key_ptr + head_offset, keys, N, A, D, WIDE_D)
    value = load_tokens(value_ptr + head_offset, keys, N, A, D, WIDE_D)
    columns = keys[None, :]
    bias = load_bias(bias_ptr, rows, columns, N)
    dots = tl.dot(query, tl.trans(key), input_precision=PRECISION)
    word = load_words(bits_ptr, rows, columns, first_key, N, BLOCK_K)
    logits = mask_logits(dots * scale + bias, word, columns, N)
    weights = tl.exp(logits - lse[:, None])
    d_weights = tl.dot(d_out, tl.trans(value), input_precision=PRECISION)
    # Triton's annotations know no index but of a constexpr.
    deltas = delta[:, None]  # pyright: ignore[reportArgumentType]
    d_logits = weights * (d_weights - deltas)
    rest += tl.sum(d_logits, 1)
    mean_dot += tl.sum(weights * dots, 1)
    d_scale += tl.sum(d_logits * dots, 1)
    d_logits = d_logits.to(key.dtype)
    unscaled = tl.dot(d_logits, key, unscaled, input_precision=PRECISION)
  d_query = unscaled * scale
  store_tokens(d_query_ptr + head_offset, queries, d_query, N, A, D, WIDE_D)
  # dS of a row sums to zero, but for the rounding of O in rowsum(dO * O).
  tl.store(delta_ptr + row_offset + queries, delta + rest, mask=queries < N)
  d_scale = tl.sum(d_scale - rest * mean_dot)
  tl.store(d_scale_ptr + head * tl.num_programs(0) + row, d_scale)


@triton.jit
def key_value_gradient_kernel(
  query_ptr,
  key_ptr,
  value_ptr,
  bits_ptr,
  scale_ptr,
  bias_ptr,
  tiles_ptr,
  counts_ptr,
  lse_ptr,
  delta_ptr,
  d_out_ptr,
  d_key_ptr,
  d_value_ptr,
  N: tl.constexpr,
  A: tl.constexpr,
  D: tl.constexpr,
  WIDE_D: tl.constexpr,
  BLOCK_Q: tl.constexpr,
  BLOCK_K: tl.constexpr,
):
  """Computes dK and dV of a key tile.

  `tiles` `[G, N / BLOCK_K, N / BLOCK_Q]` lists the query tiles to visit. All
  tiles of pairs are transposed, `[BLOCK_K, BLOCK_Q]`: the products that sum
  over queries then take weights from registers as they are.
  """
  words: tl.constexpr = (N + 31) // 32
  query_tiles: tl.constexpr = (N + BLOCK_Q - 1) // BLOCK_Q
  window, head, tile = find_tile(N, BLOCK_K)
  head_offset = window * (N * A * D) + head * D
  row_offset = (window * A + head) * N
  bits_ptr += window * (N * words)
  bias_ptr += head * (N * N)
  scale = tl.load(scale_ptr + head)
  first_key = tile * BLOCK_K
  keys = first_key + tl.arange(0, BLOCK_K)
  columns = keys[:, None]
  key = load_tokens(key_ptr + head_offset, keys, N, A, D, WIDE_D)
  value = load_tokens(value_ptr + head_offset, keys, N, A, D, WIDE_D)
  d_key = tl.zeros((BLOCK_K, WIDE_D), tl.float32)
  d_value = tl.zeros((BLOCK_K, WIDE_D), tl.float32)
  row = tl.program_id(0).to(tl.int64)
  for i in range(tl.load(counts_ptr + row)):
    first_query = tl.load(tiles_ptr + row * query_tiles + i) * BLOCK_Q
    queries = first_query + tl.arange(0, BLOCK_Q)
    query = load_tokens(query_ptr + head_offset, queries, N, A, D, WIDE_D)
    d_out = load_tokens(d_out_ptr + head_offset, queries, N, A, D, WIDE_D)
    row_ptrs = row_offset + queries
    lse = tl.load(lse_ptr + row_ptrs, mask=queries < N, other=0.0)
    delta = tl.load(delta_ptr + row_ptrs, mask=queries < N, other=0.0)
    rows = queries[None, :]
    bias = load_bias(bias_ptr, rows, columns, N)
    dots = tl.dot(key, tl.trans(query), input_precision=PRECISION)
    word = load_words(bits_ptr, rows, columns, first_key, N, BLOCK_K)
    logits = mask_logits(dots * scale + bias, word, columns, N)
    weights = tl.exp(logits - lse[None, :])
    d_value = tl.dot(
      weights.to(d_out.dtype), d_out, d_value, input_precision=PRECISION
    )
    d_weights = tl.dot(value, tl.trans(d_out), input_precision=PRECISION)
    d_logits = (weights * (d_weights - delta[None, :])).to(query.dtype)
    d_key = tl.dot(d_logits, query, d_key, input_precision=PRECISION)
  store_tokens(d_value_ptr + head_offset, keys, d_value, N, A, D, WIDE_D)
  store_tokens(d_key_ptr + head_offset, keys, d_key * scale, N, A, D, WIDE_D)


@triton.jit
def bias_gradient_kernel(
  query_ptr,
  key_ptr,
  value_ptr,
  bits_ptr,
  scale_ptr,
  bias_ptr,
  windows_ptr,
  counts_ptr,
  lse_ptr,
  delta_ptr,
  d_out_ptr,
  d_bias_ptr,
  MOST: tl.constexpr,
  N: tl.constexpr,
  A: tl.constexpr,
  D: tl.constexpr,
  WIDE_D: tl.constexpr,
  BLOCK_Q: tl.constexpr,
  BLOCK_K: tl.constexpr,
):
  """Computes a tile of dbias, summed over the windows of one part of them.

  `windows` `[parts, N / BLOCK_Q, N / BLOCK_K, MOST]` lists the windows in which
  the tile holds a selected pair; dbias is `[parts, A, N, N]`.
  """
  words: tl.constexpr = (N + 31) // 32
  key_tiles: tl.constexpr = (N + BLOCK_K - 1) // BLOCK_K
  query_tiles: tl.constexpr = (N + BLOCK_Q - 1) // BLOCK_Q
  tiles: tl.constexpr = query_tiles * key_tiles
  # Triton makes a constexpr of a number where one is annotated.
  part, head, tile = find_tile(tiles, 1)  # pyright: ignore[reportArgumentType]
  first_key = tile % key_tiles * BLOCK_K
  keys = first_key + tl.arange(0, BLOCK_K)
  queries = tile // key_tiles * BLOCK_Q + tl.arange(0, BLOCK_Q)
  rows, columns = queries[:, None], keys[None, :]
  bias_ptr += head * (N * N)
  scale = tl.load(scale_ptr + head)
  bias = load_bias(bias_ptr, rows, columns, N)
  d_bias = tl.zeros((BLOCK_Q, BLOCK_K), tl.float32)
  row = tl.program_id(0).to(tl.int64)
  for i in range(tl.load(counts_ptr + row)):
    window = tl.load(windows_ptr + row * MOST + i).to(tl.int64)
    head_offset = window * (N * A * D) + head * D
    row_ptrs = (window * A + head) * N + queries
    query = load_tokens(query_ptr + head_offset, queries, N, A, D, WIDE_D)
    key = load_tokens(key_ptr + head_offset, keys, N, A, D, WIDE_D)
    value = load_tokens(value_ptr + head_offset, keys, N, A, D, WIDE_D)
    d_out = load_tokens(d_out_ptr + head_offset, queries, N, A, D, WIDE_D)
    lse = tl.load(lse_ptr + row_ptrs, mask=queries < N, other=0.0)
    delta = tl.load(delta_ptr + row_ptrs, mask=queries < N, other=0.0)
    dots = tl.dot(query, tl.trans(key), input_precision=PRECISION)
    window_ptr = bits_ptr + window * (N * words)
    word = load_words(window_ptr, rows, columns, first_key, N, BLOCK_K)
    logits = mask_logits(dots * scale + bias, word, columns, N)
    weights = tl.exp(logits - lse[:, None])
    d_weights = tl.dot(d_out, tl.trans(value), input_precision=PRECISION)
    d_bias += weights * (d_weights - delta[:, None])
  d_bias_ptr += (part * A + head) * (N * N)
  inside = (rows < N) & (columns < N)
  tl.store(d_bias_ptr + rows * N + columns, d_bias, mask=inside)
