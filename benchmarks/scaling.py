"""Compiles configs ahead of time for TPU slices, and makes a table of it.

  JAX_PLATFORMS=cpu python -m benchmarks.scaling \\
    --out=benchmarks/results/scaling.json

Needs the TPU compiler of `jax[tpu]` and no TPU; nothing is run. Each case is a
process of its own (`python -m semanir_jax.aot`) and takes minutes, so
that the file is written after each of them and a case that is in it is not
compiled again. Delete its row, or the file, to have it made anew. The table is
printed; docs/scaling.md holds it.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from semanir_jax import cli
from semanir_jax.machine.files import write_bytes

_OUT = flags.DEFINE_string("out", None, "JSON file of the rows.", required=True)
_QUICK = flags.DEFINE_bool("quick", False, "One small case, for the CPU.")
_COMPILE = flags.DEFINE_bool(
  "compile", True, "Compile what is missing; --nocompile prints the table only."
)

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_SR_S, _SR_B = "configs/sr.py:x4,S", "configs/sr.py:x4,B"
_U = "configs/denoise.py:color,U"
_BFLOAT16 = "model.dtype=bfloat16"
_MASK = "model.implementation=mask"


class Case(NamedTuple):
  """One compilation.

  Attributes:
    config: file and variants.
    topology: TPU slice; "cpu" for the devices here.
    changes: fields of the config with values, as `train.batch_size=16`.
    steps: that are compiled.
  """

  config: str
  topology: str
  changes: tuple[str, ...] = (_BFLOAT16,)
  steps: tuple[str, ...] = ("train",)

  def arguments(self) -> list[str]:
    """Of `semanir_jax.aot`."""
    where = f"--topology={self.topology}"
    if self.topology == "cpu":
      where = "--platform=cpu"
    return [
      f"--config={self.config}",
      *(f"--config.{change}" for change in self.changes),
      where,
      *(f"--step={step}" for step in self.steps),
    ]


_BOTH = ("train", "inference")
# The recipes' batch sizes, one patch on each device.
_RECIPES = (
  (_SR_S, "v5e:4x8", _BOTH),
  (_SR_B, "v5e:4x8", ("train",)),
  (_U, "v5e:2x4", _BOTH),
  (_SR_S, "v6e:4x8", ("train",)),
  (_SR_S, "v5p:2x4x4", ("train",)),
  (_U, "v6e:2x4", ("train",)),
  (_U, "v5p:2x2x2", ("train",)),
  (_SR_B, "v6e:4x8", ("train",)),
  (_SR_B, "v5p:2x4x4", ("train",)),
)
CASES = (
  *(Case(name, where, steps=steps) for name, where, steps in _RECIPES),
  # Without the TPU's kernels.
  *(
    Case(name, where, (_BFLOAT16, _MASK), steps)
    for name, where, steps in _RECIPES
  ),
  # Parameters split.
  Case(_SR_S, "v5e:4x8", (_BFLOAT16, "mesh.fsdp=8")),
  # Two slices that share the recipe's batch.
  Case(_SR_S, "v5e:4x4", (_BFLOAT16, "mesh.slices=2")),
)
QUICK_CASES = (Case("configs/base.py:smoke", "cpu"),)


def compile_case(case: Case) -> dict[str, Any]:
  """Compiles a case in a process of its own.

  Returns:
    Its command, and the rows and versions that it reports, or its error.
  """
  arguments = case.arguments()
  command = ["-m", "semanir_jax.aot", *arguments]
  entry = case._asdict() | {"command": " ".join(["python", *command])}
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / "report.json"
    process = subprocess.run(
      [sys.executable, *command, f"--out={out}"],
      cwd=_ROOT,
      capture_output=True,
      text=True,
    )
    if process.returncode:
      lines = process.stderr.strip().splitlines() or ["no message"]
      return entry | {"error": lines[-1], "rows": []}
    report = json.loads(out.read_text())
  kept = ("device_kind", "versions", "rows")
  return entry | {name: report[name] for name in kept}


def table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
  """Lines of the Markdown table of all entries."""
  lines = [
    "| config | slice | step, batch | memory per device, MiB: arguments +"
    " temporaries = in use (share) | GFLOP per device | crosses devices, MB |"
    " traffic, GB (+ in kernels) | Mcycles: XLA + kernels (+ branches) |"
    " matrix units alone, ms | roofline, ms (bound by) |",
    "| --- | --- | --- | --- | ---: | --- | --- | --- | ---: | --- |",
  ]
  for entry in entries:
    lines += _table_lines(entry)
  return lines


def _table_lines(entry: Mapping[str, Any]) -> Iterator[str]:
  """One line for every step of an entry."""
  name = entry["config"].removeprefix("configs/")
  changes = [c for c in entry["changes"] if c != _BFLOAT16]
  if _BFLOAT16 not in entry["changes"]:
    changes.append("float32")
  empty = "| " * 5 + "|"
  start = f"| {' '.join([f'`{name}`', *changes])} | {entry['topology']} |"
  if "error" in entry:
    yield f"{start} {', '.join(entry['steps'])} | {entry['error']} | {empty}"
  for row in entry["rows"]:
    step = f"{row['step']}, {row['batch_size']}"
    flops = f"{row['gigaflops_per_device']:.0f}"
    if "compiler_error" in row:
      reason = row["compiler_error"].split(": ")[-1].removesuffix(".")
      yield f"{start} {step} | **does not compile**: {reason} | {flops} {empty}"
      continue
    share = ""
    if "fits" in row:
      share = f" ({row['memory_share']:.0%})"
      share += "" if row["fits"] else " **does not fit**"
    memory = (
      f"{row['arguments_mib']:.0f} + {row['temporaries_mib']:.0f} ="
      f" {row['memory_mib']:.0f}{share}"
    )
    moved = ", ".join(
      f"{row['collectives'][kind]} {kind} {size:.1f}"
      for kind, size in row["collective_mb"].items()
    )
    if "sent_between_slices" in row:
      count, size = row["sent_between_slices"], row["sent_between_slices_mb"]
      moved += f", {count} to other slices {size:.1f}"
    times = "| |"
    if "roofline_ms" in row:
      bound = f"{row['roofline_ms']:.0f} ({row['bound_by']})"
      times = f"{row['arithmetic_ms']:.1f} | {bound} |"
    cells = (step, memory, flops, moved or "nothing", *_memory_and_cycles(row))
    yield f"{start} {' | '.join(cells)} | {times}"


def _memory_and_cycles(row: Mapping[str, Any]) -> tuple[str, str]:
  """Cells of what main memory moves, and of the step's cycles.

  Beside the traffic stands what kernels move of arrays that the compiler has
  placed in fast memory: it would be traffic if they lay in main memory.
  """
  traffic, cycles = f"{row['memory_traffic_gb']:.1f}", ""
  kernels = row.get("kernels", [])
  if any("blocks_gb" in kernel for kernel in kernels):
    inside = sum(k["blocks_gb"] - k["traffic_gb"] for k in kernels)
    traffic += f" (+ {inside:.1f})"
  if row["compiler_megacycles"]:
    cycles = f"{row['compiler_megacycles']:.1f}"
  if "kernel_megacycles" in row:
    branches = sum(kernel["branch_megacycles"] for kernel in kernels)
    cycles += f" + {row['kernel_megacycles']:.1f} (+ {branches:.1f})"
  return traffic, cycles


def main() -> None:
  """Makes the rows that are missing, and prints the table."""
  out = pathlib.Path(_OUT.value)
  cases = QUICK_CASES if _QUICK.value else CASES
  done = json.loads(out.read_text())["cases"] if out.exists() else []
  entries = {_key(case): _not_compiled(case) for case in cases}
  entries |= {_key(Case(**_tuples(entry))): entry for entry in done}
  for case in cases if _COMPILE.value else ():
    if "error" not in entries[_key(case)]:
      continue
    print("compiles", *_key(case), flush=True)
    entries[_key(case)] = compile_case(case)
    made = [entry for entry in entries.values() if "command" in entry]
    write_bytes(out, (json.dumps({"cases": made}, indent=2) + "\n").encode())
  print("\n".join(table(list(entries.values()))))


def _key(case: Case) -> tuple[str, ...]:
  return tuple(case.arguments())


def _not_compiled(case: Case) -> dict[str, Any]:
  return case._asdict() | {"error": "not compiled yet", "rows": []}


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of an entry's case, as JSON gave them."""
  values = {name: entry[name] for name in Case._fields}
  return values | {n: tuple(values[n]) for n in ("changes", "steps")}


if __name__ == "__main__":
  cli.run(main, keep_compiled=False)
