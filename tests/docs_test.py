"""What the docs name is there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_the_tests_that_hold_the_promises_of_inference_exist():
  text = (ROOT / "docs" / "design.md").read_text()
  named = re.findall(r"`(\w+_test)::(test_\w+)`", text)
  assert len(named) > 20
  for file, test in named:
    source = (ROOT / "tests" / f"{file}.py").read_text()
    assert f"\ndef {test}(" in source, f"tests/{file}.py has no {test}"
