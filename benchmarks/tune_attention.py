"""Times the tiles of the Triton attention on the GPU here, and keeps the best.

  python -m benchmarks.tune_attention

Writes the rows of this GPU's compute capability into the table that the kernels
read, semanir_jax/ops/attention_tiles.json (or `--out`); other rows stay as they
are. Timed is the forward pass, or the forward and backward pass with other
tiles for one kernel of it, so that only differences between the rows of one
kernel mean something.
"""

import itertools
import json
import os
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from absl import flags

from semanir_jax import cli
from semanir_jax.data.images import write_bytes
from semanir_jax.ops import attention_triton, triton_launch
from semanir_jax.ops.attention_tiles import (
  FORWARD,
  KERNELS,
  TABLE,
  Tiles,
  choose_tiles,
)

_NUM_TOKENS = (64, 256, 1024, 4096)
_DTYPES = {2: jnp.bfloat16, 4: jnp.float32}
_HEADS, _HEAD_SIZE = 6, 30
_TOKENS = 1 << 18  # of a 512 x 512 image
_REPEATS = 10


def candidates() -> Iterator[Tiles]:
  """Tiles worth a try."""
  for block_q, block_k, num_warps, num_stages in itertools.product(
    (16, 32, 64, 128), (32, 64, 128), (4, 8), (2, 3, 4)
  ):
    # Larger ones spill registers, by the assembler's report.
    if 1024 <= block_q * block_k <= 1024 * num_warps * 2:
      yield Tiles(block_q, block_k, num_warps, num_stages)


def measure(
  kernel: str, num_tokens: int, itemsize: int, tiles: Tiles
) -> float | None:
  """Milliseconds of a pass with these tiles; None if they do not fit the GPU.

  Args:
    kernel: a name of `KERNELS`; the others keep the tiles of the table.
    num_tokens: N; the dictionary holds half of all pairs.
    itemsize: bytes of a number.
    tiles: to try.
  """
  shape = (1, _TOKENS // num_tokens, num_tokens, _HEADS, _HEAD_SIZE)
  keys = jax.random.split(jax.random.key(0), 5)
  query, key, value = (
    jax.random.normal(k, shape, _DTYPES[itemsize]) for k in keys[:3]
  )
  bits = jax.random.bits(keys[3], (*shape[:3], num_tokens // 32), jnp.uint32)
  bias = jax.random.normal(keys[4], (_HEADS, num_tokens, num_tokens))

  def attend(query: Any, key: Any, value: Any, scale: Any, bias: Any) -> Any:
    return attention_triton.key_semantic_attention_triton(
      query, key, value, bits, scale, bias
    )

  def run(*arrays: jax.Array) -> Any:
    if kernel == FORWARD:
      return attend(*arrays)
    out, pullback = jax.vjp(attend, *arrays)
    return pullback(out)

  def choose(name: str, *others: int) -> Tiles:
    return tiles if name == kernel else choose_tiles(name, *others)

  arrays = (query, key, value, jnp.ones(_HEADS), bias)
  with mock.patch.object(attention_triton, "choose_tiles", choose):
    try:
      compiled = jax.jit(run).lower(*arrays).compile()
      jax.block_until_ready(compiled(*arrays))
    except (RuntimeError, ValueError):  # out of shared memory or registers
      return None
  start = time.perf_counter()
  for _ in range(_REPEATS):
    result = compiled(*arrays)
  jax.block_until_ready(result)
  return 1e3 * (time.perf_counter() - start) / _REPEATS


def fastest(
  kernel: str,
  num_tokens: int,
  itemsize: int,
  capability: int,
  *,
  most_candidates: int | None = None,
) -> dict[str, Any]:
  """The row of the fastest candidate.

  Raises:
    ValueError: none of them runs.
  """
  times = {}
  for tiles in itertools.islice(candidates(), most_candidates):
    milliseconds = measure(kernel, num_tokens, itemsize, tiles)
    if milliseconds is not None:
      times[tiles] = milliseconds
  if not times:
    raise ValueError(f"no tiles of {kernel} run with {num_tokens} tokens")
  best = min(times, key=times.__getitem__)
  device = jax.devices()[0].device_kind
  return {
    "kernel": kernel,
    "compute_capability": capability,
    "itemsize": itemsize,
    "num_tokens": num_tokens,
    "block_q": best.block_q,
    "block_k": best.block_k,
    "num_warps": best.num_warps,
    "num_stages": best.num_stages,
    "time": f"{times[best]:.3f} ms, {device}, jax {jax.__version__}",
  }


def merge(
  table: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
  """The table with these rows in the place of those of the same case."""

  def case(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
      KERNELS.index(row["kernel"]),
      row["compute_capability"],
      row["itemsize"],
      row["num_tokens"],
    )

  merged = {case(row): row for row in [*table, *rows]}
  return [merged[key] for key in sorted(merged)]


def tune(path: str, *, quick: bool = False) -> None:
  """Tunes every kernel, for every window size and dtype.

  Args:
    path: of the table, read where it exists and written after every row.
    quick: two candidates and the smallest window.

  Raises:
    ValueError: there is no GPU.
  """
  capability = triton_launch.compute_capability()
  if capability is None:
    raise ValueError("there is no NVIDIA GPU here; tiles are timed on one")
  table = []
  if os.path.exists(path):
    with open(path) as file:
      table = json.load(file)
  for kernel, itemsize, num_tokens in itertools.product(
    KERNELS, _DTYPES, _NUM_TOKENS[:1] if quick else _NUM_TOKENS
  ):
    row = fastest(
      kernel,
      num_tokens,
      itemsize,
      capability,
      most_candidates=2 if quick else None,
    )
    print(json.dumps(row), flush=True)
    table = merge(table, [row])
    lines = ",\n".join(json.dumps(row) for row in table)
    write_bytes(path, f"[\n{lines}\n]\n".encode())


if __name__ == "__main__":
  # Not above: tests import this beside other programs that have an --out.
  out = flags.DEFINE_string("out", str(TABLE), "Table to read and to write.")
  quick = flags.DEFINE_bool("quick", False, "Two candidates, one window size.")
  cli.run(lambda: tune(out.value, quick=quick.value))
