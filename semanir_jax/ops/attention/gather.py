"""Attention over gathered keys, a chunk of queries at a time."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from semanir_jax.ops.attention.mask import MASKED
from semanir_jax.ops.chunks import elements_at_once, largest_divisor


def gather_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  indices: jax.Array,
  valid: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  *,
  platform: str | None = None,
) -> jax.Array:
  """Gathers the K keys and values of each query and attends to those alone.

  One gathered row holds a key and its value for all heads, which a TPU moves in
  full lanes where rows of one head's D numbers would be padded to 128. Queries
  are taken in chunks and the backward pass gathers again chunk by chunk, so a
  whole window's `[N, K, D]` tensor is never live.

  Args:
    query: `[B, G, N, A, D]`; key and value likewise.
    key: see query.
    value: see query.
    indices: `[B, G, N, K]` int32, `Dictionary.indices`.
    valid: `[B, G, N, K]` bool, `Dictionary.valid`.
    scale: `[A]` float32.
    bias: `[A, N, N]` float32.
    platform: see `chunks.elements_at_once`.

  Returns:
    `[B, G, N, A, D]` in the dtype of `query`.

  Source: Torch-Gather of SemanIR [paper]; the chunks are [ours].
  """
  b, g, n, a, d = query.shape
  num_keys = indices.shape[-1]
  per_query = b * g * num_keys * 2 * a * d
  chunk = largest_divisor(n, elements_at_once(platform) // per_query)
  rows = jnp.concatenate([key, value], axis=-1).reshape(b, g, n, a * 2 * d)

  def in_chunks(x: jax.Array, axis: int) -> jax.Array:
    """Moves the chunks of axis N to the front, for `lax.map` to walk."""
    split = x.shape[:axis] + (n // chunk, chunk) + x.shape[axis + 1 :]
    return jnp.moveaxis(x.reshape(split), axis, 0)

  attend = jax.checkpoint(functools.partial(attend_chunk, rows, scale))
  out = lax.map(
    attend,
    (
      in_chunks(query, 2),
      in_chunks(indices, 2),
      in_chunks(valid, 2),
      in_chunks(bias.transpose(1, 2, 0), 0),
    ),
  )
  return jnp.moveaxis(out, 0, 2).reshape(query.shape)


def attend_chunk(
  rows_BGNR: jax.Array,
  scale_A: jax.Array,
  chunk: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
) -> jax.Array:
  """Attends from Q queries; R = 2AD numbers hold a token's keys and values."""
  query_BGQAD, indices_BGQK, valid_BGQK, bias_QNA = chunk
  d = query_BGQAD.shape[-1]
  window = jax.vmap(jax.vmap(lambda rows, indices: rows[indices]))
  gathered = window(rows_BGNR, indices_BGQK)
  gathered = gathered.reshape(*gathered.shape[:-1], scale_A.shape[0], 2 * d)
  key, value = gathered[..., :d], gathered[..., d:]
  row = jax.vmap(lambda bias_NA, indices_K: bias_NA[indices_K])
  bias = jax.vmap(jax.vmap(row, (None, 0)), (None, 0))(bias_QNA, indices_BGQK)
  logits = jnp.einsum(
    "bgqad,bgqkad->bgqka", query_BGQAD, key, preferred_element_type=jnp.float32
  )
  logits = logits * scale_A + bias
  logits = jnp.where(valid_BGQK[..., None], logits, MASKED)
  weights = jax.nn.softmax(logits, axis=-2)
  out = jnp.einsum(
    "bgqka,bgqkad->bgqad",
    weights.astype(value.dtype),
    value,
    preferred_element_type=jnp.float32,
  )
  return out.astype(query_BGQAD.dtype)
