"""The notebook runs, and prints what its kept outputs say."""

import contextlib
import io
import json
import pathlib
import sys

import matplotlib
import pytest
from matplotlib import pyplot

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
PATH = DOCS / "quickstart.ipynb"
CELLS = [
  cell
  for cell in json.loads(PATH.read_text())["cells"]
  if cell["cell_type"] == "code"
]


def _kept(cell: dict) -> str:
  """What a cell printed when its outputs were kept."""
  return "".join(
    line
    for output in cell["outputs"]
    if output["output_type"] == "stream"
    for line in output["text"]
  )


@pytest.mark.slow
def test_every_cell_prints_what_the_notebook_shows(monkeypatch):
  monkeypatch.chdir(DOCS)
  monkeypatch.setattr(sys, "path", list(sys.path))
  matplotlib.use("agg")
  monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
  names: dict = {}
  for index, cell in enumerate(CELLS):
    code = compile("".join(cell["source"]), f"{PATH.name}, {index}", "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
      exec(code, names)
    assert printed.getvalue() == _kept(cell)


def test_outputs_are_kept_and_small():
  kinds = [
    {output["output_type"] for output in cell["outputs"]} for cell in CELLS
  ]
  assert sum("display_data" in kind for kind in kinds) == 2
  assert sum("stream" in kind for kind in kinds) == 5
  assert PATH.stat().st_size < 200_000
