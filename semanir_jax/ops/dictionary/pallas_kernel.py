"""The key-semantic dictionary in a Pallas kernel, for TPUs.

A program computes the similarity of a tile of queries to all keys of some
windows, keeps it on chip as integers of the same order, and selects there: no
N x N array is ever stored in main memory. Keys lie on sublanes and queries on
lanes, so a count over the keys of all queries is a sum of registers, and the
result is mask words (`words`).

The set is that of `selection.select_bits`, bit for bit where a score is the
same float32 in both. Sums of C products depend on their order by some units in
the last place, so keys that tie but for that may be chosen otherwise.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from semanir_jax.ops.chunks import largest_divisor
from semanir_jax.ops.dictionary.words import window_side

NAME = "dictionary"  # of the kernel in a compiled program
MOST_QUERIES = 256
# Scores of a program where N is smaller than 1024: of several windows.
SCORES = 1 << 17

# Magnitude below which a score is denormal, and means zero.
_TINY = float(np.finfo(np.float32).tiny)
# Below every score, -inf too: of a key that may not be connected.
_NOT_CONNECTED = -(1 << 31)
# One more than the ordered image of -inf, which means not connected too.
_LEAST = _NOT_CONNECTED + 0x00800000


def build_words(
  features: jax.Array,
  num_keys: jax.Array | int,
  *,
  regions: jax.Array | np.ndarray | None = None,
  interpret: bool = False,
) -> jax.Array:
  """Builds what `api.build_dictionary` builds, as mask words, on TPUs.

  Under a mesh it has to be called inside `shard_map`: elsewhere the compiler
  refuses to split it.

  Args:
    features: `[B, G, N, C]` float32 or bfloat16; N = 64, 256 or 1024.
    num_keys: k in [1, N]; may be traced.
    regions: `[G, N]` integer shift regions, `[1, N]` of all windows, or None.
    interpret: run it by Pallas's interpreter, on any platform.

  Returns:
    `[B * G, P, N]` int32, see `words.to_words`.
  """
  b, g, n, c = features.shape
  side = window_side(n)
  queries = min(n, MOST_QUERIES)
  num_windows = b * g
  period = num_windows if regions is None else regions.shape[0]
  windows = largest_divisor(period, SCORES // (n * max(queries, 128)))
  features = lax.stop_gradient(features).reshape(num_windows, n, c)
  arrays = [jnp.asarray(num_keys, jnp.int32).reshape(1), features, features]
  specs = [
    pl.BlockSpec(memory_space=pltpu.SMEM),
    pl.BlockSpec((windows, queries, c), lambda w, i: (w, i, 0)),
    pl.BlockSpec((windows, n, c), lambda w, i: (w, 0, 0)),
  ]
  if regions is not None:
    rows = jnp.asarray(regions, jnp.int32)
    # A key's column on sublanes, its row on lanes.
    columns = rows.reshape(-1, side, side).swapaxes(1, 2)
    wrapped = lambda w: lax.rem(w, period // windows)  # noqa: E731
    arrays += [rows[:, None], columns]
    specs += [
      pl.BlockSpec((windows, 1, queries), lambda w, i: (wrapped(w), 0, i)),
      pl.BlockSpec((windows, side, side), lambda w, i: (wrapped(w), 0, 0)),
    ]
  return pl.pallas_call(
    functools.partial(_kernel, side=side, has_regions=regions is not None),
    grid=(num_windows // windows, n // queries),
    in_specs=specs,
    out_specs=pl.BlockSpec((windows, side, queries), lambda w, i: (w, 0, i)),
    out_shape=jax.ShapeDtypeStruct((num_windows, side, n), jnp.int32),
    scratch_shapes=[pltpu.VMEM((windows, n, queries), jnp.int32)],
    name=NAME,
    interpret=interpret,
  )(*arrays)


def _kernel(
  num_keys_ref: Any, *refs: Any, side: int, has_regions: bool
) -> None:
  """Selects the keys of a tile of queries of some windows.

  Args:
    num_keys_ref: `[1]` int32.
    *refs: features of the queries and of the keys; with regions those of the
      queries `[windows, 1, queries]` and of the keys `[windows, x, y]`; words;
      scratch for scores.
    side: P.
    has_regions: whether regions are among `refs`.
  """
  query_ref, key_ref, *regions, words_ref, scores_ref = refs
  windows, n, queries = scores_ref.shape
  num_keys = num_keys_ref[0]
  for window in range(windows):
    scores = _ordered(_similarity(key_ref[window], query_ref[window]))
    if has_regions:
      scores = _disconnect(scores, *(ref[window] for ref in regions))
    scores_ref[window] = scores

  # The largest threshold that k scores reach: the k-th largest score.
  def reached(threshold: jax.Array) -> jax.Array:
    return _count(scores_ref[...] >= threshold)

  least = jnp.full((windows, 1, queries), _NOT_CONNECTED, jnp.int32)
  threshold, count = _bisect(
    reached, lambda count: count >= num_keys, least, jnp.full_like(least, n), 32
  )
  surplus = (count > num_keys) & (threshold >= _LEAST)
  threshold = jnp.maximum(threshold, _LEAST)

  @pl.when(jnp.any(surplus))
  def _() -> None:
    tied = scores_ref[...] == threshold
    key = lax.broadcasted_iota(jnp.int32, tied.shape, 1)
    room = num_keys - _count(scores_ref[...] > threshold)
    # The largest bound below which there are not too many tied keys.
    bound, _ = _bisect(
      lambda bound: _count(tied & (key < bound)),
      lambda count: count <= room,
      jnp.zeros_like(room),
      jnp.zeros_like(room),
      n.bit_length(),
    )
    dropped = tied & (key >= bound)
    scores_ref[...] = jnp.where(dropped, _NOT_CONNECTED, scores_ref[...])

  words = jnp.zeros((windows, side, queries), jnp.int32)
  for row in range(side):
    kept = scores_ref[:, row * side : (row + 1) * side] >= threshold
    words |= jnp.where(kept, np.array(1 << row, np.uint32).astype(np.int32), 0)
  words_ref[...] = words


def _similarity(key: jax.Array, query: jax.Array) -> jax.Array:
  """Computes float32 scores `[N, queries]`, as `selection.similarity`."""
  scores = lax.dot_general(
    key,
    query,
    (((1,), (1,)), ((), ())),
    # Mosaic has no such request for bfloat16, which is exact in one pass.
    precision=lax.Precision.HIGHEST if key.dtype == jnp.float32 else None,
    preferred_element_type=jnp.float32,
  )
  return jnp.where(jnp.abs(scores) < _TINY, 0.0, scores)


def _ordered(scores: jax.Array) -> jax.Array:
  """Maps float32 to int32 of the same order."""
  raw = lax.bitcast_convert_type(scores, jnp.int32)
  return raw ^ ((raw >> 31) & 0x7FFFFFFF)


def _disconnect(
  scores: jax.Array, of_queries: jax.Array, of_keys: jax.Array
) -> jax.Array:
  """Marks scores `[N, queries]` between regions `[1, queries]`, `[x, y]`."""
  side = of_keys.shape[0]
  same = jnp.concatenate(
    [of_keys[:, row : row + 1] == of_queries for row in range(side)]
  )
  return jnp.where(same, scores, _NOT_CONNECTED)


def _count(kept: jax.Array) -> jax.Array:
  """Counts keys: `[windows, N, queries]` to int32 `[windows, 1, queries]`."""
  return jnp.sum(kept.astype(jnp.int32), axis=1, keepdims=True)


def _bisect(
  measure: Callable[[jax.Array], jax.Array],
  fits: Callable[[jax.Array], jax.Array],
  start: jax.Array,
  measured: jax.Array,
  num_bits: int,
) -> tuple[jax.Array, jax.Array]:
  """Finds the largest numbers that fit, where all below them fit too.

  Args:
    measure: a function of numbers.
    fits: whether numbers do, by what was measured.
    start: int32, the least numbers; their low `num_bits` bits are 0, but for
      the sign, the highest of 32.
    measured: of them.
    num_bits: that are searched.

  Returns:
    The numbers, and what was measured of them.
  """

  def step(
    i: jax.Array, found: tuple[jax.Array, jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    number, measured = found
    # Turning the sign of the least number makes it larger too.
    candidate = number ^ lax.shift_left(jnp.int32(1), num_bits - 1 - i)
    value = measure(candidate)
    better = fits(value)
    return (
      jnp.where(better, candidate, number),
      jnp.where(better, value, measured),
    )

  return lax.fori_loop(0, num_bits, step, (start, measured))
