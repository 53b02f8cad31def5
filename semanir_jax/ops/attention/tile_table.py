"""Tile sizes of the Triton attention, by kernel, GPU, dtype and window."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

# Written by `python -m benchmarks.tune_attention`; one row a line.
TABLE = pathlib.Path(__file__).with_suffix(".json")

FORWARD = "forward"
QUERY_GRADIENT = "query_gradient"
KEY_VALUE_GRADIENT = "key_value_gradient"
BIAS_GRADIENT = "bias_gradient"
KERNELS = (FORWARD, QUERY_GRADIENT, KEY_VALUE_GRADIENT, BIAS_GRADIENT)


@dataclasses.dataclass(frozen=True)
class Tiles:
  """How a kernel divides a window.

  Attributes:
    block_q: tokens of a query tile, a power of two from 16.
    block_k: tokens of a key tile, a power of two from 32, the bits of a word.
    num_warps: of a program.
    num_stages: tiles under way in its loop.
  """

  block_q: int
  block_k: int
  num_warps: int
  num_stages: int


def choose_tiles(
  kernel: str, num_tokens: int, itemsize: int, compute_capability: int
) -> Tiles:
  """Looks the tiles of a kernel up.

  Args:
    kernel: a name of `KERNELS`.
    num_tokens: N; the row of the smallest listed N that is not below it counts,
      or that of the largest.
    itemsize: bytes of a number of the operands, 2 or 4.
    compute_capability: of the GPU, as 80 or 90; the row of the newest listed
      that is not newer counts, or that of the oldest.

  Returns:
    The tiles, not much larger than the window.
  """
  rows = [
    row
    for row in _table()
    if row["kernel"] == kernel and row["itemsize"] == itemsize
  ]
  oldest = min(row["compute_capability"] for row in rows)
  known = max(oldest, compute_capability)
  capability = max(
    row["compute_capability"]
    for row in rows
    if row["compute_capability"] <= known
  )
  rows = [row for row in rows if row["compute_capability"] == capability]
  largest = max(row["num_tokens"] for row in rows)
  row = min(
    (row for row in rows if row["num_tokens"] >= min(num_tokens, largest)),
    key=lambda row: row["num_tokens"],
  )
  enough = max(32, 1 << (num_tokens - 1).bit_length())
  return Tiles(
    block_q=min(row["block_q"], enough),
    block_k=min(row["block_k"], enough),
    num_warps=row["num_warps"],
    num_stages=row["num_stages"],
  )


@functools.cache
def _table() -> list[dict[str, Any]]:
  """Reads the rows of `TABLE`, numbers but for notes on where they are from."""
  return json.loads(TABLE.read_text())
