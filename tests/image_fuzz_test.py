"""Damaged image files: an image or one line, cheap and silent."""

import json
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="takes what is printed")
def test_damaged_files_give_an_image_or_one_line(tmp_path):
  command = [sys.executable, "-m", "tests.image_fuzz", "--mutations=500"]
  ended = subprocess.run(
    [*command, f"--keep={tmp_path}"],
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert ended.stderr == ""
  found = json.loads(ended.stdout)
  assert found["faults"] == []
  assert ended.returncode == 0
  assert found["image"] + found["refused"] == 500
  assert min(found["image"], found["refused"]) > 50
  assert not list(tmp_path.iterdir())
