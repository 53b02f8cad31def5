"""The dictionary as mask words: a query in every lane, for kernels on a TPU.

A window of N = P x P tokens has for each query P words of P bits: bit y of word
x says whether the key in row y, column x of the window is kept. A kernel that
holds keys on sublanes and queries on lanes finds the mask of the P keys of row
y by one `and` with 1 << y, and nothing moves between lanes.
"""

import math

import jax
import jax.numpy as jnp

from semanir_jax.ops.bits import WORD
from semanir_jax.ops.dictionary.selection import Dictionary
from semanir_jax.ops.pallas_mode import WINDOW_SIDES


def window_side(num_tokens: int) -> int:
  """Returns P of a window of P x P tokens that mask words can hold.

  Raises:
    ValueError: there are no mask words for so many tokens.
  """
  side = math.isqrt(num_tokens)
  if side * side != num_tokens or side not in WINDOW_SIDES:
    raise ValueError(
      f"windows of {num_tokens} tokens have no mask words; they need 64, 256"
      " or 1024 tokens, a window size of 8, 16 or 32"
    )
  return side


def to_words(bits: jax.Array) -> jax.Array:
  """Turns packed bits of a dictionary into mask words.

  Args:
    bits: `[B, G, N, N / 32]` uint32, `Dictionary.bits`; N = 64, 256 or 1024.

  Returns:
    `[B * G, P, N]` int32, [window, x, query]: bit y of word x is set where the
    query keeps the key P * y + x. Bits from P on are 0.

  Raises:
    ValueError: N is another number.
  """
  num_tokens = bits.shape[-2]
  side = window_side(num_tokens)
  # Bit x of row y, several rows to a word.
  first = jnp.arange(0, WORD, side, dtype=jnp.uint32)
  rows = (bits[..., None] >> first) & jnp.uint32((1 << side) - 1)
  rows = rows.reshape(-1, num_tokens, side)
  words = _transpose_bits(jnp.moveaxis(rows, -1, 0))
  return jnp.moveaxis(words, 0, 1).astype(jnp.int32)


def with_words(dictionary: Dictionary) -> Dictionary:
  """Adds the mask words to a dictionary in its bits form that has none."""
  if dictionary.words is not None:
    return dictionary
  assert dictionary.bits is not None
  return Dictionary(bits=dictionary.bits, words=to_words(dictionary.bits))


def from_words(words: jax.Array) -> jax.Array:
  """Turns mask words into packed bits: the inverse of `to_words`.

  Args:
    words: `[W, P, N]` int32.

  Returns:
    `[W, N, N / 32]` uint32, as `Dictionary.bits` has them.
  """
  num_windows, side, num_tokens = words.shape
  rows = _transpose_bits(jnp.moveaxis(words, 1, 0).astype(jnp.uint32))
  rows = jnp.moveaxis(rows, 0, -1)
  rows = rows.reshape(num_windows, num_tokens, -1, WORD // side)
  first = jnp.arange(0, WORD, side, dtype=jnp.uint32)
  return jnp.sum(rows << first, axis=-1, dtype=jnp.uint32)


def _transpose_bits(rows: jax.Array) -> jax.Array:
  """Transposes P x P bits: bit c of row r becomes bit r of row c.

  Squares of half the side change places across the diagonal, then those of a
  quarter in each, down to single bits.

  Args:
    rows: `[P, ...]` uint32, P a power of two up to 32.
  """
  side = rows.shape[0]
  half = side // 2
  while half:
    low_columns = sum(1 << c for c in range(side) if not c & half)
    pairs = rows.reshape(-1, 2, half, *rows.shape[1:])
    upper, lower = pairs[:, 0], pairs[:, 1]
    changed = ((upper >> half) ^ lower) & jnp.uint32(low_columns)
    pairs = jnp.stack([upper ^ (changed << half), lower ^ changed], axis=1)
    rows = pairs.reshape(rows.shape)
    half //= 2
  return rows
