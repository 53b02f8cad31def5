"""`pip install`: what travels in the wheel, and what it asks for."""

import ast
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from semanir_jax.images.image_file import read_image, write_image
from tests import checkout
from tests.checkout import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Bring what only some machines have, or one study; a checkout installs them by
# hand.
NOT_FOR_A_CHECKOUT = {
  "jax[cuda13]",
  "jax[tpu]",
  "opencv-python-headless>=4.12",
  "PyWavelets>=1.8",
  "bm3d>=4.0.3",
  *EXTRAS["wandb"],
  *EXTRAS["mlflow"],
}
# Beside what a program imports from the package's own dependencies.
OWN = {"semanir_jax", "configs", "studies", "benchmarks", "tests"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
  """The wheel of the checkout, built from a copy of its files."""
  source = tmp_path_factory.mktemp("source")
  parts = ("semanir_jax", "configs", "pretrained", "setup.py", "pyproject.toml")
  for name in checkout.list_files(*parts, "README.md", "LICENSE"):
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, source / name)
  folder = tmp_path_factory.mktemp("wheel")
  _pip("wheel", "--no-build-isolation", f"--wheel-dir={folder}", str(source))
  (path,) = folder.glob("*.whl")
  return path


def _pip(command: str, *arguments: str) -> None:
  subprocess.run(
    [sys.executable, "-m", "pip", command, "--no-deps", "--quiet", *arguments],
    check=True,
    env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
  )


@pytest.mark.slow
def test_the_wheel_holds_code_configs_and_weights_and_nothing_else(wheel):
  names = zipfile.ZipFile(wheel).namelist()
  there = {name for name in names if ".dist-info/" not in name}
  code = {
    name
    for name in checkout.list_files("semanir_jax")
    if name.endswith((".py", ".json"))
  }
  configs = {
    name for name in checkout.list_files("configs") if name.endswith(".py")
  }
  pretrained = {
    name for name in checkout.list_files("pretrained") if name.count("/") == 1
  }
  bundled = {f"semanir_jax/bundled/{name}" for name in configs | pretrained}
  assert there == code | bundled
  assert len(pretrained) > 16
  licenses = {
    name.split("/licenses/")[1] for name in names if "/licenses/" in name
  }
  assert licenses == {"LICENSE", "pretrained/NOTICE"}


# From an empty folder, as a user would.
_USE = """
import importlib.metadata, pathlib, sys
import numpy as np
import semanir_jax
from semanir_jax import bundled, cli

here = pathlib.Path(sys.argv[1])
for name in ("configs", "pretrained"):
  assert bundled.folder(name).is_relative_to(here), bundled.folder(name)
for name in ("denoise.py:gray,s25", "configs/denoise.py:gray,s25"):
  assert cli._read_config(name).data.channels == 1
model = semanir_jax.load("denoise_color_tiny")
image = np.zeros((8, 8, 3), np.uint8)
assert model(image).shape == image.shape
(found,) = importlib.metadata.distributions(path=[str(here)])
scripts = {entry.name: entry for entry in found.entry_points}
print(sorted(scripts))
for name, entry in scripts.items():
  module = pathlib.Path(here, *entry.module.split(".")).with_suffix(".py")
  assert f"def {entry.attr}()" in module.read_text(), entry
scripts["semanir-train"].load()
sys.argv = ["semanir-train", "--help"]
scripts["semanir-train"].load()()
"""


