"""Sets of tokens in words of bits."""

import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.ops import bits as bits_lib


def test_pack_is_low_bit_first_and_inverted_by_unpack():
  mask = np.zeros((1, 40), bool)
  mask[0, [0, 5, 31, 32, 39]] = True
  bits = bits_lib.pack_bits(mask)
  assert bits.dtype == jnp.uint32
  np.testing.assert_array_equal(bits, [[1 | 1 << 5 | 1 << 31, 1 | 1 << 7]])
  np.testing.assert_array_equal(bits_lib.unpack_bits(bits, 40), mask)


@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_the_lowest_of_each_set_stay(share):
  rng = np.random.RandomState(0)
  mask = rng.rand(5, 100) < share
  number = np.array([[-3], [0], [1], [40], [100]], np.int32)
  expected = mask & (np.cumsum(mask, axis=-1) <= number)
  lowest = bits_lib.lowest_bits(bits_lib.pack_bits(mask), jnp.asarray(number))
  np.testing.assert_array_equal(bits_lib.unpack_bits(lowest, 100), expected)


@pytest.mark.parametrize("number", range(34))
def test_a_full_word_is_cut_at_every_bit(number):
  full = jnp.array([[0xFFFFFFFF]], jnp.uint32)
  lowest = bits_lib.lowest_bits(full, jnp.array([[number]]))
  assert lowest.item() == (1 << min(number, 32)) - 1
