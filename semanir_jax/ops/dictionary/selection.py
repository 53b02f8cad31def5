"""The key-semantic dictionary: which keys each token of a window attends to.

One selection in two forms. `bits` is one bit per token pair, 32 times smaller
than a float mask; `indices` lists the keys of each token. Both keep the same
set: the `num_keys` most similar tokens, ties to the lower index, never a token
of another shift region.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from semanir_jax.ops.bits import WORD, lowest_bits, pack_bits

_LEAST = np.uint32(1 << 23)  # `_from_ordered` maps it to the least float32


@struct.dataclass
class Dictionary:
  """The keys selected for every token, in one form or the other.

  Attributes:
    bits: `[B, G, N, ceil(N / 32)]` uint32; bit b of word w of row i says
      whether token i attends to key 32 * w + b. None in the indices form.
    indices: `[B, G, N, K]` int32 in [0, N), those of a row all different; their
      order means nothing. None in the bits form.
    valid: `[B, G, N, K]` bool; False where a row has fewer than K keys, because
      `num_keys` < K or its shift region is small. None in the bits form.
    words: `[B * G, P, N]` int32, the bits as the kernels of a TPU read them
      (`words.to_words`); None where nobody has made them.
  """

  bits: jax.Array | None = None
  indices: jax.Array | None = None
  valid: jax.Array | None = None
  words: jax.Array | None = None


def similarity(
  features: jax.Array, regions: jax.Array | None = None
) -> jax.Array:
  """Computes the dot product of every pair of tokens of a window: P P^T.

  Args:
    features: `[B, G, N, C]` float; the window's tokens at the stage's entry.
    regions: `[B, G, N]` integer; tokens of different regions are never
      connected.

  Returns:
    `[B, G, N, N]` float32, accumulated in float32; -inf between regions. No
    gradient flows through it. Zeros of either sign and denormal numbers are
    all made +0, so that they tie on every backend: some flush denormals, and
    sorts differ in whether -0 comes before +0.

  Source: SemanIR, NeurIPS 2024, section 3 [paper]; regions [ours].
  """
  features = lax.stop_gradient(features)
  scores = jnp.einsum(
    "bgnc,bgmc->bgnm",
    features,
    features,
    preferred_element_type=jnp.float32,
    # float32 features keep float32 products on TPU and GPU too; bfloat16
    # features are exact in one pass, so there the request costs nothing.
    precision=lax.Precision.HIGHEST,
  )
  tiny = jnp.finfo(jnp.float32).tiny
  scores = jnp.where(jnp.abs(scores) < tiny, 0.0, scores)
  return scores if regions is None else disconnect(scores, regions)


def disconnect(scores: jax.Array | np.ndarray, regions: jax.Array) -> jax.Array:
  """Sets scores `[..., N, N]` to -inf between other regions `[..., N]`."""
  same = regions[..., :, None] == regions[..., None, :]
  return jnp.where(same, scores, -jnp.inf)


def select_bits(
  scores: jax.Array,
  num_keys: jax.Array | int,
  *,
  platform: str | None = None,
) -> jax.Array:
  """Selects the `num_keys` largest scores of each row, as packed bits.

  Finds each row's num_keys-th largest score by bisection over the 32 bits of an
  order-preserving integer image of float32. Unlike a comparison with a
  threshold alone, exactly `num_keys` entries stay when scores tie (flat image
  areas tie by the hundred). The ties are counted in words: a running count over
  N numbers took a CPU as long as the bisection.

  Args:
    scores: `[..., N, N]` float32 without denormals; -inf marks pairs that may
      not be connected.
    num_keys: k, at least 1; may be traced.
    platform: see `chunks.elements_at_once`; decides how a row is counted.

  Returns:
    `[..., N, ceil(N / 32)]` uint32 with min(k, number of scores above -inf)
    bits per row: the set that a stable descending sort would put first.
  """
  num_keys = jnp.asarray(num_keys, jnp.int32)
  padding = [(0, 0)] * (scores.ndim - 1) + [(0, -scores.shape[-1] % WORD)]
  scores = jnp.pad(scores, padding, constant_values=-jnp.inf)
  platform = platform or jax.default_backend()

  def raise_threshold(step: jax.Array, threshold: jax.Array) -> jax.Array:
    candidate = threshold | (jnp.uint32(1) << (31 - step).astype(jnp.uint32))
    # Compared as floats, for a candidate that is no number (NaN) is above no
    # score, as it should be.
    count = _count(scores >= _from_ordered(candidate), platform)
    return jnp.where(count >= num_keys, candidate, threshold)

  ordered = jnp.zeros((*scores.shape[:-1], 1), jnp.uint32)
  ordered = lax.fori_loop(0, 32, raise_threshold, ordered)
  # Where fewer than k may be connected, all that may: -inf is below the least.
  # A processor that flushes denormals may end on one, and compares it as the
  # zero that it stands for; no score is denormal (`similarity`).
  threshold = _from_ordered(jnp.maximum(ordered, _LEAST))
  above = scores > threshold
  tied = scores == threshold
  room = num_keys - _count(above, platform).astype(jnp.int32)
  return pack_bits(above) | lowest_bits(pack_bits(tied), room)


def _count(reached: jax.Array, platform: str) -> jax.Array:
  """Counts the Trues of rows `[..., N]`, N a multiple of 32: `[..., 1]`."""
  words = reached.shape[-1] // WORD
  if platform == "cpu" and words <= np.iinfo(np.uint8).max:
    # Lanes of bytes: XLA's CPU compiler makes one loop of this, with a quarter
    # of the memory, and two of a sum along the row (docs/design.md).
    lanes = reached.reshape(*reached.shape[:-1], words, WORD)
    reached = jnp.sum(lanes, axis=-2, dtype=jnp.uint8)
  return jnp.sum(reached, axis=-1, keepdims=True, dtype=jnp.float32)


def _from_ordered(x: jax.Array) -> jax.Array:
  """Maps uint32 to float32, larger to larger; to NaN at both ends."""
  flipped = lax.bitcast_convert_type(x ^ jnp.uint32(1 << 31), jnp.int32)
  raw = flipped ^ ((flipped >> 31) & jnp.int32(0x7FFFFFFF))
  return lax.bitcast_convert_type(raw, jnp.float32)


def select_indices(
  scores: jax.Array, num_keys: jax.Array | int, max_keys: int
) -> tuple[jax.Array, jax.Array]:
  """Selects the `num_keys` largest scores of each row, as indices.

  Args:
    scores: `[..., N, N]` float32; -inf marks pairs that may not be connected.
    num_keys: k, from 1 to `max_keys`; may be traced.
    max_keys: K, the static size of the result, at most N.

  Returns:
    indices `[..., N, K]` int32 and valid `[..., N, K]` bool: the same set as
    `select_bits` gives.
  """
  values, indices = lax.top_k(scores, max_keys)
  valid = (jnp.arange(max_keys) < num_keys) & (values != -jnp.inf)
  return indices, valid


def select_keys(
  scores: jax.Array,
  num_keys: jax.Array | int,
  max_keys: int | None,
  platform: str | None,
) -> Dictionary:
  """Selects the largest scores of each row, as indices; as bits for None."""
  if max_keys is None:
    return Dictionary(bits=select_bits(scores, num_keys, platform=platform))
  indices, valid = select_indices(scores, num_keys, max_keys)
  return Dictionary(indices=indices, valid=valid)
