"""The benchmark programs run; their figures are not tested."""

import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]


def test_pipeline_benchmark_measures_every_task(tmp_path, shared_data):
  out = tmp_path / "rows.json"
  subprocess.run(
    [
      sys.executable,
      "-m",
      "benchmarks.pipeline",
      "--quick",
      f"--data_dir={shared_data}",
      f"--out={out}",
    ],
    cwd=ROOT,
    check=True,
  )
  rows = json.loads(out.read_text())["rows"]
  tasks = {row["config"].split(":")[0] for row in rows}
  assert tasks == {"denoise", "sr", "jpeg", "demosaic", "deblur", "weather"}
  assert all(row["batches_per_core_second"] > 0 for row in rows)


def test_train_step_benchmark_times_the_step_of_a_config():
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "benchmarks.train_step",
      "--config=configs/base.py:smoke",
      "--config.model.implementation=gather",
      "--config.model.architecture=columnar",
      "--config.model.depths=(1,)",
    ],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
  )
  row = json.loads(done.stdout)
  assert row["attention"] == "gather"
  assert (row["batch_size"], row["patch_size"]) == (8, 16)
  assert row["device"] == "cpu"
  assert row["ms"] > 0 and row["teraflops"] > 0 and row["temporaries_mib"] > 0
