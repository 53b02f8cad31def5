"""Counts a TPU kernel's cycles in the schedule that the compiler writes.

A TPU's core issues one bundle of instructions a cycle. The compiler can write
down the bundles of a kernel, with its loops; a bundle counts as often as its
loops run. That leaves out what a schedule does not say: waiting for memory.

  python -m semanir_jax.aot.schedule TOPOLOGY FILE ...

compiles exported kernels and puts the bundles of each beside it, as FILE.txt: a
process of its own, because the compiler reads where to write when it is loaded,
and would write down a whole program.
"""

import dataclasses
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import jax
from jax.sharding import SingleDeviceSharding

from semanir_jax.aot.kernels import Kernel
from semanir_jax.aot.topology import topology_devices

# "  0x4b LB: >> { ...": address, label, a ">" for each loop around it.
_BUNDLE = re.compile(r"^\s*(?:0x[0-9a-f]+|0)\s+(?:[A-Z]{2})?\s*:[\s>]*\{(.*)")
_BRANCH = re.compile(r"sbr\.rel \(!?%(\w+)\) target = \$region(\d+)")
_START = re.compile(r"(?:Start|Start/End empty) region (\d+)")
_OF_A_KERNEL = re.compile(r"exit bundle: .*custom-call\(")
_SLOTS = 4  # bundles after a branch that run before it is taken
_DUMP = "--xla_jf_dump_to={} --xla_jf_dump_llo_text=true"


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Holds the cycles of one call of a kernel.

  Attributes:
    cycles: of the bundles that always run, loops as often as they do.
    branches: cycles more if every bundle under a condition ran too, at every
      step of the grid.
  """

  cycles: int
  branches: int


def count_cycles(text: str, steps: int) -> Schedule:
  """Counts the cycles of a kernel in the text of its final bundles.

  Args:
    text: a `*-final_bundles.txt` of libtpu.
    steps: of the kernel's grid. The loop over them makes two turns more, for
      what is fetched ahead and written behind, which run next to nothing.

  Raises:
    ValueError: the text has no bundles, or a loop whose turns it does not say.
  """
  bundles = _parse(text)
  if not bundles:
    raise ValueError("the compiler wrote no bundles of the kernel")
  starts: dict[str, int] = {}
  for i, bundle in enumerate(bundles):
    for region in _START.findall(bundle):
      starts.setdefault(region, i)
  turns = [1] * len(bundles)
  branches, grid = [], range(0)
  # From the outer loops, whose branches back come last, to the inner ones.
  for i, bundle in reversed(list(enumerate(bundles))):
    for predicate, region in _BRANCH.findall(bundle):
      target = starts.get(region, i)
      if target > i:
        branches.append(range(i + _SLOTS + 1, target))
        continue
      loop = range(target, min(i + _SLOTS + 1, len(bundles)))
      count = _turns(bundles[target : i + 1], predicate)
      if turns[i] == 1 and steps <= count <= steps + 2:
        count, grid = steps, loop
      for j in loop:
        turns[j] *= count
  # The work of a step is under a condition too: that the turn is a step.
  work = max((b for b in branches if b.start in grid), key=len, default=None)
  if work is not None and 2 * len(work) > len(grid):
    branches.remove(work)
  conditional = {i for branch in branches for i in branch}
  always = [t for i, t in enumerate(turns) if i not in conditional]
  return Schedule(cycles=sum(always), branches=sum(turns) - sum(always))


def _parse(text: str) -> list[str]:
  """Reads bundles; a line that begins none goes on with the one before."""
  bundles: list[str] = []
  for line in text.splitlines():
    found = _BUNDLE.match(line)
    if found:
      bundles.append(found.group(1))
    elif bundles:
      bundles[-1] += f" {line}"
  return bundles


def _turns(loop: Sequence[str], predicate: str) -> int:
  """Returns how often a loop runs, by the test that ends it."""
  text = " ".join(loop)
  test = re.search(
    rf"%{predicate} = scmp\.ge\.s32\.totalorder %(\w+), (\d+) "
    r"/\* loop exit test",
    text,
  )
  if test is None:
    raise ValueError("the compiler's schedule does not say a loop's turns")
  counter, limit = test.groups()
  step = re.search(rf"%{counter} = sadd\.s32 (\d+), ", text)
  return -(-int(limit) // int(step.group(1) if step else 1))


def schedules(kernels: Sequence[Kernel], topology: str) -> list[Schedule | str]:
  """Compiles kernels alone, and counts the cycles of a call of each.

  Args:
    kernels: of `kernels.find_kernels`.
    topology: a TPU slice to compile for.

  Returns:
    For each kernel its schedule, or in a line why there is none.
  """
  if not kernels:
    return []
  with tempfile.TemporaryDirectory(prefix="semanir_jax_schedule_") as name:
    folder = pathlib.Path(name)
    files = []
    for i, kernel in enumerate(kernels):
      files.append(folder / f"{i}_{kernel.name}")
      export = jax.export.export(jax.jit(kernel.call), platforms=["tpu"])
      files[-1].write_bytes(export(*kernel.arguments).serialize())
    dump = folder / "dump"
    flags = [os.environ.get("LIBTPU_INIT_ARGS", ""), _DUMP.format(dump)]
    done = subprocess.run(
      [sys.executable, "-m", "semanir_jax.aot.schedule", topology, *files],
      env=os.environ
      | {
        "LIBTPU_INIT_ARGS": " ".join(flags).strip(),
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "JAX_PLATFORMS": "cpu",
      },
      capture_output=True,
      text=True,
    )
    found: list[Schedule | str] = []
    for file, kernel in zip(files, kernels, strict=True):
      bundles = file.with_suffix(".txt")
      if not bundles.exists():
        lines = done.stderr.strip().splitlines() if done.returncode else []
        reason = lines[-1] if lines else "its schedule was not written"
        found.append(f"not compiled alone: {reason}")
        continue
      try:
        text = bundles.read_text()
        found.append(count_cycles(text, math.prod(kernel.grid)))
      except ValueError as error:
        found.append(str(error))
    return found


def main(topology: str, files: Sequence[str]) -> None:
  """Compiles exported kernels, and puts the bundles of each beside it."""
  device = SingleDeviceSharding(topology_devices("tpu", topology)[0])
  for file in map(pathlib.Path, files):
    export = jax.export.deserialize(bytearray(file.read_bytes()))
    placed = [
      jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=device)
      for aval in export.in_avals
    ]
    jax.jit(export.call).lower(*placed).compile()
    dump = file.with_name("dump")
    for written in dump.glob("*-final_bundles.txt"):
      if _OF_A_KERNEL.search(written.read_text()):
        written.rename(file.with_suffix(".txt"))
    for written in dump.iterdir():
      written.unlink()


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2:])
