"""Runs the command-line programs, many for the price of one import.

One process imports what the programs import, then forks for every command: a
program of its own, with its flags, its output and its exit code.
"""

import json
import os
import pathlib
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Ended(NamedTuple):
  """What a program left: exit code, stdout, stderr."""

  code: int
  out: str
  err: str


def run_all(
  commands: Mapping[str, Sequence[str]], folder: pathlib.Path
) -> dict[str, Ended]:
  """Runs `{name: (program, *arguments)}` one by one in the repository root.

  Args:
    commands: as `{"typo": ("train.py", "--workdr=a")}`.
    folder: empty one, for their output.
  """
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": ".",
  }
  subprocess.run(
    [sys.executable, __file__, str(folder)],
    input=json.dumps(commands),
    text=True,
    check=True,
    cwd=ROOT,
    env=environment,
  )
  codes = json.loads((folder / "codes").read_text())
  texts = {
    name: [(folder / f"{name}.{kind}").read_text() for kind in ("out", "err")]
    for name in commands
  }
  return {name: Ended(codes[name], *texts[name]) for name in commands}


def _fork(name: str, command: Sequence[str], folder: pathlib.Path) -> int:
  """Runs one program in a child; returns its exit code."""
  child = os.fork()
  if child:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  for number, kind in ((1, "out"), (2, "err")):
    file = os.open(folder / f"{name}.{kind}", os.O_CREAT | os.O_WRONLY)
    os.dup2(file, number)
  sys.argv = list(command)
  # Returns like any program, through the interpreter's own exit.
  runpy.run_path(command[0], run_name="__main__")
  sys.exit(0)


def _main() -> None:
  folder = pathlib.Path(sys.argv[1])
  commands = json.load(sys.stdin)
  from ml_collections import config_flags  # noqa: F401

  from semanir_jax.restoration import restore  # noqa: F401
  from semanir_jax.training import loop  # noqa: F401

  codes = {
    name: _fork(name, command, folder) for name, command in commands.items()
  }
  (folder / "codes").write_text(json.dumps(codes))


if __name__ == "__main__":
  _main()
