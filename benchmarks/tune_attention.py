"""Times the tiles of the Triton attention on the GPU here, and keeps the best.

  python -m benchmarks.tune_attention

Writes the rows of this GPU's compute capability into the table that the kernels
read, semanir_jax/ops/attention/tile_table.json (or `--out`); other rows stay as
they are, and those that name this GPU and this JAX are not made again. It times
the forward pass, or the forward and backward pass with other tiles for one
kernel of it: only differences between the rows of one kernel mean something.
"""

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging

from benchmarks.timing import median_ms
from semanir_jax import cli
from semanir_jax.machine.files import write_bytes
from semanir_jax.ops import triton_launch
from semanir_jax.ops.attention import triton_vjp
from semanir_jax.ops.attention.tile_table import (
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


def block_candidates(num_tokens: int) -> Iterator[Tiles]:
  """Tiles of every size worth a try in a window."""
  most = max(32, num_tokens)  # the table's look-up takes no larger ones
  for block_q, block_k in itertools.product((16, 32, 64, 128), (32, 64, 128)):
    if block_q * block_k >= 1024 and max(block_q, block_k) <= most:
      # With fewer warps large ones spill registers, by the assembler's report.
      warps = 4 if block_q * block_k <= 8192 else 8
      yield Tiles(block_q, block_k, warps, num_stages=2)


def variants(tiles: Tiles) -> Iterator[Tiles]:
  """The same blocks with other warps and stages."""
  for num_warps, num_stages in itertools.product((4, 8), (2, 3, 4)):
    yield dataclasses.replace(tiles, num_warps=num_warps, num_stages=num_stages)


def measure(
  kernel: str, num_tokens: int, itemsize: int, tiles: Tiles
) -> float | None:
  """Milliseconds of a pass with these tiles; None if they do not fit the GPU,
  or compute something else than the table's do.

  Args:
    kernel: a name of `KERNELS`; the others keep the tiles of the table.
    num_tokens: N; the dictionary holds half of all pairs.
    itemsize: bytes of a number.
    tiles: to try.
  """
  arrays, _ = _make_arrays(num_tokens, itemsize)

  def choose(name: str, *others: int) -> Tiles:
    return tiles if name == kernel else choose_tiles(name, *others)

  with mock.patch.object(triton_vjp, "choose_tiles", choose):
    try:
      compiled = _compile(kernel, num_tokens, itemsize)
      found = jax.block_until_ready(compiled(*arrays))
    except Exception as error:
      # Out of shared memory or registers: compilers have many names for it.
      # What broke the device breaks this too, and ends the search.
      jax.block_until_ready(jnp.ones(1) + 1)
      logging.info("%s: %s: %s", kernel, tiles, str(error).splitlines()[:1])
      return None
  if not agree(found, _expected(kernel, num_tokens, itemsize), itemsize):
    logging.warning("%s: %s compute something else: left out", kernel, tiles)
    return None
  return median_ms(lambda: compiled(*arrays), jax.block_until_ready)


def agree(found: Any, expected: Any, itemsize: int) -> bool:
  """Whether all arrays are equal up to the rounding of their numbers.

  Args:
    found: pytree of arrays.
    expected: likewise.
    itemsize: bytes of a number; products of float32 may be TF32's.
  """
  tolerance = {2: 3e-2, 4: 1e-2}[itemsize]

  def close(a: jax.Array, b: jax.Array) -> bool:
    a, b = (np.asarray(x, np.float32) for x in (a, b))
    return bool(np.abs(a - b).max() <= tolerance * np.abs(b).max())

  return all(jax.tree.leaves(jax.tree.map(close, found, expected)))


def _compile(kernel: str, num_tokens: int, itemsize: int) -> Any:
  """A pass that has this kernel, with the tiles that `choose_tiles` gives."""
  arrays, bits = _make_arrays(num_tokens, itemsize)

  def attend(query: Any, key: Any, value: Any, scale: Any, bias: Any) -> Any:
    return triton_vjp.key_semantic_attention_triton(
      query, key, value, bits, scale, bias
    )

  def run(*arrays: jax.Array) -> Any:
    if kernel == FORWARD:
      return attend(*arrays)
    out, pullback = jax.vjp(attend, *arrays)
    return pullback(out)

  return jax.jit(run).lower(*arrays).compile()


@functools.lru_cache(maxsize=1)  # of the candidates that follow each other
def _expected(kernel: str, num_tokens: int, itemsize: int) -> Any:
  """What the tiles of the table compute, which the tests check."""
  compiled = _compile(kernel, num_tokens, itemsize)
  arrays, _ = _make_arrays(num_tokens, itemsize)
  return jax.device_get(compiled(*arrays))


@functools.lru_cache(maxsize=1)  # of the rows that follow each other
def _make_arrays(num_tokens: int, itemsize: int) -> tuple[Any, jax.Array]:
  """Query, key, value, scale and bias; and bits."""
  shape = (1, _TOKENS // num_tokens, num_tokens, _HEADS, _HEAD_SIZE)
  keys = jax.random.split(jax.random.key(0), 5)
  heads = (jax.random.normal(k, shape, _DTYPES[itemsize]) for k in keys[:3])
  bits = jax.random.bits(keys[3], (*shape[:3], num_tokens // 32), jnp.uint32)
  bias = jax.random.normal(keys[4], (_HEADS, num_tokens, num_tokens))
  return (*heads, jnp.ones(_HEADS), bias), bits


def fastest(
  kernel: str,
  num_tokens: int,
  itemsize: int,
  capability: int,
  *,
  quick: bool = False,
) -> dict[str, Any]:
  """The row of the fastest tiles: the best blocks first, then their warps and
  stages; of all combinations at once a table would take hours.

  Raises:
    ValueError: none of them runs.
  """
  times = {}

  def time_all(candidates: Iterator[Tiles]) -> Tiles:
    for tiles in itertools.islice(candidates, 2 if quick else None):
      if tiles not in times:
        milliseconds = measure(kernel, num_tokens, itemsize, tiles)
        if milliseconds is not None:
          times[tiles] = milliseconds
    if not times:
      raise ValueError(f"no tiles of {kernel} run with {num_tokens} tokens")
    return min(times, key=times.__getitem__)

  best = time_all(variants(time_all(block_candidates(num_tokens))))
  return {
    "kernel": kernel,
    "compute_capability": capability,
    "itemsize": itemsize,
    "num_tokens": num_tokens,
    "block_q": best.block_q,
    "block_k": best.block_k,
    "num_warps": best.num_warps,
    "num_stages": best.num_stages,
    "time": f"{times[best]:.3f} ms{_here()}",
  }


def _here() -> str:
  """End of the time of a row that was measured here."""
  return f", {jax.devices()[0].device_kind}, jax {jax.__version__}"


def merge(
  table: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
  """The table with these rows in the place of those of the same case."""

  merged = {_case(row): row for row in [*table, *rows]}
  order = lambda case: (KERNELS.index(case[0]), *case[1:])  # noqa: E731
  return [merged[case] for case in sorted(merged, key=order)]


def _case(row: dict[str, Any]) -> tuple[Any, ...]:
  """What a row is the only one of."""
  names = ("kernel", "compute_capability", "itemsize", "num_tokens")
  return tuple(row[name] for name in names)


def tune(path: str, *, quick: bool = False) -> None:
  """Tunes every kernel, for every window size and dtype; goes on where a
  former run on a GPU of this name was cut off.

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
  # What trains in bfloat16 first.
  for itemsize, num_tokens, kernel in itertools.product(
    _DTYPES, _NUM_TOKENS[:1] if quick else _NUM_TOKENS, KERNELS
  ):
    case = (kernel, capability, itemsize, num_tokens)
    if any(_case(r) == case and r["time"].endswith(_here()) for r in table):
      continue
    row = fastest(kernel, num_tokens, itemsize, capability, quick=quick)
    print(json.dumps(row), flush=True)
    table = merge(table, [row])
    lines = ",\n".join(json.dumps(row) for row in table)
    write_bytes(path, f"[\n{lines}\n]\n".encode())


if __name__ == "__main__":
  # Not above: tests import this beside other programs that have an --out.
  out = flags.DEFINE_string("out", str(TABLE), "Table to read and to write.")
  quick = flags.DEFINE_bool("quick", False, "Two candidates, one window size.")
  cli.run(lambda: tune(out.value, quick=quick.value), keep_compiled=False)
