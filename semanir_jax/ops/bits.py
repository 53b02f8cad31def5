"""Sets of the tokens of a window, packed into words of one bit per token."""

import jax
import jax.numpy as jnp
from jax import lax

WORD = 32  # bits of one packed word


def pack_bits(mask: jax.Array) -> jax.Array:
  """Packs `[..., N]` bool into `[..., ceil(N / 32)]` uint32, low bit first."""
  n = mask.shape[-1]
  words = -(-n // WORD)
  padding = [(0, 0)] * (mask.ndim - 1) + [(0, words * WORD - n)]
  lanes = jnp.pad(mask, padding).reshape(*mask.shape[:-1], words, WORD)
  weights = jnp.left_shift(jnp.uint32(1), jnp.arange(WORD, dtype=jnp.uint32))
  weighted = jnp.where(lanes, weights, jnp.uint32(0))
  return jnp.sum(weighted, axis=-1, dtype=jnp.uint32)


def unpack_bits(bits: jax.Array, num_tokens: int) -> jax.Array:
  """Unpacks `[..., ceil(N / 32)]` uint32 into `[..., N]` bool."""
  lanes = jnp.right_shift(bits[..., None], jnp.arange(WORD, dtype=jnp.uint32))
  mask = (lanes & jnp.uint32(1)).astype(bool)
  return mask.reshape(*bits.shape[:-1], -1)[..., :num_tokens]


def lowest_bits(bits: jax.Array, number: jax.Array) -> jax.Array:
  """Keeps the `number` tokens of lowest index of each set.

  Args:
    bits: `[..., W]` uint32.
    number: `[..., 1]` int32, of each set; at most 0 leaves none.

  Returns:
    `[..., W]` uint32; a set of fewer tokens as it is.
  """
  counts = _count(bits)
  before = jnp.cumsum(counts, axis=-1) - counts
  room = number - before  # in each word
  # Of a word too full: the longest end of it that holds no more than its room.
  length = jnp.zeros_like(bits)
  for step in (16, 8, 4, 2, 1):
    longer = length + jnp.uint32(step)
    fits = _count(bits & _low(longer)) <= room
    length = jnp.where(fits, longer, length)
  return jnp.where(counts <= room, bits, bits & _low(length))


def _count(bits: jax.Array) -> jax.Array:
  """Counts the bits that are set in each word, int32."""
  return lax.population_count(bits).astype(jnp.int32)


def _low(length: jax.Array) -> jax.Array:
  """Returns words whose lowest `length` bits are set, 0 to 31 of them."""
  return (jnp.uint32(1) << length) - jnp.uint32(1)
