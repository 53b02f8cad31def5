"""The dictionary on a TPU, compiled without one; see tpu_lowering_test.py."""

import jax
import jax.numpy as jnp
import pytest

from semanir_jax.ops.dictionary.words import to_words
from tests import tpu_compiler

jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("generation", tpu_compiler.SLICES)
def test_mask_words_are_compiled(generation):
  bits = jax.ShapeDtypeStruct((1, 4, 1024, 32), jnp.uint32)
  compiled = tpu_compiler.compile_for(generation, to_words, bits)
  assert compiled.out_info.shape == (4, 32, 1024)
