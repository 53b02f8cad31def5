"""The programs behind docs/scaling.md and docs/kernels.md run, and the tables
there are those of the committed figures."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import slow_reader

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]


def _run(*arguments: object) -> list[str]:
  """Runs a benchmark; the lines that it prints."""
  return subprocess.run(
    [sys.executable, "-m", *map(str, arguments)],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
  ).stdout.splitlines()


def test_scaling_compiles_what_is_missing_and_nothing_twice(tmp_path):
  out = tmp_path / "scaling.json"
  lines = _run("benchmarks.scaling", "--quick", f"--out={out}")
  assert any(line.startswith("compiles") for line in lines)
  written = out.read_bytes()
  (case,) = json.loads(written)["cases"]
  (row,) = case["rows"]
  assert row["step"] == "train" and row["memory_mib"] > 0
  assert case["versions"]["jax"]
  assert "--config=configs/base.py:smoke" in case["command"]
  again = _run("benchmarks.scaling", "--quick", f"--out={out}")
  assert not any(line.startswith("compiles") for line in again)
  assert again[-1].startswith("| `base.py:smoke`") and again[-1] == lines[-1]
  assert out.read_bytes() == written


def test_a_case_that_cannot_be_compiled_says_why(tmp_path):
  out = tmp_path / "scaling.json"
  case = {
    "config": "configs/base.py:smoke",
    "topology": "v5e:3x9",
    "changes": [],
    "steps": ["train"],
    "command": "",
    "error": "error: no such slice",
    "rows": [],
  }
  out.write_text(json.dumps({"cases": [case]}))
  lines = _run("benchmarks.scaling", "--nocompile", f"--out={out}")
  assert "float32 | v5e:3x9 | train | error: no such slice" in lines[-1]


def test_forms_are_compared_on_the_cpu(tmp_path):
  out = tmp_path / "forms.json"
  command = ("benchmarks.kernel_forms", "--quick", "--platform=cpu")
  lines = _run(*command, f"--out={out}")
  rows = json.loads(out.read_text())["rows"]
  assert {(row["operation"], row["form"]) for row in rows} == {
    (operation, form)
    for operation in ("forward", "training", "dictionary")
    for form in ("mask", "gather")
  }
  assert all(row["temporaries_mib"] > 0 for row in rows)
  tables = [line for line in lines if line.startswith("|")]
  again = _run(*command, f"--out={out}")
  assert [line for line in again if line] == [
    line for line in lines if line and not line.startswith("{")
  ]
  assert [line for line in again if line.startswith("|")] == tables


def test_the_documents_hold_the_committed_figures():
  results = ROOT / "benchmarks" / "results"
  for program, name, document in (
    ("scaling --nocompile", "scaling", "scaling.md"),
    ("kernel_forms --nocompile", "kernel_forms_v5e", "kernels.md"),
    (
      *("attention_memory --nomeasure",),
      *("attention_memory_h200_compiled", "kernels.md"),
    ),
  ):
    module, *options = program.split()
    path = results / f"{name}.json"
    printed = _run(f"benchmarks.{module}", *options, f"--out={path}")
    _assert_holds(document, printed, path.with_suffix(".md"))


def _assert_holds(
  document: str, printed: list[str], beside: pathlib.Path | None = None
) -> None:
  """Compares a printed table with that in a document, or in a file beside."""
  text = (ROOT / "docs" / document).read_text()
  if beside and beside.exists():  # long tables
    text += beside.read_text()
  lines = text.splitlines()
  missing = [line for line in printed if line[:1] == "|" and line not in lines]
  assert not missing, f"{document} lacks {missing[0]}; print the table anew"


def test_the_document_holds_what_a_slow_host_costs(tmp_path):
  out = tmp_path / "rows.json"
  _assert_holds("scaling.md", _run("benchmarks.slow_reader", f"--out={out}"))
  kept = ROOT / "benchmarks" / "results" / "slow_reader.json"
  assert json.loads(out.read_text()) == json.loads(kept.read_text())


@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0, 5.0])
def test_all_hosts_are_as_fast_as_the_slowest(seconds):
  times = np.ones((5, 400))
  times[2] = seconds
  run = slow_reader.simulate(times, threads=2)
  assert run.rate == pytest.approx(min(1, 2 / seconds), rel=0.02)
  # The others wait for it in the step.
  assert np.delete(run.waiting, 2).max() < 0.02
  assert run.waiting[2] > 0.9 or seconds == 1


def test_a_pause_costs_what_the_batches_in_stock_do_not_cover():
  def time(pause: float) -> float:
    times = np.ones((3, 400))
    times[1, 200] = pause
    return 400 / slow_reader.simulate(times, threads=2).rate

  none, short, long, longer = map(time, (1, 5, 50, 60))
  assert short == pytest.approx(none)
  assert longer - long == pytest.approx(10)
  assert 50 - 9 < long - none < 50 - 3
