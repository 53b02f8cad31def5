"""The key-semantic dictionary in Triton kernels.

A program holds a few rows of the similarity on chip, in registers, and selects
there: the N x N similarity is never stored, and it is computed once. To compute
it again at every step of the search would take no registers but 33 times the
products; a row of 4096 float32 scores is 16 KiB, so a row fits for every window
that a dictionary of N^2 bits is worth building for (`MOST_TOKENS`).

The set is that of `selection.select_bits`, bit for bit where a score is the
same float32 in both. Sums of C products depend on their order by some units in
the last place, so keys that tie but for that may be chosen otherwise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import triton
import triton.language as tl
from jax import lax

from semanir_jax.ops import triton_launch
from semanir_jax.ops.bits import WORD
from semanir_jax.ops.dictionary.selection import Dictionary
from semanir_jax.ops.triton_launch import Launcher, launch

# Scores of a program: 64 registers of each of 256 threads.
SCORES = 1 << 14
MOST_ROWS = 64
# For more, the keys of a tile of float32 channels would not fit on chip.
MOST_TOKENS = 4096
# 64 and 32 bytes of a token at a time.
CHANNELS = {2: 32, 4: 16}

# Magnitude below which a score is denormal, and means zero.
TINY = tl.constexpr(2.0**-126)
# -inf as `ordered_image` maps it; below lies only what is not connected.
NOT_CONNECTED = tl.constexpr(0x007FFFFF)


def build_dictionary_triton(
  features: jax.Array,
  num_keys: jax.Array | int,
  *,
  regions: jax.Array | np.ndarray | None = None,
  max_keys: int | None = None,
  launcher: Launcher = launch,
) -> Dictionary:
  """Does what `api.build_dictionary` does, on NVIDIA GPUs.

  Under a mesh it has to be called inside `shard_map`: elsewhere its inputs
  would be gathered.

  Args:
    features: `[B, G, N, C]` float32, bfloat16 or float16, N at most
      `MOST_TOKENS`. Scores are products in that dtype, summed in float32.
    num_keys: k in [1, N], or in [1, K]; may be traced.
    regions: `[G, N]` integer shift regions, or None.
    max_keys: K, for the indices form; None for bits.
    launcher: runs a kernel.

  Returns:
    The dictionary; indices of a row ascend.
  """
  b, g, n, c = features.shape
  if regions is None:
    regions = jnp.zeros((1, n), jnp.int32)
  wide_n = max(WORD, 1 << (n - 1).bit_length())
  constants = {
    "N": n,
    "BLOCK_Q": min(MOST_ROWS, max(16, wide_n), SCORES // wide_n),
    "WIDE_N": wide_n,
    "num_warps": 8 if wide_n >= 256 else 4,
    "num_stages": 2,
    "compute_capability": triton_launch.compute_capability(),
  }
  programs = (b * g * -(-n // constants["BLOCK_Q"]),)
  (bits,) = launcher(
    select_kernel,
    programs,
    (
      lax.stop_gradient(features),
      jnp.asarray(regions, jnp.int32),
      jnp.asarray(num_keys, jnp.int32).reshape(1),
    ),
    (jax.ShapeDtypeStruct((b, g, n, -(-n // WORD)), jnp.uint32),),
    C=c,
    G=regions.shape[0],
    BLOCK_C=CHANNELS[features.dtype.itemsize],
    **constants,
  )
  if max_keys is None:
    return Dictionary(bits=bits)
  (indices,) = launcher(
    list_keys_kernel,
    programs,
    (bits,),
    (jax.ShapeDtypeStruct((b, g, n, max_keys), jnp.int32),),
    K=max_keys,
    **constants,
  )
  counts = jnp.sum(lax.population_count(bits), axis=-1, dtype=jnp.int32)
  return Dictionary(
    indices=indices, valid=jnp.arange(max_keys) < counts[..., None]
  )


@triton.jit
def ordered_image(x):
  """Maps float32 to uint32 of the same order."""
  raw = x.to(tl.int32, bitcast=True)
  flipped = raw ^ ((raw >> 31) & 0x7FFFFFFF)
  return flipped.to(tl.uint32, bitcast=True) ^ 0x80000000


@triton.jit
def similarity(
  features_ptr,
  queries,
  keys,
  N: tl.constexpr,
  C: tl.constexpr,
  BLOCK_C: tl.constexpr,
):
  """Computes scores `[queries, keys]` of tokens of a window, zeros beyond N."""
  scores = tl.zeros((queries.shape[0], keys.shape[0]), tl.float32)
  for first in range(0, C, BLOCK_C):
    channels = first + tl.arange(0, BLOCK_C)
    query = tl.load(
      features_ptr + queries[:, None] * C + channels[None, :],
      mask=(queries[:, None] < N) & (channels[None, :] < C),
      other=0.0,
    )
    key = tl.load(
      features_ptr + keys[None, :] * C + channels[:, None],
      mask=(keys[None, :] < N) & (channels[:, None] < C),
      other=0.0,
    )
    scores = tl.dot(query, key, scores, input_precision="ieee")
  # The same as in `selection.similarity`: -0 and denormals tie with +0.
  return tl.where(tl.abs(scores) < TINY, 0.0, scores)


@triton.jit
def select_kernel(
  features_ptr,
  regions_ptr,
  num_keys_ptr,
  bits_ptr,
  N: tl.constexpr,
  C: tl.constexpr,
  G: tl.constexpr,
  BLOCK_Q: tl.constexpr,
  WIDE_N: tl.constexpr,
  BLOCK_C: tl.constexpr,
):
  """Finds the bits of BLOCK_Q rows of a window; regions are `[G, N]`."""
  tiles: tl.constexpr = (N + BLOCK_Q - 1) // BLOCK_Q
  words: tl.constexpr = (N + 31) // 32
  # int64: offsets of a large batch pass 2^31.
  window = (tl.program_id(0) // tiles).to(tl.int64)
  queries = tl.program_id(0) % tiles * BLOCK_Q + tl.arange(0, BLOCK_Q)
  keys = tl.arange(0, WIDE_N)
  # Even and odd keys one after the other: half the keys lie on chip at a time.
  features_ptr += window * (N * C)
  even = 2 * tl.arange(0, WIDE_N // 2)
  scores = tl.interleave(
    similarity(features_ptr, queries, even, N, C, BLOCK_C),
    similarity(features_ptr, queries, even + 1, N, C, BLOCK_C),
  )
  regions_ptr += window % G * N
  query_region = tl.load(regions_ptr + queries, mask=queries < N, other=0)
  key_region = tl.load(regions_ptr + keys, mask=keys < N, other=0)
  connected = (query_region[:, None] == key_region[None, :]) & (keys < N)[None]
  ordered = tl.where(connected, ordered_image(scores), 0)
  num_keys = tl.load(num_keys_ptr)
  # The largest threshold that k scores reach: the k-th largest score.
  threshold = tl.zeros((BLOCK_Q,), tl.uint32)
  for i in range(32):
    candidate = threshold | (tl.full((), 1, tl.uint32) << (31 - i))
    reached = tl.sum((ordered >= candidate[:, None]).to(tl.int32), 1)
    threshold = tl.where(reached >= num_keys, candidate, threshold)
  above = ordered > threshold[:, None]
  tied = ordered == threshold[:, None]
  room = num_keys - tl.sum(above.to(tl.int32), 1)
  # The largest bound below which there are not too many tied keys.
  bound = tl.zeros((BLOCK_Q,), tl.int32)
  step = WIDE_N
  while step > 0:
    candidate = bound + step
    ahead = tied & (keys[None, :] < candidate[:, None])
    fits = tl.sum(ahead.to(tl.int32), 1) <= room
    bound = tl.where(fits, candidate, bound)
    step //= 2
  selected = above | (tied & (keys[None, :] < bound[:, None]))
  selected &= ordered > NOT_CONNECTED
  lanes = tl.reshape(selected.to(tl.uint32), (BLOCK_Q, WIDE_N // 32, 32))
  packed = tl.sum(lanes << tl.arange(0, 32).to(tl.uint32)[None, None, :], 2)
  word = tl.arange(0, WIDE_N // 32)
  tl.store(
    bits_ptr + (window * N + queries[:, None]) * words + word[None, :],
    packed,
    mask=(queries[:, None] < N) & (word[None, :] < words),
  )


@triton.jit
def list_keys_kernel(
  bits_ptr,
  indices_ptr,
  N: tl.constexpr,
  K: tl.constexpr,
  BLOCK_Q: tl.constexpr,
  WIDE_N: tl.constexpr,
):
  """Lists the keys of BLOCK_Q rows; those not selected fill the end."""
  tiles: tl.constexpr = (N + BLOCK_Q - 1) // BLOCK_Q
  words: tl.constexpr = (N + 31) // 32
  window = (tl.program_id(0) // tiles).to(tl.int64)
  queries = tl.program_id(0) % tiles * BLOCK_Q + tl.arange(0, BLOCK_Q)
  keys = tl.arange(0, WIDE_N)[None, :]
  rows = (window * N + queries)[:, None]
  inside = (queries < N)[:, None] & (keys < N)
  word = tl.load(bits_ptr + rows * words + keys // 32, mask=inside, other=0)
  selected = ((word >> (keys % 32).to(tl.uint32)) & 1).to(tl.int32)
  before = tl.cumsum(selected, 1) - selected
  count = tl.expand_dims(tl.sum(selected, 1), 1)
  place = tl.where(selected != 0, before, count + keys - before)
  tl.store(
    indices_ptr + rows * K + place,
    keys + tl.zeros_like(place),
    mask=inside & (place < K),
  )
