"""Compares the forms of attention and dictionary as the TPU compiler sees them.

  JAX_PLATFORMS=cpu python -m benchmarks.kernel_forms \\
    --out=benchmarks/results/kernel_forms_v5e.json

Compiles for one TPU v5e with the compiler of `jax[tpu]`, on a machine without a
TPU; nothing is run. `--platform=cpu` compiles for the CPU. Rows are written one
by one, and those in the file are not made again. `--nocompile` prints the
tables of docs/kernels.md and of the page beside the file.
"""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import flags
from jax.sharding import SingleDeviceSharding

from benchmarks.attention_cases import HEAD_SIZE, HEADS
from benchmarks.attention_jax import make_program
from benchmarks.result_file import ResultFile
from semanir_jax import cli
from semanir_jax.aot import hlo, kernels, schedule
from semanir_jax.aot.topology import topology_devices
from semanir_jax.machine.flops import count_flops
from semanir_jax.ops import Dictionary, build_dictionary
from semanir_jax.training import record

_OUT = flags.DEFINE_string("out", None, "JSON file of the rows.", required=True)
_PLATFORM = flags.DEFINE_enum(
  "platform", "tpu", ["tpu", "cpu"], "Whose compiler to ask."
)
_QUICK = flags.DEFINE_bool("quick", False, "A few small shapes.")
_COMPILE = flags.DEFINE_bool(
  "compile", True, "Compile what is missing; --nocompile prints tables only."
)

_TOPOLOGY = "v5e:2x2"  # the smallest; one of its devices is compiled for
_TOKENS = 128 * 128  # of a training patch at full resolution in the U
_NUM_TOKENS = (64, 256, 1024, 4096)
_NUM_KEYS = (4, 16, 32, 64, 128, 256, 512)


class Shape(NamedTuple):
  """What is compiled.

  Attributes:
    operation: "dictionary" (the search), "forward" (attention) or "training"
      (attention, forward and backward).
    form: "mask" or "gather"; of the dictionary the bits or indices for them, by
      XLA, and "kernel", bits by the Pallas kernel.
    num_tokens: N.
    windows: of one image.
    num_keys: K; of the bits, whose search and attention do not depend on it, 0.
  """

  operation: str
  form: str
  num_tokens: int
  windows: int
  num_keys: int


