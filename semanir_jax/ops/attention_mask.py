"""Dense masked attention: the definition, and the fast form where K ~ N."""

import jax
import jax.numpy as jnp
from jax import lax

from semanir_jax.ops.dictionary import unpack_bits

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
  chunk_elements: int,
) -> jax.Array:
  """Computes all N x N logits and drops those outside the dictionary.

  Windows are taken in chunks, and the backward pass computes the logits of a
  chunk again, so that those of a whole image are never live.

  Args:
    query: `[B, G, N, A, D]`; key and value likewise.
    key: see query.
    value: see query.
    bits: `[B, G, N, ceil(N / 32)]` uint32, `Dictionary.bits`.
    scale: `[A]` float32.
    bias: `[A, N, N]` float32.
    chunk_elements: logits that may be live at once; a chunk has at least one
      window of each image.

  Returns:
    `[B, G, N, A, D]` in the dtype of `query`.

  Source: Torch-Mask of SemanIR [paper]; the chunks are [ours].
  """
  b, g, n, a, _ = query.shape
  chunk = largest_divisor(g, chunk_elements // (b * a * n * n))
  if chunk == g:
    return _attend_windows(query, key, value, bits, scale, bias)

  def in_chunks(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x.reshape(b, g // chunk, chunk, *x.shape[2:]), 1, 0)

  attend = jax.checkpoint(lambda xs: _attend_windows(*xs, scale, bias))
  out = lax.map(attend, tuple(map(in_chunks, (query, key, value, bits))))
  return jnp.moveaxis(out, 0, 1).reshape(query.shape)


def largest_divisor(number: int, most: int) -> int:
  """The largest divisor of `number` that is at most `most`; at least 1."""
  divisors = [d for d in range(1, number + 1) if number % d == 0]
  return max([d for d in divisors if d <= most], default=1)


def _attend_windows(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bits: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
) -> jax.Array:
  """Attention of some windows; arguments as of `mask_attention`."""
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
