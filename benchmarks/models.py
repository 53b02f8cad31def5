"""Times whole networks: SemanIR, and one of SwinIR's class in torch.

  python -m benchmarks.models --out=benchmarks/results/models_gpu.json

SemanIR-S and -B x4 beside a dense network of 11.9 M parameters, SemanIR-U for
denoising beside one of 11.5 M: forward for one output image, and a training
step on a GPU's share of the recipe's batch. Rows are written one by one; a run
that is cut off goes on with those that are missing, and where none is it prints
the table. Every row has a process of its own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags

from benchmarks.model_cases import (
  NETWORKS,
  QUICK_NETWORKS,
  Case,
  cases,
  network_of,
)
from benchmarks.result_file import ResultFile, describe_runs, start_run
from benchmarks.worker import Worker
from semanir_jax import cli


def measure(results: ResultFile, quick: bool) -> None:
  """Makes the rows that are missing."""
  missing = list(results.missing(cases(quick)))
  if not missing:
    return
  with Worker() as worker:
    platform = start_run(results, worker, quick)
  for case in missing:
    with Worker() as worker:
      if network_of(case.network).beside is not None:
        figures = worker.call("benchmarks.models_jax:measure", case)
      else:
        figures = worker.call("benchmarks.models_torch:measure", case, platform)
    results.add(case, figures)


def table(results: ResultFile, quick: bool) -> Iterator[str]:
  """Lines of the Markdown table."""
  yield (
    "| network | operation | output, px | ms | ns per output pixel |"
    " dense network, ms | ns per output pixel | dense / SemanIR |"
    " memory, MiB |"
  )
  yield "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
  networks = QUICK_NETWORKS if quick else NETWORKS
  for name, network in networks.items():
    for case in cases(quick):
      if case.network == name and network.beside is not None:
        beside = case._replace(network=network.beside)
        yield _line(case, results.find(case), results.find(beside))


def _line(
  case: Case, ours: Mapping[str, Any] | None, other: Mapping[str, Any] | None
) -> str:
  ours, other = ours or {}, other or {}
  cells = [
    case.network,
    case.operation,
    f"{case.batch} x {case.width} x {case.height}",
  ]
  for row in (ours, other):
    if "ms" in row:
      cells += [f"{row['ms']:.3g}", f"{1e6 * row['ms'] / case.pixels:.3g}"]
    else:
      cells += [row.get("error", row.get("skipped", "not measured")), "-"]
  ratio = "-"
  if "ms" in ours and "ms" in other:
    ratio = f"{other['ms'] / ours['ms']:.2f}"
  memory = " / ".join(
    f"{row['memory_mib']:.0f}" if "memory_mib" in row else "-"
    for row in (ours, other)
  )
  return f"| {' | '.join([*cells, ratio, memory])} |"


if __name__ == "__main__":
  out = flags.DEFINE_string("out", None, "JSON file of the rows.")
  quick = flags.DEFINE_bool("quick", False, "Small networks, for the CPU.")
  measured = flags.DEFINE_bool(
    "measure", True, "Make missing rows; --nomeasure prints the table only."
  )

  def main() -> None:
    """Makes the rows that are missing, and prints the table."""
    results = ResultFile(out.value)
    if measured.value:
      measure(results, quick.value)
    print(
      "\n".join([*describe_runs(results), "", *table(results, quick.value)])
    )

  cli.run(main, keep_compiled=False)
