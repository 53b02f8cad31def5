"""Mask words hold what the packed bits hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.ops.bits import pack_bits
from semanir_jax.ops.dictionary import words as words_lib


def by_numpy(mask: np.ndarray) -> np.ndarray:
  """Mask words of masks `[B, G, N, N]`, [query, key], one bit at a time."""
  *_, n = mask.shape
  side = round(n**0.5)
  masks = mask.reshape(-1, n, n)
  words = np.zeros((len(masks), side, n), np.int64)
  for window, query, key in zip(*np.nonzero(masks), strict=True):
    words[window, key % side, query] += 1 << (key // side)
  return words.astype(np.uint32).view(np.int32)


@pytest.mark.parametrize("side", [8, 16, 32])
def test_words_are_those_of_the_definition_and_turn_back(side):
  n = side**2
  mask = np.random.RandomState(side).rand(1, 3 if side < 32 else 1, n, n) < 0.3
  mask[0, 0, 1] = True
  mask[0, 0, 2] = False
  bits = pack_bits(jnp.asarray(mask))
  words = jax.jit(words_lib.to_words)(bits)
  assert words.dtype == jnp.int32
  np.testing.assert_array_equal(words, by_numpy(mask))
  back = jax.jit(words_lib.from_words)(words)
  assert back.dtype == jnp.uint32
  np.testing.assert_array_equal(back.reshape(bits.shape), bits)


def test_images_and_windows_become_one_axis_in_their_order():
  mask = np.random.RandomState(0).rand(2, 3, 64, 64) < 0.5
  words = words_lib.to_words(pack_bits(jnp.asarray(mask)))
  single = words_lib.to_words(pack_bits(jnp.asarray(mask[1:, 2:])))
  np.testing.assert_array_equal(words[5:], single)


@pytest.mark.parametrize("num_tokens", [16, 49, 512, 4096])
def test_other_windows_are_refused_in_one_line(num_tokens):
  bits = jnp.zeros((1, 1, num_tokens, -(-num_tokens // 32)), jnp.uint32)
  with pytest.raises(ValueError, match=f"windows of {num_tokens} tokens have"):
    words_lib.to_words(bits)
