"""Times attention over a dictionary: our forms, and torch's where it is there.

  python -m benchmarks.attention --out=benchmarks/results/attention_gpu.json

Rows are written one by one; a run that is cut off goes on with those that are
missing, and where none is it prints the tables. bfloat16, 6 heads of 30. On a
machine without a GPU only `--quick` is bearable.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags

from benchmarks.attention_cases import (
  IMAGES,
  JAX_FORMS,
  NUM_KEYS,
  NUM_TOKENS,
  OPERATIONS,
  QUICK_IMAGES,
  TORCH_FORMS,
  Case,
  arithmetic,
  cases,
  count_windows,
  least_bytes,
)
from benchmarks.result_file import ResultFile, describe_runs, start_run
from benchmarks.worker import Worker
from semanir_jax import cli

_OTHERS = {
  "mask": "XLA mask",
  "gather": "XLA gather",
  "sdpa": "torch SDPA",
  "flex": "FlexAttention",
}
# Goals of docs/kernels.md for the kernel at N = 1024, K = 512: at least so many
# times as fast as another form.
_GOALS = {"mask": 2.0, "flex": 1.0}


def measure(results: ResultFile, quick: bool) -> None:
  """Makes the rows that are missing; torch and JAX never share the GPU."""
  if not any(results.missing(cases(JAX_FORMS + TORCH_FORMS, quick))):
    return
  with Worker() as worker:
    platform = start_run(results, worker, quick)
    for case in results.missing(cases(JAX_FORMS, quick)):
      results.add(case, worker.call("benchmarks.attention_jax:measure", case))
  with Worker() as worker:
    for case in results.missing(cases(TORCH_FORMS, quick)):
      results.add(
        case,
        worker.call("benchmarks.attention_torch:measure", case, platform),
      )


def tables(results: ResultFile, quick: bool) -> Iterator[str]:
  """Lines of the Markdown tables."""
  for image, size in (QUICK_IMAGES if quick else IMAGES).items():
    for operation in OPERATIONS:
      count, height, width = size
      yield f"\n{operation}, {image}: {count} x {height} x {width} px\n"
      yield (
        "| windows x N | K | kernel, ms | "
        + " | ".join(f"{name}, ms (times kernel)" for name in _OTHERS.values())
        + " | kernel, of matrix rate / of copy bandwidth |"
        " extra memory, MiB: kernel / " + " / ".join(_OTHERS) + " |"
      )
      yield "| --- | ---: |" + " ---: |" * (len(_OTHERS) + 3)
      all_tokens = (64,) if quick else NUM_TOKENS
      for n in all_tokens:
        for k in (8,) if quick else NUM_KEYS:
          if k <= n:
            yield _line(results, operation, image, n, count_windows(size, n), k)


def _line(results: ResultFile, *shape: Any) -> str:
  """One shape; the forms that do not depend on K have one row for all."""
  operation, image, n, windows, k = shape
  rows = {
    form: _find(results, Case(operation, form, image, n, windows, k))
    for form in ("triton", *_OTHERS)
  }
  kernel = rows["triton"]
  cells = [f"{windows} x {n}", str(k), _milliseconds(kernel)]
  for form in _OTHERS:
    cell = _milliseconds(rows[form])
    if "ms" in kernel and "ms" in rows[form]:
      cell += f" ({rows[form]['ms'] / kernel['ms']:.2f})"
    cells.append(cell)
  shares = "-"
  if "ms" in kernel:
    run = results.runs[kernel["run"]]
    case, seconds = Case(operation, "triton", *shape[1:]), kernel["ms"] / 1e3
    matrix = arithmetic(case) / seconds / (run["matrix_teraflops"] * 1e12)
    traffic = least_bytes(case) / seconds / (run["copy_gb_s"] * 1e9)
    shares = f"{matrix:.0%} / {traffic:.0%}"
  cells += [shares, " / ".join(map(_memory, rows.values()))]
  return f"| {' | '.join(cells)} |"


def _find(results: ResultFile, case: Case) -> Mapping[str, Any]:
  dense = case._replace(num_keys=0)
  return results.find(case) or results.find(dense) or {}


def _milliseconds(row: Mapping[str, Any]) -> str:
  """The time of a row, or why there is none."""
  if "ms" in row:
    return f"{row['ms']:.3g}"
  return row.get("error", row.get("skipped", "not measured"))


def _memory(row: Mapping[str, Any]) -> str:
  """MiB besides the inputs: the allocator's peak, of JAX the compiler's."""
  if "temporaries_mib" in row:
    return f"{row['temporaries_mib'] + row['outputs_mib']:.0f}"
  return f"{row['peak_mib']:.0f}" if "peak_mib" in row else "-"


def goals(results: ResultFile) -> Iterator[str]:
  """Whether the kernel is as fast as it should be, a line each."""
  size = IMAGES["patches"]
  for operation in OPERATIONS:
    for form, least in _GOALS.items():
      shape = ("patches", 1024, count_windows(size, 1024), 512)
      kernel = _find(results, Case(operation, "triton", *shape))
      other = _find(results, Case(operation, form, *shape))
      found = "not measured"
      if "ms" in kernel and "ms" in other:
        ratio = other["ms"] / kernel["ms"]
        device = results.runs[kernel["run"]]["device_kind"]
        verdict = "met" if ratio >= least else "missed"
        found = f"{ratio:.2f} on {device}: {verdict}"
      yield (
        f"| {operation}, N = 1024, K = 512: {_OTHERS[form]} over kernel |"
        f" {least:.1f} | {found} |"
      )


if __name__ == "__main__":
  out = flags.DEFINE_string("out", None, "JSON file of the rows.")
  quick = flags.DEFINE_bool("quick", False, "One small shape, for the CPU.")
  measured = flags.DEFINE_bool(
    "measure", True, "Make missing rows; --nomeasure prints the tables only."
  )

  def main() -> None:
    """Makes the rows that are missing, and prints the tables."""
    results = ResultFile(out.value)
    if measured.value:
      measure(results, quick.value)
    lines = [*describe_runs(results), *tables(results, quick.value)]
    lines += ["\n| goal | at least | found |", "| --- | ---: | --- |"]
    print("\n".join([*lines, *goals(results)]))

  cli.run(main, keep_compiled=False)
