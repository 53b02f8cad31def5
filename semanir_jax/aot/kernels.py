"""Finds the Pallas kernels of a traced program, and what a call of one moves.

A compiler does not look into a kernel: of a TPU it says neither what it reads
and writes nor how long it takes. What it moves between main memory and the chip
follows from its blocks: one is fetched before a step of the grid whose block is
another than that of the step before, and written after the last step that has
it.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

# As HLO names them.
_DTYPES = {
  "bool": "pred",
  "int8": "s8",
  "uint8": "u8",
  "int16": "s16",
  "uint16": "u16",
  "int32": "s32",
  "uint32": "u32",
  "float16": "f16",
  "bfloat16": "bf16",
  "float32": "f32",
}
_LANES = 128
_SUBLANES = 8  # of 4 bytes

# Type and sides of an array, as in HLO: ("bf16", (4, 1024, 180)).
Shape = tuple[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Kernel:
  """Describes a kernel as a program calls it.

  Attributes:
    name: of the kernel.
    grid: numbers of its steps along every axis, the last fastest.
    operands: shapes of them.
    results: shapes of them.
    moved_bytes: that a call moves to or from main memory, of each operand, then
      of each result; blocks filled up to whole tiles.
    call: the function that calls it, of its operands.
  """

  name: str
  grid: tuple[int, ...]
  operands: tuple[Shape, ...]
  results: tuple[Shape, ...]
  moved_bytes: tuple[int, ...]
  call: Any = dataclasses.field(compare=False, repr=False)

  @property
  def arguments(self) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Operands without values, to trace `call` with."""
    dtypes = {hlo: jnp.dtype(name) for name, hlo in _DTYPES.items()}
    return tuple(
      jax.ShapeDtypeStruct(sides, dtypes[dtype])
      for dtype, sides in self.operands
    )


def find_kernels(jaxpr: Any) -> tuple[Kernel, ...]:
  """Describes all kernels of a traced program, each kind of call once.

  Args:
    jaxpr: of the program, as `jax.jit(function).trace(...)` has it. A kernel
      inside `shard_map` is one of what a device holds.
  """
  found = {}
  for equation in _kernel_calls(jaxpr):
    kernel = _describe(equation)
    found[(kernel.name, kernel.operands, kernel.results)] = kernel
  return tuple(found.values())


def _kernel_calls(jaxpr: Any) -> Iterator[Any]:
  """Yields the equations that call a kernel, of a jaxpr and those inside it."""
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  for equation in jaxpr.eqns:
    if equation.primitive.name == "pallas_call":
      yield equation
      continue
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple | list) else [value]:
        if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
          yield from _kernel_calls(inner)


def _describe(equation: Any) -> Kernel:
  """Describes the kernel that an equation calls."""
  mapping = equation.params["grid_mapping"]
  grid = tuple(int(steps) for steps in mapping.grid)
  points = np.indices(grid, np.int32).reshape(len(grid), math.prod(grid))
  # What is looked up in an operand may ask for any block.
  known = not mapping.num_index_operands

  def call(*operands: jax.Array) -> Any:
    return equation.primitive.bind(*operands, **equation.params)

  return Kernel(
    name=equation.params["name"],
    grid=grid,
    operands=tuple(_shape(variable.aval) for variable in equation.invars),
    results=tuple(_shape(variable.aval) for variable in equation.outvars),
    moved_bytes=(0,) * mapping.num_index_operands
    + tuple(_moved_bytes(b, points, known) for b in mapping.block_mappings),
    call=call,
  )


def _shape(aval: Any) -> Shape:
  """Names type and sides as HLO does."""
  return _DTYPES.get(str(aval.dtype), str(aval.dtype)), tuple(aval.shape)


def _moved_bytes(block: Any, points: np.ndarray, known: bool) -> int:
  """Counts the bytes that the steps of a grid move of one array.

  Args:
    block: Pallas's description of how the array is cut.
    points: `[axes, steps]`, the steps of the grid in their order.
    known: whether the blocks depend on the step alone; else every step counts.
  """
  sides = block.array_aval.shape
  sizes = tuple(
    side if isinstance(side, int) else getattr(side, "block_size", 1)
    for side in block.block_shape
  )
  tiled = _tiled_bytes(sizes, sides, block.array_aval.dtype)
  if sizes == tuple(sides) or not points.size:
    return tiled
  if not known:
    return points.shape[1] * tiled
  index_map = jax.jit(jax.vmap(jaxpr_as_fun(block.index_map_jaxpr)))
  index = np.stack([np.asarray(axis) for axis in index_map(*points)], axis=1)
  changes = 1 + np.count_nonzero(np.any(index[1:] != index[:-1], axis=1))
  return int(changes) * tiled


def _tiled_bytes(
  sizes: tuple[int, ...], sides: tuple[int, ...], dtype: Any
) -> int:
  """Counts the bytes of a block of an array, with what fills up its tiles."""
  padded = list(sizes)
  itemsize = jnp.dtype(dtype).itemsize
  if len(padded) > 1:
    rows = _SUBLANES * 4 // itemsize
    # A narrow array has narrow tiles.
    rows = min(rows, 1 << (sides[-2] - 1).bit_length())
    padded[-2] = -(-padded[-2] // rows) * rows
  if padded:
    padded[-1] = -(-padded[-1] // _LANES) * _LANES
  return math.prod(padded) * itemsize
