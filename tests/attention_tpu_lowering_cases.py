"""The attention on a TPU, compiled without one; see tpu_lowering_test.py."""

import jax
import jax.numpy as jnp
import pytest

from semanir_jax.ops import Dictionary, key_semantic_attention
from tests import tpu_compiler

jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize(
  ("generation", "num_tokens", "dtype"),
  [
    ("v5e", 64, jnp.bfloat16),
    ("v5e", 256, jnp.float32),
    ("v5e", 1024, jnp.bfloat16),
    ("v6e", 256, jnp.bfloat16),
    ("v6e", 1024, jnp.float32),
  ],
)
def test_no_array_of_all_pairs_is_in_main_memory(generation, num_tokens, dtype):
  def both(q, k, v, scale, offsets, bits, cotangent):
    def attend(q, k, v, scale, offsets):
      return key_semantic_attention(
        q,
        k,
        v,
        Dictionary(bits=bits),
        scale=scale,
        bias=offsets,
        implementation="pallas",
        platform="tpu",
      )

    out, pullback = jax.vjp(attend, q, k, v, scale, offsets)
    return out, pullback(cotangent)

  n, m = num_tokens, 2 * round(num_tokens**0.5) - 1
  heads = jax.ShapeDtypeStruct((1, 3, n, 2, 30), dtype)
  compiled = tpu_compiler.compile_for(
    generation,
    both,
    *(heads, heads, heads),
    jax.ShapeDtypeStruct((2,), jnp.float32),
    jax.ShapeDtypeStruct((m, m, 2), jnp.float32),
    jax.ShapeDtypeStruct((1, 3, n, n // 32), jnp.uint32),
    heads,
  )
  text = compiled.as_text()
  assert text.count('custom_call_target="tpu_custom_call"') == 2
  assert f"{n},{n}]" not in text
