"""Forward kernel of key-semantic attention, and what all its kernels share.

A program owns a tile of a window and a head and walks over the tiles that hold
a selected pair. Arrays are read where they lie: token n of a window begins at
n * A * D, head a at a * D in it. D is widened to a power of two in registers
alone. Logits, softmax and sums are float32; the operands of the products keep
the dtype of the arrays. Names in capitals are constants of a compiled kernel:

  N, A, D: tokens, heads, channels of a head.
  WIDE_D: power of two, at least D and 16 (the least the matrix units take).
  BLOCK_Q, BLOCK_K: tokens of a query tile and of a key tile.
"""

import triton
import triton.language as tl

# float32 products in three TF32 passes: about as exact as float32, and on the
# matrix units. Other operands do not look at it.
PRECISION = tl.constexpr("tf32x3")
# Below every logit; finite, so that differences of two are never NaN.
LOWEST = tl.constexpr(-1e30)


@triton.jit
def find_tile(N: tl.constexpr, BLOCK: tl.constexpr):
  """Returns window (int64: offsets pass 2^31), head and tile of this program.

  The head is the slow axis of the grid: programs that run at the same time
  share one head's bias, which then stays in the L2 cache.
  """
  tiles: tl.constexpr = (N + BLOCK - 1) // BLOCK
  program = tl.program_id(0)
  window = (program // tiles).to(tl.int64)
  return window, tl.program_id(1).to(tl.int64), program % tiles


@triton.jit
def load_tokens(
  ptr,
  tokens,
  N: tl.constexpr,
  A: tl.constexpr,
  D: tl.constexpr,
  WIDE_D: tl.constexpr,
):
  """Loads `[tokens, WIDE_D]` of one head; zeros beyond D and beyond N."""
  d = tl.arange(0, WIDE_D)[None, :]
  inside = (tokens[:, None] < N) & (d < D)
  return tl.load(ptr + tokens[:, None] * (A * D) + d, mask=inside, other=0.0)


@triton.jit
def store_tokens(
  ptr,
  tokens,
  values,
  N: tl.constexpr,
  A: tl.constexpr,
  D: tl.constexpr,
  WIDE_D: tl.constexpr,
):
  """Stores what `load_tokens` loads, in the dtype of the array."""
  d = tl.arange(0, WIDE_D)[None, :]
  inside = (tokens[:, None] < N) & (d < D)
  values = values.to(ptr.dtype.element_ty)
  tl.store(ptr + tokens[:, None] * (A * D) + d, values, mask=inside)


@triton.jit
def load_bias(ptr, queries, keys, N: tl.constexpr):
  """Loads the bias of a tile, to which `queries` and `keys` broadcast."""
  inside = (queries < N) & (keys < N)
  return tl.load(ptr + queries * N + keys, mask=inside, other=0.0)


@triton.jit
def load_words(
  ptr, queries, keys, first_key, N: tl.constexpr, BLOCK_K: tl.constexpr
):
  """Loads the word that holds the bit of each pair of a tile.

  Every thread reads the few words of its own rows, rather than one word for
  each pair, or a mask from shared memory.
  """
  words: tl.constexpr = (N + 31) // 32
  first_word = first_key // 32
  # Past the end of a row lie the words of the next, for keys that are none.
  offsets = queries * words + first_word
  word = tl.load(ptr + offsets, mask=offsets < N * words, other=0)
  # Triton's class of a range has no `__next__`: its compiler unrolls the loop.
  for i in tl.static_range(1, BLOCK_K // 32):  # pyright: ignore[reportGeneralTypeIssues]
    inside = offsets + i < N * words
    following = tl.load(ptr + offsets + i, mask=inside, other=0)
    word = tl.where(keys // 32 == first_word + i, following, word)
  return word


@triton.jit
def mask_logits(logits, word, keys, N: tl.constexpr):
  """Sets all pairs that are not selected to -inf."""
  selected = ((word >> (keys % 32).to(tl.uint32)) & 1) != 0
  return tl.where(selected & (keys < N), logits, float("-inf"))


@triton.jit
def forward_kernel(
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
  N: tl.constexpr,
  A: tl.constexpr,
  D: tl.constexpr,
  WIDE_D: tl.constexpr,
  BLOCK_Q: tl.constexpr,
  BLOCK_K: tl.constexpr,
):
  """Computes a query tile: its output and the log of its sums of exponentials.

  `tiles` `[G, N / BLOCK_Q, N / BLOCK_K]` lists the key tiles to visit, `counts`
  `[G, N / BLOCK_Q]` how many. A row without any key gives zeros.
  """
  words: tl.constexpr = (N + 31) // 32
  key_tiles: tl.constexpr = (N + BLOCK_K - 1) // BLOCK_K
  window, head, tile = find_tile(N, BLOCK_Q)
  head_offset = window * (N * A * D) + head * D
  bits_ptr += window * (N * words)
  bias_ptr += head * (N * N)
  scale = tl.load(scale_ptr + head)
  queries = tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
  rows = queries[:, None]
  query = load_tokens(query_ptr + head_offset, queries, N, A, D, WIDE_D)
  highest = tl.full((BLOCK_Q,), LOWEST, tl.float32)
  total = tl.zeros((BLOCK_Q,), tl.float32)
  out = tl.zeros((BLOCK_Q, WIDE_D), tl.float32)
  row = tl.program_id(0).to(tl.int64)
  for i in range(tl.load(counts_ptr + row)):
    first_key = tl.load(tiles_ptr + row * key_tiles + i) * BLOCK_K
    keys = first_key + tl.arange(0, BLOCK_K)
    key = load_tokens(key_ptr + head_offset, keys, N, A, D, WIDE_D)
    value = load_tokens(value_ptr + head_offset, keys, N, A, D, WIDE_D)
    columns = keys[None, :]
    bias = load_bias(bias_ptr, rows, columns, N)
    word = load_words(bits_ptr, rows, columns, first_key, N, BLOCK_K)
    dots = tl.dot(query, tl.trans(key), input_precision=PRECISION)
    logits = mask_logits(dots * scale + bias, word, columns, N)
    higher = tl.maximum(highest, tl.max(logits, 1))
    weights = tl.exp(logits - higher[:, None])
    shrink = tl.exp(highest - higher)
    total = total * shrink + tl.sum(weights, 1)
    weights = weights.to(value.dtype)
    out = tl.dot(
      weights, value, out * shrink[:, None], input_precision=PRECISION
    )
    highest = higher
  total = tl.where(total == 0.0, 1.0, total)
  out = out / total[:, None]
  store_tokens(out_ptr + head_offset, queries, out, N, A, D, WIDE_D)
  lse_ptr += (window * A + head) * N
  tl.store(lse_ptr + queries, highest + tl.log(total), mask=queries < N)
