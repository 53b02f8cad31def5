"""The benchmark programs run; their figures are not tested."""

import json
import pathlib
import subprocess
import sys

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
  assert tasks == {"denoise", "sr", "jpeg", "demosaic", "deblur"}
  assert all(row["batches_per_core_second"] > 0 for row in rows)
