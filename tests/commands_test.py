"""The commands that the documents show: their flags, configs and extras."""

import ast
import functools
import pathlib
import re
import shlex
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement

from semanir_jax import cli
from semanir_jax.data import sources
from studies import classical
from tests.docs_test import NOT_HERE, PAGES

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# absl's; `run`'s; ml_collections' own.
OF_ALL = {"help", "helpfull", "debug"}
OWN = ("semanir_jax", "studies", "benchmarks", "tests", "configs")
# Of what the reader, or the program, fills in.
PLACEHOLDERS = {"TASK", "VARIANT", "NAME", "{"}
PROGRAM = re.compile(
  r"(?:python3? (?:(train|eval|restore|demo)\.py|-m ([\w.]+))"
  r"|semanir-(train|eval|restore|demo)\b)([^\n`&#;|]*)"
)
OPTION = re.compile(r"--\w")
LISTED = [
  *PAGES,
  *(
    str(path.relative_to(ROOT).as_posix())
    for folder in ("semanir_jax", "studies", "benchmarks", "configs")
    for path in sorted((ROOT / folder).rglob("*.py"))
  ),
  "Makefile",
]


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
  """Finds the commands: the module of each, and its options."""
  text = text.replace("$(RUN) ", "python ")
  for found in PROGRAM.finditer(re.sub(r"\\\n\s*", " ", text)):
    file, module, installed, rest = found.groups()
    if module is None:
      module = f"semanir_jax.commands.{file or installed}"
    if not module.startswith(OWN) or module.endswith(".NAME"):
      continue
    try:
      words = shlex.split(rest)
    except ValueError:  # a sentence with an apostrophe
      words = rest.split()
    options = [word.rstrip(").,:") for word in words if OPTION.match(word)]
    yield module.rstrip("."), options


def _source(module: str) -> pathlib.Path | None:
  path = ROOT / module.replace(".", "/")
  for file in (
    path.with_suffix(".py"),
    path / "__main__.py",
    path / "__init__.py",
  ):
    if file.exists():
      return file
  return None


@functools.cache
def _read(module: str) -> tuple[frozenset[str], frozenset[str]]:
  """Reads a module: the flags that it defines, the modules it may import."""
  file = _source(module)
  if file is None:
    return frozenset(), frozenset()
  text = file.read_text()
  names = set(
    re.findall(r"(?:DEFINE_\w+|add_argument)\(\s*\"(?:--)?(\w+)\"", text)
  )
  if "define_config(" in text:
    names.add("config")
  used = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      used |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      used |= {node.module}
      used |= {f"{node.module}.{alias.name}" for alias in node.names}
  ours = {name for name in used if name.startswith(OWN)}
  return frozenset(names), frozenset(ours)


@functools.cache
def _flags(module: str) -> set[str]:
  """Names of the flags that a module and what it imports of ours define."""
  names, seen, next_ones = set(OF_ALL), set(), [module]
  while next_ones:
    name = next_ones.pop()
    if name not in seen:
      seen.add(name)
      defined, used = _read(name)
      names |= defined
      next_ones += used
  return names


@pytest.mark.parametrize("page", LISTED)
def test_the_options_of_the_commands_exist(page):
  wrong = []
  for module, options in _commands((ROOT / page).read_text()):
    known = _flags(module)
    for option in options:
      name = option[2:].partition("=")[0].partition(".")[0]
      if name not in known and name.removeprefix("no") not in known:
        wrong.append(f"{module}: {option}")
  assert not wrong


@pytest.mark.parametrize("page", LISTED)
def test_the_configs_of_the_commands_can_be_loaded(page, monkeypatch):
  monkeypatch.chdir(ROOT)
  for _, options in _commands((ROOT / page).read_text()):
    given = dict(option[2:].partition("=")[::2] for option in options)
    text = given.pop("config", "")
    path = text.partition(":")[0]
    if not text or pathlib.Path(path).name in NOT_HERE:
      continue
    if any(word in text for word in PLACEHOLDERS):
      continue
    config = cli._read_config(text)
    for name, value in given.items():
      if not name.startswith("config."):
        continue
      *fields, last = name.split(".")[1:]
      part = config
      for field in fields:
        part = part[field]
      assert last in part, f"{text}: {name}={value}"


@pytest.mark.parametrize("page", LISTED)
def test_pip_is_told_of_what_it_can_find(page):
  """No index has this package, but a checkout has it, with its extras."""
  text = (ROOT / page).read_text()
  for what in re.findall(r"pip\d? install ([^\n`#]*)", text):
    assert "semanir_jax[" not in what, what
    for names in re.findall(r"(?<![\w.])\.\[([\w,]+)\]", what):
      unknown = set(names.split(",")) - set(PROJECT["optional-dependencies"])
      assert not unknown, what


def test_the_extra_of_the_studies_has_all_that_they_need():
  """Their filters are imported by name, and so are their default pictures."""
  extras = PROJECT["optional-dependencies"]
  lines = extras["studies"]
  if "semanir_jax[photographs]" in lines:
    lines = lines + extras["photographs"]
  declared = {Requirement(line).name for line in lines}
  needed = {package for _, _, package in classical.FILTERS.values()}
  assert needed | set(sources._PACKAGES.values()) <= declared
