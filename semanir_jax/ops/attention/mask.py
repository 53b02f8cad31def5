"""Dense masked attention: the definition, and the fast form where K ~ N."""

import functools

import jax
import jax.numpy as jnp

from semanir_jax.ops.bits import unpack_bits
from semanir_jax.ops.chunks import over_windows

# Added to no logit: it replaces them. Finite, so that a row without any key (a
# broken input) gives a number and not a NaN.
MASKED = float(jnp.finfo(jnp.float32).min)


def mask_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bits: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  *,
  platform: str | None = None,
) -> jax.Array:
  """Computes all N x N logits and drops those outside the dictionary.

  Args:
    query: `[B, G, N, A, D]`; key and value likewise.
    key: see query.
    value: see query.
    bits: `[B, G, N, ceil(N / 32)]` uint32, `Dictionary.bits`.
    scale: `[A]` float32.
    bias: `[A, N, N]` float32.
    platform: see `chunks.elements_at_once`.

  Returns:
    `[B, G, N, A, D]` in the dtype of `query`.

  Source: Torch-Mask of SemanIR [paper]; windows in chunks are [ours].
  """
  b, _, n, a, _ = query.shape
  return over_windows(
    functools.partial(attend_windows, scale=scale, bias=bias),
    (query, key, value, bits),
    elements_per_window=b * a * n * n,
    platform=platform,
  )


def attend_windows(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bits: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
) -> jax.Array:
  """Attends in some windows, with all their logits at once; arguments as of
  `mask_attention`.
  """
  logits = jnp.einsum(
    "bgnad,bgmad->bganm", query, key, preferred_element_type=jnp.float32
  )
  logits = logits * scale[:, None, None] + bias
  mask = unpack_bits(bits, query.shape[2])[:, :, None]
  weights = jax.nn.softmax(jnp.where(mask, logits, MASKED), axis=-1)
  out = jnp.einsum(
    "bganm,bgmad->bgnad",
    weights.astype(value.dtype),
    value,
    preferred_element_type=jnp.float32,
  )
  return out.astype(query.dtype)
