"""Dense masked attention: the definition, and the fast form where K ~ N."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from semanir_jax.ops.bits import unpack_bits
from semanir_jax.ops.chunks import ATTENDED, over_windows, sum_over_windows

# Added to no logit: it replaces them. Finite, so that a row without any key (a
# broken input) gives a number and not a NaN.
MASKED = float(jnp.finfo(jnp.float32).min)

_einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


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

  The backward pass computes the weights of some windows at a time again, from
  the sums of their rows. Its derivative is its own: of a loop that JAX
  differentiates, XLA unpacked the bits twelve times as slowly on a CPU.

  Args:
    query: `[B, G, N, A, D]`; key and value likewise.
    key: see query.
    value: see query.
    bits: `[B, G, N, ceil(N / 32)]` uint32, `Dictionary.bits`.
    scale: `[A]` float32.
    bias: `[A, N, N]` float32.
    platform: see `chunks.elements_at_once`.

  Returns:
    `[B, G, N, A, D]` in the dtype of `query`; differentiable in all but `bits`.
    A row without any key (a broken input) gives a mean and no gradient.

  Source: Torch-Mask of SemanIR [paper]; windows in chunks are [ours].
  """
  return _attend(query, key, value, bits, scale, bias, platform)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bits: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  platform: str | None,
) -> jax.Array:
  return _forward(query, key, value, bits, scale, bias, platform)[0]


def _forward(*arguments: Any) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  """Returns the output and what the backward pass needs, of `_attend`."""
  query, key, value, bits, scale, bias, platform = arguments
  out, lse = over_windows(
    functools.partial(attend_windows, scale=scale, bias=bias),
    (query, key, value, bits),
    elements_per_window=_elements(query),
    platform=platform,
  )
  # Else a `jax.checkpoint` that keeps the output would compute it again.
  out, lse = checkpoint_name((out, lse), ATTENDED)
  return out, (query, key, value, bits, lse, scale, bias)


def _backward(
  platform: str | None, saved: tuple[jax.Array, ...], d_out: jax.Array
) -> tuple[jax.Array | None, ...]:
  """Returns the gradients of the arrays of `_attend`."""
  *arrays, scale, bias = saved
  (d_query, d_key, d_value), (d_scale, d_bias) = sum_over_windows(
    functools.partial(_differentiate_windows, scale=scale, bias=bias),
    (*arrays, d_out),
    elements_per_window=_elements(d_out),
    platform=platform,
  )
  d_scale, d_bias = d_scale.astype(scale.dtype), d_bias.astype(bias.dtype)
  return d_query, d_key, d_value, None, d_scale, d_bias


_attend.defvjp(_forward, _backward)


def attend_windows(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bits: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Attends in some windows, with all their logits at once; arguments as of
  `mask_attention`.

  Returns:
    The output, and `[B, G, A, N]` float32, the logarithm of the sum of each
    row's exponentials.
  """
  _, logits = _logits(query, key, bits, scale, bias)
  most = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  exponentials = jnp.exp(logits - most)
  total = jnp.sum(exponentials, axis=-1, keepdims=True)
  # The result has the order of the weights, and is divided after the product:
  # else XLA's CPU compiler divides and transposes all N x N of them.
  out = _einsum("bganm,bgmad->bgand", exponentials.astype(value.dtype), value)
  out = jnp.moveaxis(out / total, 2, 3).astype(query.dtype)
  # A row without any key passes no gradient on: the weights become zeros.
  lse = jnp.where(most > MASKED, most + jnp.log(total), jnp.inf)
  return out, lse[..., 0]


def _differentiate_windows(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bits: jax.Array,
  lse: jax.Array,
  d_out: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """Differentiates `attend_windows`.

  Returns:
    The gradients of query, key and value, and those of scale and bias.
  """
  products, logits = _logits(query, key, bits, scale, bias)
  weights = jnp.exp(logits - lse[..., None])
  d_weights = _einsum("bgnad,bgmad->bganm", d_out, value)
  row_means = jnp.sum(weights * d_weights, axis=-1, keepdims=True)
  d_logits = weights * (d_weights - row_means)
  d_products = (d_logits * scale[:, None, None]).astype(query.dtype)
  # Sums over rows have their columns last, as N x N lies in memory.
  d_query = _einsum("bganm,bgmad->bgand", d_products, key)
  d_key = _einsum("bgnad,bganm->bgadm", query, d_products)
  d_value = _einsum("bgnad,bganm->bgadm", d_out, weights.astype(value.dtype))
  gradients = (
    jnp.moveaxis(d_query, 2, 3).astype(query.dtype),
    jnp.moveaxis(d_key, 4, 2).astype(key.dtype),
    jnp.moveaxis(d_value, 4, 2).astype(value.dtype),
  )
  d_scale = jnp.sum(d_logits * products, axis=(0, 1, 3, 4))
  return gradients, (d_scale, jnp.sum(d_logits, axis=(0, 1)))


def _logits(
  query: jax.Array,
  key: jax.Array,
  bits: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Returns the products of queries and keys, and the masked logits."""
  products = _einsum("bgnad,bgmad->bganm", query, key)
  mask = unpack_bits(bits, query.shape[2])[:, :, None]
  logits = products * scale[:, None, None] + bias
  return products, jnp.where(mask, logits, MASKED)


def _elements(heads: jax.Array) -> int:
  """Returns how many logits a window of all images has."""
  b, _, n, a, _ = heads.shape
  return b * a * n * n
