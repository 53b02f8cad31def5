"""The order of imports, and the size of files and functions.

A module imports only what stands on an earlier line of `LAYERS`, or beside it
in its own package.
"""

import ast
import graphlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Lowest first.
LAYERS = (
  ("bundled",),
  ("cli", "machine", "ops"),
  ("images", "models"),
  ("degradations", "films", "summary"),
  ("networks",),
  ("data", "inference", "weights"),
  ("evaluation", "export"),
  ("restoration", "training"),
  ("aot", "api", "demo"),
  ("commands",),
)
LEVELS = {name: i for i, names in enumerate(LAYERS) for name in names}

FILE_LINES = 400
FUNCTION_LINES = 70
# The list of all fields is as long as it is.
LONG = {"configs/base.py:get_config"}


def _files(*folders: str) -> list[pathlib.Path]:
  found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
  return sorted(found)


SOURCES = [
  *(ROOT / name for name in ("train.py", "eval.py", "restore.py", "demo.py")),
  *_files("semanir_jax", "configs", "studies"),
]
IDS = [path.relative_to(ROOT).as_posix() for path in SOURCES]


def _imports(path: pathlib.Path) -> Iterator[str]:
  """Full names of everything a file imports at run time, inside functions too.

  An import for annotations (`if TYPE_CHECKING`) is none.
  """
  tree = ast.parse(path.read_text())
  for node in ast.walk(tree):
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
      node.body = []
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: relative import"
      # `from package import module` and `from module import name` alike.
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _module(name: str) -> str:
  """The part of semanir_jax that a full name belongs to."""
  return name.split(".")[1]


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_lower_modules_do_not_import_higher_ones(path):
  relative = path.relative_to(ROOT)
  names = [name for name in _imports(path) if name.startswith("semanir_jax")]
  if relative.parts[0] == "configs":
    # Configs choose among named sizes; they run nothing.
    assert {_module(name) for name in names} <= {"models"}
    return
  if relative.parts[0] != "semanir_jax" or relative.name == "__init__.py":
    return  # a program may import everything
  own = relative.with_suffix("").parts[1]
  for name in names:
    used = _module(name)
    assert used == own or LEVELS[used] < LEVELS[own], f"{relative}: {name}"


def test_every_module_has_its_layer():
  parts = {
    path.relative_to(ROOT / "semanir_jax").with_suffix("").parts[0]
    for path in _files("semanir_jax")
  }
  assert parts - {"__init__"} == set(LEVELS)


def test_no_module_imports_itself_by_way_of_others():
  """Circles are there inside a room too, and in imports inside functions."""
  modules = {}
  for path in _files("semanir_jax"):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    modules[name.removesuffix(".__init__")] = path
  graph = {}
  for name, path in modules.items():
    used = {full for full in _imports(path) if full.startswith("semanir_jax")}
    owners = {u if u in modules else u.rpartition(".")[0] for u in used}
    graph[name] = sorted(owners & set(modules))
  # Raises CycleError, which names the circle.
  graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
  ("folder", "forbidden"),
  [
    ("semanir_jax/data", {"jax", "flax", "ml_collections"}),
    ("semanir_jax/models", {"ml_collections", "absl", "optax", "orbax"}),
    ("semanir_jax/ops", {"ml_collections", "absl", "optax", "orbax"}),
    ("semanir_jax", {"benchmarks", "studies"}),
    (".", {"tensorflow", "torch", "tensorboard"}),
  ],
)
def test_what_a_package_must_not_know(folder, forbidden):
  for path in SOURCES:
    if path.is_relative_to((ROOT / folder).resolve()):
      used = {name.split(".")[0] for name in _imports(path)} & forbidden
      assert not used, f"{path}: {used}"


def test_restoring_starts_without_what_only_training_needs():
  code = (
    "import sys\n"
    "from semanir_jax.commands import restore\n"
    "from semanir_jax.demo import service\n"
    "slow = {'orbax', 'scipy', 'optax', 'grain', 'clu'}\n"
    "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_files_and_functions_can_be_read_in_one_go(path):
  text = path.read_text()
  lines = len(text.splitlines())
  assert lines <= FILE_LINES, f"{path}: {lines} lines; split it"
  name = path.relative_to(ROOT).as_posix()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.FunctionDef) and f"{name}:{node.name}" not in LONG:
      lines = node.end_lineno - node.lineno + 1
      assert lines <= FUNCTION_LINES, f"{name}: {node.name} has {lines} lines"
