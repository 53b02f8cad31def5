"""The position bias in a TPU kernel: one number per offset, spread by rolls.

A tile of logits has a row of P keys on sublanes and queries on lanes. Its bias
depends on the offset from key (y2, x2) to query (y1, x1) alone. Written as

  band[x2, P * (y1 - y2 + P - 1) + x1]

the bias of all keys of row y2 is a slice of lanes that begins at P * (P - 1 -
y2). A TPU reads aligned lanes: the band is kept in `num_copies` copies, copy r
moved by r * P lanes, so that each such slice begins at a multiple of 128 in one
of them. No array of N x N is ever made, and the gradient takes the way back.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from semanir_jax.ops.attention.offsets import LANES

LOG2_E = math.log2(math.e)


@dataclasses.dataclass(frozen=True)
class Band:
  """Sizes of the band of a window of P x P tokens.

  Attributes:
    side: P.
  """

  side: int

  @property
  def num_copies(self) -> int:
    """Returns R, the copies of the band."""
    return min(LANES // self.side, self.side)

  @property
  def lanes(self) -> int:
    """Returns L, the lanes of a copy."""
    most = (self.side - 1) // self.num_copies
    return LANES * most + self.side**2

  @property
  def shape(self) -> tuple[int, int, int]:
    """Returns the shape of the scratch that holds it: `[R, P, L]`."""
    return self.num_copies, self.side, self.lanes

  def slice_of(self, row: int, start: Any, length: int) -> tuple[Any, ...]:
    """Returns the index of the bias of a row of keys.

    Args:
      row: y2.
      start: of the queries, a multiple of 128; 0 where N is below 128.
      length: number of queries.
    """
    first = self.side - 1 - row
    lanes = LANES * (first // self.num_copies)
    if length < LANES:
      return first % self.num_copies, slice(None), slice(0, length)
    start = pl.multiple_of(lanes + start, LANES)
    return first % self.num_copies, slice(None), pl.ds(start, length)


def fill_band(flat_ref: Any, band_ref: Any) -> None:
  """Writes the band of a head, times log2(e), from its flat table `[2, F]`.

  Key column x2 needs the table moved by x2 lanes: one roll with a stride.
  """
  copies, p, lanes = band_ref.shape
  flat = flat_ref.shape[-1]
  moved = [
    pltpu.roll(
      jnp.broadcast_to(flat_ref[half : half + 1, :] * LOG2_E, (p, flat)),
      first % flat,
      1,
      stride=1,
      stride_axis=0,
    )
    for half, first in ((0, 1 - p), (1, 1))
  ]
  band = jnp.where(_nearer(p, flat), *moved)
  for r in range(copies):
    copy = pltpu.roll(band, flat - r * p, 1) if r else band
    band_ref[r] = copy[:, :lanes]


def fold_band(band_ref: Any, flat_ref: Any) -> None:
  """Sums a gradient `[R, P, L]` of the band to that of the table `[2, F]`."""
  copies, p, lanes = band_ref.shape
  flat = flat_ref.shape[-1]
  total = jnp.zeros((p, flat), jnp.float32)
  for r in range(copies):
    copy = band_ref[r]
    if lanes < flat:
      rest = jnp.zeros((p, flat - lanes), jnp.float32)
      copy = jnp.concatenate([copy, rest], axis=1)
    total += pltpu.roll(copy, r * p, 1) if r else copy
  nearer = _nearer(p, flat)
  halves = (
    (jnp.where(nearer, total, 0.0), p - 1),
    (jnp.where(nearer, 0.0, total), -1),
  )
  for half, (part, first) in enumerate(halves):
    moved = _roll_back(part, first)
    flat_ref[half : half + 1, :] = jnp.sum(moved, axis=0, keepdims=True)


def _nearer(side: int, flat: int) -> jax.Array:
  """Says whether x1 <= x2, of `[x2, lanes]`: whether the low half is meant."""
  x1 = lax.broadcasted_iota(jnp.int32, (side, flat), 1) & (side - 1)
  return x1 <= lax.broadcasted_iota(jnp.int32, (side, flat), 0)


def _roll_back(x: jax.Array, first: int) -> jax.Array:
  """Rolls row i of `[P, F]` by `first` - i lanes; strides are not negative."""
  side, flat = x.shape
  rows = lax.broadcasted_iota(jnp.int32, x.shape, 0)
  x = pltpu.roll(x, first % flat, 1) if first else x
  step = 1
  while step < side:
    x = jnp.where((rows & step) != 0, pltpu.roll(x, flat - step, 1), x)
    step *= 2
  return x