@pytest.mark.slow
def test_what_is_installed_is_found_from_an_empty_folder(wheel, tmp_path):
  target, empty = tmp_path / "target", tmp_path / "empty"
  empty.mkdir()
  _pip("install", f"--target={target}", str(wheel))
  assert (target / "bin" / "semanir-restore").is_file()
  ended = subprocess.run(
    [sys.executable, "-c", _USE, str(target)],
    cwd=empty,
    env=os.environ | {"PYTHONPATH": str(target), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert "Traceback" not in ended.stderr, ended.stderr
  assert ended.stdout.startswith(
    "['semanir-demo', 'semanir-eval', 'semanir-restore', 'semanir-train']"
  )
  # The program's own text and flags, which an entry point imports.
  assert "Trains SemanIR." in ended.stdout
  assert "--workdir" in ended.stdout and "--config" in ended.stdout
  assert not list(empty.iterdir())
  # The first command of the README, and nothing but its input.
  write_image(empty / "photo.png", np.full((8, 8, 3), 128, np.uint8))
  subprocess.run(
    [sys.executable, target / "bin" / "semanir-restore", "--input=photo.png"],
    cwd=empty,
    env=os.environ | {"PYTHONPATH": str(target), "JAX_PLATFORMS": "cpu"},
    check=True,
  )
  restored = read_image(empty / "restored" / "photo.png")
  assert restored.shape == (8, 8, 3)


def _required(*names: str) -> list[str]:
  """Requirements in files of the checkout."""
  texts = [(ROOT / name).read_text() for name in names]
  lines = [line.strip() for text in texts for line in text.splitlines()]
  return [line for line in lines if line and not line.startswith("#")]


def test_a_checkout_installs_what_the_package_asks_for():
  ours = [line for extra in EXTRAS.values() for line in extra]
  ours = [line for line in ours if not line.startswith("semanir_jax[")]
  ours = {*PROJECT["dependencies"], *ours} - NOT_FOR_A_CHECKOUT
  assert ours == set(_required("requirements.txt", "requirements_demo.txt"))


@pytest.mark.parametrize(
  "path", sorted((ROOT / "constraints").glob("*.txt")), ids=lambda p: p.stem
)
def test_what_was_tested_together_fits_and_is_complete(path):
  pins = {}
  for line in _required(f"constraints/{path.name}"):
    name, equal, pin = line.partition("==")
    assert equal, line
    pins[canonicalize_name(name)] = pin
  lines = _required("requirements.txt", "requirements_demo.txt")
  for requirement in map(Requirement, lines):
    pin = pins[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin), (requirement, pin)


def _imported(*folders: str) -> dict[str, str]:
  """Packages that files import, each with a file that does."""
  found = {}
  for name in checkout.list_files(*folders):
    if not name.endswith(".py"):
      continue
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        names = [node.module]
      else:
        continue
      found |= {module.split(".")[0]: name for module in names}
  return {
    name: file
    for name, file in found.items()
    if name not in sys.stdlib_module_names and name not in OWN
  }


def _declared(requirements: list[str]) -> set[str]:
  return {
    canonicalize_name(Requirement(line).name)
    for line in requirements
    if not line.startswith("semanir_jax[")
  }


@pytest.mark.parametrize(
  ("folders", "extras"),
  [
    (("semanir_jax", "configs"), ("gpu", "tfds", "demo", "video")),
    (("studies",), ("studies",)),
    (("tests", "benchmarks", "*.py"), tuple(EXTRAS)),
  ],
  ids=lambda names: names[0],
)
def test_what_is_imported_is_declared(folders, extras):
  lines = [line for extra in extras for line in EXTRAS[extra]]
  declared = _declared(PROJECT["dependencies"] + lines)
  declared.add("torch")  # compared with by benchmarks, where it is installed
  by_module = importlib.metadata.packages_distributions()
  for module, file in _imported(*folders).items():
    names = {canonicalize_name(n) for n in by_module.get(module, [module])}
    # Names that are not installed here are theirs: tensorflow_datasets.
    assert names & declared, f"{file}: {module} is not declared"


def test_the_change_log_has_the_version():
  text = (ROOT / "CHANGELOG.md").read_text()
  assert re.search(rf"^## {re.escape(PROJECT['version'])}\b", text, re.M)
  citation = (ROOT / "CITATION.cff").read_text()
  assert f"\nversion: {PROJECT['version']}\n" in citation


@pytest.mark.parametrize("target", ["lint", "test", "test_fast"])
def test_types_are_checked_after_all_requirements_are_installed(
  target, tmp_path
):
  """Else the check does not find what the web demo imports."""
  if shutil.which("make") is None:
    pytest.skip("needs make")
  printed = subprocess.run(
    ["make", "--dry-run", target, f"VENV={tmp_path}/venv"],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
  ).stdout.splitlines()
  (installed,) = (
    i for i, line in enumerate(printed) if "-r requirements_demo.txt" in line
  )
  (checked,) = (i for i, line in enumerate(printed) if "-m pyright" in line)
  assert installed < checked