def shapes(quick: bool) -> Iterator[Shape]:
  """All rows of the benchmark."""
  all_tokens, all_keys, tokens = _NUM_TOKENS, _NUM_KEYS, _TOKENS
  if quick:
    all_tokens, all_keys, tokens = (32,), (8,), 1024
  # Does memory grow with the image?
  n, k = (32, 8) if quick else (1024, 64)
  for operation, windows in itertools.product(
    ("forward", "training"), (4 * tokens // n, 16 * tokens // n)
  ):
    yield Shape(operation, "mask", n, windows, 0)
    yield Shape(operation, "gather", n, windows, k)
  for operation, n in itertools.product(
    ("forward", "dictionary", "training"), all_tokens
  ):
    yield Shape(operation, "mask", n, tokens // n, 0)
    for k in all_keys:
      if k <= n:
        yield Shape(operation, "gather", n, tokens // n, k)
  for n in () if quick else (64, 256, 1024):
    yield Shape("dictionary", "kernel", n, tokens // n, 0)


def program(shape: Shape, platform: str) -> tuple[Any, tuple[Any, ...]]:
  """A function of the operation, and its arguments without values.

  Args:
    shape: what to compute.
    platform: that it is for.
  """
  operation, form, n, windows, k = shape
  if operation != "dictionary":
    return make_program(operation, form, windows, n, k, platform)
  features = jax.ShapeDtypeStruct(
    (1, windows, n, HEADS * HEAD_SIZE), jnp.bfloat16
  )

  def search(features: jax.Array) -> Dictionary:
    return build_dictionary(
      features,
      max(k, 1),
      max_keys=k if form == "gather" else None,
      platform=platform,
      implementation="pallas" if form == "kernel" else "xla",
    )

  return search, (features,)


def measure(shape: Shape, platform: str, device: Any) -> dict[str, Any]:
  """Compiles one operation and reads what it needs.

  Args:
    shape: what to compile.
    platform: "tpu" or "cpu".
    device: of it.

  Returns:
    Figures, or a compiler's message where there is no room.
  """
  function, arguments = program(shape, platform)
  here = SingleDeviceSharding(device)
  placed = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), arguments
  )
  traced = jax.jit(function).trace(*placed)
  found = kernels.find_kernels(traced.jaxpr)
  try:
    compiled = traced.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if not str(error).startswith("RESOURCE_EXHAUSTED"):
      raise
    return {"error": str(error).splitlines()[0]}
  memory = compiled.memory_analysis()
  traffic = hlo.analyse(compiled.as_text(), found)
  figures = {
    "temporaries_mib": memory.temp_size_in_bytes / 2**20,
    "arguments_mib": memory.argument_size_in_bytes / 2**20,
    "gigaflops": count_flops(function, *arguments) / 1e9,
    "traffic_gb": traffic.memory_bytes / 1e9,
    "compiler_megacycles": traffic.cycles / 1e6,
  }
  schedules = schedule.schedules(found, _TOPOLOGY)
  for kernel, counted in zip(found, schedules, strict=True):
    if isinstance(counted, str):
      return {"error": f"{kernel.name}: {counted}"}
    calls = traffic.kernel_calls[kernel] / 1e6
    figures["kernel_megacycles"] = calls * counted.cycles
    figures["branch_megacycles"] = calls * counted.branches
  return figures


def table(rows: Sequence[Mapping[str, Any]], operation: str) -> list[str]:
  """Lines of the Markdown table of an operation: mask / gather, by shape."""
  lines = [
    "| windows x N | K | temporaries, MiB | GFLOP | traffic, GB |"
    " compiler's estimate, Mcycles |",
    "| --- | ---: | ---: | ---: | ---: | ---: |",
  ]
  rows = [row for row in rows if row["operation"] == operation]
  rows.sort(key=lambda row: [row[name] for name in Shape._fields[2:]])
  masks = {
    (row["num_tokens"], row["windows"]): row
    for row in rows
    if row["form"] == "mask"
  }
  for row in rows:
    mask = masks.get((row["num_tokens"], row["windows"]))
    if row["form"] != "gather" or mask is None:
      continue
    cells = [
      f"{row['windows']} x {row['num_tokens']}",
      str(row["num_keys"]),
      *(
        f"{_figure(mask, name)} / {_figure(row, name)}"
        for name in (
          "temporaries_mib",
          "gigaflops",
          "traffic_gb",
          "compiler_megacycles",
        )
      ),
    ]
    lines.append(f"| {' | '.join(cells)} |")
  return lines


def kernel_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Lines of the Markdown table of the dictionary: XLA / the kernel."""
  lines = [
    "| windows x N | temporaries, MiB | traffic, GB | Mcycles of XLA |"
    " Mcycles of the kernel | more where keys tie |",
    "| --- | ---: | ---: | ---: | ---: | ---: |",
  ]
  rows = [row for row in rows if row["operation"] == "dictionary"]
  masks = {
    (row["windows"], row["num_tokens"]): row
    for row in rows
    if row["form"] == "mask"
  }
  for row in sorted(rows, key=lambda row: row["num_tokens"]):
    shape = row["windows"], row["num_tokens"]
    if row["form"] == "kernel" and shape in masks:
      pairs = [
        f"{_figure(masks[shape], name)} / {_figure(row, name)}"
        for name in ("temporaries_mib", "traffic_gb", "compiler_megacycles")
      ]
      own = [
        _figure(row, name)
        for name in ("kernel_megacycles", "branch_megacycles")
      ]
      lines.append(
        f"| {' x '.join(map(str, shape))} | {' | '.join(pairs + own)} |"
      )
  return lines


def _figure(row: Mapping[str, Any], name: str) -> str:
  """A number of a row to three digits, or that there is none."""
  if "error" in row:
    return "too large"
  value = row[name]
  return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
  """Makes the rows that are missing, and prints the tables."""
  results, platform = ResultFile(_OUT.value), _PLATFORM.value
  missing = list(results.missing(shapes(_QUICK.value)))
  if _COMPILE.value and missing:
    topology = None if platform == "cpu" else _TOPOLOGY
    device = topology_devices(platform, topology)[0]
    compiled_for = {"device_kind": device.device_kind, "devices": []}
    results.begin(record.describe() | compiled_for)
    for shape in missing:
      results.add(shape, measure(shape, platform, device))
  for operation in ("forward", "training", "dictionary"):
    print("\n".join([f"\n{operation}\n", *table(results.rows, operation)]))
  print("\n".join(["\ndictionary by kernel\n", *kernel_table(results.rows)]))


if __name__ == "__main__":
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  jax.config.update("jax_platforms", "cpu")
  cli.run(main, keep_compiled=False)
