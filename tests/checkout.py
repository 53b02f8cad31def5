"""What lies in the checkout that is tested."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def list_files(*paths: str) -> list[str]:
  """Lists files below paths of the checkout, without what git ignores.

  Skips the test where there is no git checkout.
  """
  listed = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", *paths],
    cwd=ROOT,
    capture_output=True,
    text=True,
  ).stdout.splitlines()
  if not listed:
    pytest.skip("needs a git checkout")
  return [name for name in listed if (ROOT / name).exists()]
