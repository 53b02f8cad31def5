"""Forward kernel of key-semantic attention on a TPU, and what both share.

A program owns a tile of queries of a window and a head. Keys lie on sublanes
and queries on lanes, so that a head of 30 channels is padded to 32 rows where
lanes would be padded to 128. All keys of a window are on chip at once; logits
live in a scratch of one tile. Sums, softmax and its logarithm are float32; the
operands of the products keep the dtype of the arrays. Logits carry a factor of
log2(e), for 2^x is what the hardware has.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from semanir_jax.ops.attention.pallas_band import LOG2_E, Band, fill_band

# Below every logit; finite, so that differences of two are never NaN.
LOWEST = -1e30
SUBLANES = 8


def contract(x: jax.Array, y: jax.Array, x_axis: int, y_axis: int) -> jax.Array:
  """Multiplies two matrices over an axis of each, with float32 sums."""
  # float32 operands would be rounded to bfloat16 else; bfloat16 ones are exact
  # in one pass, and the compiler refuses the request for them.
  exact = x.dtype == jnp.float32
  return lax.dot_general(
    x,
    y,
    (((x_axis,), (y_axis,)), ((), ())),
    precision=lax.Precision.HIGHEST if exact else None,
    preferred_element_type=jnp.float32,
  )


def as_operand(x: jax.Array, cosine: bool) -> jax.Array:
  """Returns queries or keys `[D, T]` as the products take them.

  Args:
    x: `[D, T]`.
    cosine: whether the columns are L2-normalised, in float32; zeros stay zeros.
  """
  if not cosine:
    return x
  unit = x.astype(jnp.float32) * _reciprocal_length(x)[0]
  return unit.astype(x.dtype)


def operand_gradient(
  x: jax.Array, d_operand: jax.Array, cosine: bool
) -> jax.Array:
  """Returns the gradient of `x`, from that of `as_operand(x)`; float32."""
  if not cosine:
    return d_operand
  reciprocal, is_long = _reciprocal_length(x)
  unit = x.astype(jnp.float32) * reciprocal
  along = jnp.sum(unit * d_operand, axis=0, keepdims=True)
  return (d_operand - jnp.where(is_long, unit * along, 0.0)) * reciprocal


def _reciprocal_length(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns 1 / length of columns, at most 1e12, and whether it is less."""
  squares = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=0, keepdims=True)
  return lax.rsqrt(jnp.maximum(squares, 1e-24)), squares > 1e-24


def find_queries(length: int, block: int) -> tuple[Any, Any]:
  """Returns the first query of this program's tile, and the tile's lanes."""
  if block == length:
    return 0, slice(None)
  start = pl.multiple_of(pl.program_id(2) * block, block)
  return start, pl.ds(start, block)


def is_kept(words: jax.Array, row: int) -> jax.Array:
  """Says which keys of a row are kept, from mask words `[P, queries]`."""
  bit = 1 << row if row < 31 else -(1 << 31)
  return (words & jnp.int32(bit)) != 0


def forward_kernel(
  scale_ref: Any,
  qkv_ref: Any,
  words_ref: Any,
  flat_ref: Any,
  out_ref: Any,
  lse_ref: Any,
  band_ref: Any,
  key_ref: Any,
  logits_ref: Any,
  *,
  cosine: bool,
) -> None:
  """Computes a query tile: its output and log2 of its sums of exponentials.

  Two passes over the logits of the whole row: the largest first, then weights
  and output. A row without any key gives the mean of all values.

  Args:
    scale_ref: `[A]`, in scalar memory.
    qkv_ref: `[3, D, N]` of this window and head.
    words_ref: `[P, Q]` int32 mask words of the tile's Q queries.
    flat_ref: `[2, F]` of `offsets.flatten_offsets`.
    out_ref: `[D, Q]`.
    lse_ref: `[1, Q]` float32.
    band_ref: scratch of `Band.shape`; filled once for every head.
    key_ref: scratch `[D, N]`; filled once for every window.
    logits_ref: scratch `[N, Q]` float32.
    cosine: whether query and key are normalised first.
  """
  n, block = logits_ref.shape
  p = words_ref.shape[0]
  start, queries = find_queries(n, block)
  scale = scale_ref[pl.program_id(0)] * LOG2_E

  @pl.when((pl.program_id(1) == 0) & (pl.program_id(2) == 0))
  def _() -> None:
    fill_band(flat_ref, band_ref)

  @pl.when(pl.program_id(2) == 0)
  def _() -> None:
    key_ref[...] = as_operand(qkv_ref[1], cosine)

  words, query = words_ref[...], as_operand(qkv_ref[0, :, queries], cosine)
  dots = contract(key_ref[...], query, 0, 0)
  highest = jnp.full((SUBLANES, block), LOWEST, jnp.float32)
  for row in range(p):
    keys = slice(row * p, row * p + p)
    bias = band_ref[Band(p).slice_of(row, start, block)]
    logits = dots[keys] * scale + bias
    logits = jnp.where(is_kept(words, row), logits, LOWEST)
    logits_ref[keys, :] = logits
    groups = logits.reshape(p // SUBLANES, SUBLANES, block)
    highest = jnp.maximum(highest, jnp.max(groups, axis=0))
  highest = jnp.max(highest, axis=0, keepdims=True)
  total = jnp.zeros((SUBLANES, block), jnp.float32)
  out = jnp.zeros(out_ref.shape, jnp.float32)
  step = min(n, 128)
  for first in range(0, n, step):
    keys = slice(first, first + step)
    weights = jnp.exp2(logits_ref[keys, :] - highest)
    total += jnp.sum(weights.reshape(-1, SUBLANES, block), axis=0)
    value = qkv_ref[2, :, keys]
    out += contract(value, weights.astype(value.dtype), 1, 0)
  total = jnp.sum(total, axis=0, keepdims=True)
  out_ref[...] = (out / total).astype(out_ref.dtype)
  lse_ref[...] = highest + jnp.log2(total)
