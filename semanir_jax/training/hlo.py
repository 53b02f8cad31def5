"""Reads a compiled program's text: memory traffic and collective operations.

The compilers' own `cost_analysis` counts the body of a loop once; here a loop
counts as often as it runs, which its text says.
"""

import collections
import dataclasses
import math
import re

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
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
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
  rest: str  # operands and attributes


@dataclasses.dataclass
class Traffic:
  """What a program moves, per device and run.

  Attributes:
    memory_bytes: results and operands of all unfused instructions: an upper
      bound of the traffic to main memory, as if nothing stayed in a cache.
    collective_counts: runs of every kind of collective operation.
    collective_bytes: bytes of their results.
  """

  memory_bytes: float = 0.0
  collective_counts: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  collective_bytes: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )


def analyse(text: str) -> Traffic:
  """Adds up the traffic of a compiled program, `compiled.as_text()`."""
  computations, entry = _parse(text)
  traffic = Traffic()
  _walk(entry, 1, computations, traffic)
  return traffic


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
  """Instructions by computation, and the name of the entry."""
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
        _Instruction(name, operation, _num_bytes(result), rest)
      )
  return computations, entry


def _num_bytes(shapes: str) -> int:
  """Bytes of all arrays in the text of a shape, which may be a tuple."""
  return sum(
    _BYTES.get(dtype, 0) * math.prod(int(n) for n in sides.split(",") if n)
    for dtype, sides in _SHAPE.findall(shapes)
  )


def _walk(
  name: str,
  times: int,
  computations: dict[str, list[_Instruction]],
  traffic: Traffic,
) -> None:
  """Adds a computation that runs `times` times."""
  instructions = computations.get(name, [])
  sizes = {i.name: i.num_bytes for i in instructions}
  for instruction in instructions:
    operation = instruction.operation
    kind = operation.removesuffix("-start")
    if kind in COLLECTIVES:
      traffic.collective_counts[kind] += times
      traffic.collective_bytes[kind] += times * instruction.num_bytes
    if operation not in _FREE and not operation.endswith("-done"):
      operands = instruction.rest.split("), ")[0]
      moved = sum(sizes.get(n, 0) for n in _OPERAND.findall(operands))
      traffic.memory_bytes += times * (instruction.num_bytes + moved)
    if operation in ("while", "call", "conditional", "async-start"):
      inner = times * _trip_count(instruction, computations)
      called = _CALLED.findall(instruction.rest)
      for branches in _BRANCHES.findall(instruction.rest):
        called += [name.strip(" %") for name in branches.split(",")]
      for computation in called:
        _walk(computation, inner, computations, traffic)


def _trip_count(
  instruction: _Instruction, computations: dict[str, list[_Instruction]]
) -> int:
  """How often a loop runs; 1 for other calls.

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
