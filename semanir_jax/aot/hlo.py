"""Reads a compiled program's text: memory traffic, collectives, cycles.

The compilers' own `cost_analysis` counts the body of a loop once; here a loop
counts as often as it runs, which its text says. A Pallas kernel counts by its
blocks (`kernels`).
"""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence

from semanir_jax.aot.kernels import Kernel

_BYTES = {
  "pred": 1,
  "s8": 1,
  "u8": 1,
  "bf16": 2,
  "f16": 2,
  "s16": 2,
  "u16": 2,
  "s32": 4,
  "u32": 4,
  "f32": 4,
  "s64": 8,
  "u64": 8,
  "f64": 8,
}
COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
# What a TPU program hands to the network between slices.
_BETWEEN_SLICES = '"xla_megascale_runtime"'
# Instructions that move nothing by themselves.
_FREE = {
  "parameter",
  "constant",
  "tuple",
  "get-tuple-element",
  "bitcast",
  "while",
  "conditional",
  "call",
  "iota",
  "after-all",
  "partition-id",
  "replica-id",
}
# As f32[6,30], or with the layout that a TPU program has: axes from the minor
# one, tile, and 1 for the fast memory on the chip: f32[6,30]{1,0:T(8,128)S(1)}.
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r":T\(([\d,]+)\)")
_ON_CHIP = "S(1)"
_KERNEL = 'custom_call_target="tpu_custom_call"'
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_INSTRUCTION = re.compile(
  r"^\s*(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\((.*)$"
)
_OPERAND = re.compile(r"%([\w.\-]+)")
# A loop's condition moves a counter only.
_CALLED = re.compile(r"\b(?:body|to_apply|calls)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class _Instruction:
  name: str
  operation: str
  num_bytes: int  # of its result
  memory_bytes: int  # of its result in main memory, tiles filled up
  result: str  # its shape
  rest: str  # operands and attributes


@dataclasses.dataclass
class Traffic:
  """Holds what a program moves, per device and run.

  Attributes:
    memory_bytes: results and operands of all unfused instructions, whole even
      where a part is read: an upper bound of the traffic to main memory. What
      the TPU compiler places in a chip's fast memory is left out, and what it
      pads to whole tiles counts in full. A kernel counts what its blocks move.
    cycles: the TPU compiler's own estimate, without what it gives none for
      (gathers, sorts, collective operations); 0 from other compilers.
    collective_counts: runs of every kind of collective operation.
    collective_bytes: bytes of their results.
    slice_counts: runs of what a device sends to other TPU slices.
    slice_bytes: bytes of that.
    kernel_calls: runs of every Pallas kernel.
    kernel_bytes: that all runs of it move.
    unknown_kernels: runs of those that were not described; they count as other
      instructions do, every operand and result once.
  """

  memory_bytes: float = 0.0
  cycles: int = 0
  collective_counts: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  collective_bytes: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  slice_counts: int = 0
  slice_bytes: int = 0
  kernel_calls: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  kernel_bytes: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  unknown_kernels: int = 0


def analyse(text: str, kernels: Sequence[Kernel] = ()) -> Traffic:
  """Adds up the traffic of a compiled program.

  Args:
    text: of it, `compiled.as_text()`.
    kernels: Pallas kernels that it may call, `kernels.find_kernels`.
  """
  computations, entry = _parse(text)
  traffic = Traffic()
  _walk(entry, 1, computations, kernels, traffic)
  return traffic


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
  """Reads instructions by computation, and the name of the entry."""
  computations: dict[str, list[_Instruction]] = {}
  current, entry = "", ""
  for line in text.splitlines():
    header = re.match(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line)
    if header:
      current = header.group(2)
      computations[current] = []
      entry = current if header.group(1) else entry
      continue
    found = _INSTRUCTION.match(line)
    if found and current:
      name, result, operation, rest = found.groups()
      computations[current].append(
        _Instruction(
          name,
          operation,
          _num_bytes(result),
          _memory_bytes(result),
          result,
          rest,
        )
      )
  return computations, entry


def _num_bytes(shapes: str) -> int:
  """Counts the bytes of all arrays in the text of a shape or of a tuple."""
  return sum(
    _BYTES.get(dtype, 0) * math.prod(_numbers(sides))
    for dtype, sides, _ in _SHAPE.findall(shapes)
  )


def _memory_bytes(shapes: str) -> int:
  """Counts the bytes that arrays take in main memory, as they are laid out."""
  total = 0
  for dtype, sides, layout in _SHAPE.findall(shapes):
    if _ON_CHIP in layout:
      continue
    sides = _numbers(sides)
    tile = _TILE.search(layout)
    if tile:
      axes = _numbers(layout.split(":")[0])
      sides = _whole_tiles([sides[i] for i in axes], _numbers(tile.group(1)))
    total += _BYTES.get(dtype, 0) * math.prod(sides)
  return total


def _whole_tiles(sides: list[int], tile: list[int]) -> list[int]:
  """Rounds sides, minor first, up to multiples of a tile, minor last."""
  sides = sides + [1] * (len(tile) - len(sides))
  for i, length in enumerate(reversed(tile)):
    sides[i] = -(-sides[i] // length) * length
  return sides


def _numbers(text: str) -> list[int]:
  """Reads "6,30"."""
  return [int(number) for number in text.split(",") if number]


def _walk(
  name: str,
  times: int,
  computations: dict[str, list[_Instruction]],
  kernels: Sequence[Kernel],
  traffic: Traffic,
) -> None:
  """Adds a computation that runs `times` times."""
  instructions = computations.get(name, [])
  results = {i.name: i for i in instructions}
  for instruction in instructions:
    operation = instruction.operation
    operands = [
      results[name]
      for name in _OPERAND.findall(instruction.rest.split("), ")[0])
      if name in results
    ]
    kind = operation.removesuffix("-start")
    if kind in COLLECTIVES:
      moved = instruction.num_bytes
      given = sum(operand.num_bytes for operand in operands)
      if operation != kind and moved > given:
        # The result of such a start holds the operands too.
        moved -= given
      traffic.collective_counts[kind] += times
      traffic.collective_bytes[kind] += times * moved
    if operation == "fusion":
      _add_fused(instruction, times, computations, traffic)
    if operation == "send" and _BETWEEN_SLICES in instruction.rest:
      traffic.slice_counts += times
      traffic.slice_bytes += times * sum(o.num_bytes for o in operands)
    if _KERNEL in instruction.rest and _add_kernel(
      instruction, operands, times, kernels, traffic
    ):
      continue
    if operation not in _FREE and not operation.endswith("-done"):
      moved = sum(operand.memory_bytes for operand in operands)
      traffic.memory_bytes += times * (instruction.memory_bytes + moved)
    if cycles := _CYCLES.search(instruction.rest):
      traffic.cycles += times * int(cycles.group(1))
    if operation in ("while", "call", "conditional", "async-start"):
      inner = times * _trip_count(instruction, computations)
      called = _CALLED.findall(instruction.rest)
      for branches in _BRANCHES.findall(instruction.rest):
        called += [name.strip(" %") for name in branches.split(",")]
      for computation in called:
        _walk(computation, inner, computations, kernels, traffic)


def _add_fused(
  instruction: _Instruction,
  times: int,
  computations: dict[str, list[_Instruction]],
  traffic: Traffic,
) -> None:
  """Adds the collective operations inside a fusion: a TPU's reduction whose
  result is cut is an all-reduce with what cuts it.
  """
  for computation in _CALLED.findall(instruction.rest):
    for inner in computations.get(computation, []):
      if inner.operation in COLLECTIVES:
        traffic.collective_counts[inner.operation] += times
        traffic.collective_bytes[inner.operation] += times * inner.num_bytes


def _add_kernel(
  instruction: _Instruction,
  operands: Sequence[_Instruction],
  times: int,
  kernels: Sequence[Kernel],
  traffic: Traffic,
) -> bool:
  """Adds a call of a kernel, and says whether it was one that is described.

  What the compiler has placed in fast memory the kernel finds there.
  """
  given = _SHAPE.findall(" ".join(operand.result for operand in operands))
  results = _SHAPE.findall(instruction.result)
  named = [(dtype, tuple(_numbers(sides))) for dtype, sides, _ in given]
  made = [(dtype, tuple(_numbers(sides))) for dtype, sides, _ in results]
  same = [
    kernel
    for kernel in kernels
    if [*kernel.operands] == named and [*kernel.results] == made
  ]
  if not same:
    traffic.unknown_kernels += times
    return False
  # Of kernels alike in all shapes that whose name is there.
  same.sort(key=lambda kernel: f"/{kernel.name}" not in instruction.rest)
  moved = sum(
    size
    for size, (_, _, layout) in zip(
      same[0].moved_bytes, given + results, strict=True
    )
    if _ON_CHIP not in layout
  )
  traffic.kernel_calls[same[0]] += times
  traffic.kernel_bytes[same[0]] += times * moved
  traffic.memory_bytes += times * moved
  return True


def _trip_count(
  instruction: _Instruction, computations: dict[str, list[_Instruction]]
) -> int:
  """Returns how often a loop runs; 1 for other calls.

  XLA writes it down for CPU and GPU. For TPU it is the constant that the loop's
  condition compares its counter with: all loops of this project count from 0.
  """
  if instruction.operation != "while":
    return 1
  known = re.search(r'known_trip_count"?:\{"?n"?:"(\d+)"', instruction.rest)
  if known:
    return int(known.group(1))
  condition = re.search(r"condition=%?([\w.\-]+)", instruction.rest)
  limits = [
    int(number.group())
    for i in computations.get(condition.group(1) if condition else "", [])
    if i.operation == "constant" and (number := re.match(r"\d+", i.rest))
  ]
  return limits[0] if len(limits) == 1 else 1
