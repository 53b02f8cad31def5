"""The paper's memory table: peak memory of the forms of attention.

  python -m benchmarks.attention_memory \\
    --out=benchmarks/results/attention_memory_gpu.json
  JAX_PLATFORMS=cpu PYTHONPATH=.venv_gpu \\
    python -m benchmarks.attention_memory --compile_for=h200 \\
    --out=benchmarks/results/attention_memory_h200_compiled.json

The first runs every case once, in a process of its own, and reads the peak of
the allocator; the second needs no GPU but its compiler (`make gpu_compiler`)
and reads what the compiled program will take, which is all that XLA allocates.
Rows are written one by one, and those in the file are not made again.

bfloat16, 6 heads of 30, a training batch of S (32 patches of 64 px) in windows
of N tokens. Forms: our kernel; our mask and gather, in chunks and computed
again in the backward pass; and the paper's, whole: all N x N logits, or N x K
keys and values, of all windows at once, kept for the backward pass.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from absl import flags

from benchmarks import attention_jax
from benchmarks.attention_cases import IMAGES, NUM_KEYS, OPERATIONS, Case
from benchmarks.result_file import ResultFile, start_run
from benchmarks.worker import Worker
from semanir_jax import cli
from semanir_jax.aot.topology import H200_CAPABILITY, h200_devices
from semanir_jax.ops import triton_launch
from semanir_jax.training import record

_NUM_TOKENS = (512, 1024, 2048, 4096)
_DENSE = ("triton", "mask", "whole mask")  # memory does not depend on K
_SPARSE = ("gather", "whole gather")
# The paper's two in PyTorch, whose code can be guessed; its Triton's cannot.
_PAPER = ("whole mask", "whole gather")


def cases(quick: bool) -> Iterator[Case]:
  """All rows: the dense forms, then the others from the largest K down."""
  count, height, width = IMAGES["patches"]
  tokens = 256 if quick else count * height * width
  keys = _keys(quick)[::-1]
  forms = [*((0, form) for form in _DENSE), *itertools.product(keys, _SPARSE)]
  all_tokens = (64,) if quick else _NUM_TOKENS
  for (k, form), n, operation in itertools.product(
    forms, all_tokens, OPERATIONS
  ):
    yield Case(operation, form, "patches", n, tokens // n, k)


def _keys(quick: bool) -> tuple[int, ...]:
  return (8,) if quick else NUM_KEYS


def measure(results: ResultFile, quick: bool) -> None:
  """Runs what is missing on the device here."""
  missing = list(results.missing(cases(quick)))
  if not missing:
    return
  with Worker() as worker:
    start_run(results, worker, quick)
  for case in missing:
    with Worker() as worker:  # each its own: a peak cannot be reset
      figures = worker.call("benchmarks.attention_jax:measure_memory", case)
    results.add(case, figures)


def compile_for_h200(results: ResultFile, quick: bool) -> None:
  """Compiles what is missing for a GPU that is not here."""
  device = h200_devices(1)[0]
  here = jax.sharding.SingleDeviceSharding(device)
  run = record.describe() | {
    "device_kind": device.device_kind,
    "devices": ["compiled for it; nothing ran"],
  }
  missing = list(results.missing(cases(quick)))
  if missing:
    results.begin(run)
  for case in missing:
    function, shapes = attention_jax.make_program(
      *case[:2], case.windows, case.num_tokens, case.dictionary_keys, "gpu"
    )
    shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes
    )
    with triton_launch.compile_for(H200_CAPABILITY):
      try:
        compiled = jax.jit(function).lower(*shapes).compile()
        figures = attention_jax.memory_mib(compiled)
      except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
          raise
        figures = {"error": "out of memory"}
    results.add(case, figures)


def tables(results: ResultFile, quick: bool) -> Iterator[str]:
  """Lines of the Markdown tables."""
  for operation in OPERATIONS:
    yield f"\n{operation}, MiB besides the arguments\n"
    yield (
      "| windows x N | K | kernel | our mask | our gather | whole mask |"
      " whole gather | kernel / smaller of ours, smaller of the whole |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    every = [case for case in cases(quick) if case.operation == operation]
    for n, k in itertools.product(
      sorted({case.num_tokens for case in every}), _keys(quick)
    ):
      windows = next(c.windows for c in every if c.num_tokens == n)
      rows = {
        form: results.find(
          Case(
            operation, form, "patches", n, windows, k if form in _SPARSE else 0
          )
        )
        or {}
        for form in ("triton", "mask", "gather", "whole mask", "whole gather")
      }
      sizes = {form: _mib(row) for form, row in rows.items()}
      shares = [
        _share(sizes, ("mask", "gather")),
        _share(sizes, _PAPER),
      ]
      cells = [f"{windows} x {n}", str(k), *map(_cell, rows.values())]
      yield f"| {' | '.join([*cells, ' / '.join(shares)])} |"


def _mib(row: Mapping[str, Any]) -> float | None:
  """The compiler's figure, which every row has; the allocator's only some."""
  if "temporaries_mib" in row:
    return row["temporaries_mib"] + row["outputs_mib"]
  return None


def _cell(row: Mapping[str, Any]) -> str:
  """The compiler's figure, and the allocator's peak where that was seen."""
  if "temporaries_mib" not in row:
    return row.get("error", "not measured")
  cell = f"{row['temporaries_mib'] + row['outputs_mib']:.0f}"
  return cell + (f" ({row['peak_mib']:.0f})" if "peak_mib" in row else "")


def _share(sizes: Mapping[str, float | None], others: tuple[str, ...]) -> str:
  """The kernel's share of the smaller; "at least" while one is not known."""
  known = [sizes[form] for form in others if sizes[form] is not None]
  if sizes["triton"] is None or not known:
    return "-"
  least = "" if len(known) == len(others) else "at least "
  return f"{least}{sizes['triton'] / min(known):.1%}"


if __name__ == "__main__":
  out = flags.DEFINE_string("out", None, "JSON file of the rows.")
  quick = flags.DEFINE_bool("quick", False, "One small shape, for the CPU.")
  measured = flags.DEFINE_bool(
    "measure", True, "Make missing rows; --nomeasure prints the tables only."
  )
  compile_for = flags.DEFINE_enum(
    "compile_for", None, ["h200"], "Compile for a GPU that is not here."
  )

  def main() -> None:
    """Makes the rows that are missing, and prints the tables."""
    results = ResultFile(out.value)
    if measured.value:
      make = compile_for_h200 if compile_for.value else measure
      make(results, quick.value)
    print("\n".join(tables(results, quick.value)))

  cli.run(main, keep_compiled=False)
