"""Exports: what is written is the network, and what is not is refused."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import numpy as np
import pytest

from semanir_jax.export import exported, write
from semanir_jax.images.image_file import read_image
from semanir_jax.inference.restorer import Restorer
from semanir_jax.networks import safetensors_file
from semanir_jax.networks.build import make_model
from semanir_jax.networks.checkpoint import config_to_json
from semanir_jax.networks.loaded_network import LoadedNetwork
from semanir_jax.ops import chunks
from tests import small

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = {"model": {"dim": 8}}
# The gather form, so that the export's own differs from the network's.
SR = small.COLUMNAR.clone(
  depths=(1, 1), upsampler="pixelshuffledirect"
).with_execution(implementation="gather")
SR_TILE = 10  # padded to 12


def _network(params: Mapping[str, Any] | None = None) -> LoadedNetwork:
  """`SR` with its parameters, or others."""
  return LoadedNetwork(SR, params or small.params(SR), CONFIG)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> pathlib.Path:
  """An export of `SR`, for all platforms."""
  path = tmp_path_factory.mktemp("exports") / "new" / "sr.stablehlo"
  write.write_export(path, _network(), tile=SR_TILE, num_keys=5)
  return path


@pytest.fixture(scope="module")
def network(file) -> exported.ExportedNetwork:
  return exported.load(file)


def _tiles(count: int, tile: int = SR_TILE) -> np.ndarray:
  rng = np.random.RandomState(0)
  return rng.uniform(0, 1, (count, tile, tile, 3)).astype(np.float32)


def _real_tiles(shared_data: pathlib.Path) -> np.ndarray:
  """Three pieces of a photograph, one of them a single colour."""
  image = read_image(shared_data / "set5" / "hr" / "butterfly.png")
  pixels = image.astype(np.float32) / 255
  corners = [pixels[i : i + SR_TILE, :SR_TILE] for i in (0, 40)]
  return np.stack([*corners, np.full_like(corners[0], 0.5)])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("source", ["random", "photograph"])
def test_an_export_equals_the_network_at_any_batch_and_k(
  network, request, source, count
):
  images = _tiles(3)
  if source == "photograph":
    images = _real_tiles(request.getfixturevalue("shared_data"))
  eager = Restorer(SR, small.params(SR))
  outputs = []
  for num_keys in (None, 1, 16):
    outputs.append(network(images[:count], num_keys=num_keys))
    expected = eager(images, num_keys=num_keys or 5)[:count]
    np.testing.assert_allclose(outputs[-1], expected, rtol=0, atol=2e-6)
  assert outputs[0].shape == (count, 2 * SR_TILE, 2 * SR_TILE, 3)
  # k does something.
  assert np.abs(outputs[0] - outputs[1]).max() > 1e-5


def test_one_program_is_for_all_platforms_and_calls_nobody(network):
  program = network.program
  assert program.platforms == ("cpu", "cuda", "tpu")
  images, num_keys = program.in_avals
  assert str(images.shape) == "(b, 10, 10, 3)" and num_keys.shape == ()
  assert str(program.out_avals[0].shape) == "(b, 20, 20, 3)"
  # The only calls it makes are of JAX itself, to check what it is given.
  calls = [
    line for line in program.mlir_module().splitlines() if "custom_call" in line
  ]
  assert calls and all("@shape_assertion" in line for line in calls)


def test_the_facts_beside_it_say_how_to_call_it(network):
  expected = {
    "tile": 10,
    "scale": 2,
    "in_channels": 3,
    "out_channels": 3,
    "num_keys": 5,
    "max_keys": 16,
    "dtype": "float32",
    "platforms": ["cpu", "cuda", "tpu"],
    "config": CONFIG,
  }
  assert {name: network.facts[name] for name in expected} == expected


def test_what_it_is_exported_on_does_not_matter(monkeypatch):
  """Platforms choose forms and chunks; an export's are its own."""
  monkeypatch.setattr(chunks, "CPU_ELEMENTS", 64)
  texts = []
  for platform in ("cpu", "gpu"):
    monkeypatch.setattr(jax, "default_backend", lambda name=platform: name)
    made = write.export_network(
      small.USHAPE, small.params(small.USHAPE), tile=16, platforms=("cpu",)
    )
    # Without the lines of the sources that made it.
    text = re.sub(r"(?m)^#loc.*\n| ?loc\(.*", "", made.mlir_module())
    texts.append(text)
  assert "dot_general" in texts[0] and texts[0] == texts[1]


@pytest.mark.parametrize(
  "images",
  [
    _tiles(1, tile=9),
    _tiles(1)[..., :1],
    _tiles(1)[0],
    _tiles(1)[:0],
    _tiles(1).astype(np.float64),
    _tiles(1).tolist(),
  ],
)
def test_images_that_do_not_fit_an_export_are_refused(network, images):
  with pytest.raises(ValueError, match=r"takes \[batch, 10, 10, 3\] float32"):
    network(images)


def test_images_of_8_bits_are_no_images_of_an_export(network):
  with pytest.raises(ValueError, match=r"values up to .*give \[0, 1\]"):
    network(255 * _tiles(1))


@pytest.mark.parametrize("num_keys", [0, 17, 2.5])
def test_k_that_does_not_fit_an_export_is_refused(network, num_keys):
  with pytest.raises(
    ValueError, match=f"={num_keys} must be a whole number in"
  ):
    network(_tiles(1), num_keys=num_keys)


def test_another_platform_is_named(network, monkeypatch):
  monkeypatch.setattr(jax.export, "default_export_platform", lambda: "rocm")
  with pytest.raises(ValueError, match="for cpu, cuda, tpu, and JAX runs on r"):
    network(_tiles(1))


def test_damaged_files_are_refused(file, tmp_path):
  path = tmp_path / file.name
  with pytest.raises(FileNotFoundError, match="sr.stablehlo"):
    exported.load(path)
  facts = exported.facts_path(path)
  shutil.copy(file, path)
  shutil.copy(exported.facts_path(file), facts)
  whole, text = path.read_bytes(), facts.read_text()
  middle = len(whole) // 2
  swapped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
  for damaged in (b"", whole[:-1], swapped):
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="sr.stablehlo is not the program"):
      exported.load(path)
  path.write_bytes(whole)
  without = text.replace('"max_keys"', '"most_keys"')
  for damaged in ("", "[]", "{}", text[:-9], without):
    facts.write_text(damaged)
    with pytest.raises(ValueError, match="json does not describe an export"):
      exported.load(path)
  path.write_bytes(b"no program")
  checksum = json.loads(text)["sha256"]
  facts.write_text(text.replace(checksum, exported.checksum(path.read_bytes())))
  with pytest.raises(ValueError, match="stablehlo cannot be read by JAX"):
    exported.load(path)
  facts.write_text(text.replace("export 1", "export 9"))
  with pytest.raises(ValueError, match="has format 'semanir_jax export 9'"):
    exported.load(path)


@pytest.mark.parametrize("wrong", [1.01, np.nan])
def test_a_wrong_export_is_not_written(network, tmp_path, monkeypatch, wrong):
  monkeypatch.setattr(write, "export_network", lambda *_, **__: network.program)
  params = jax.tree.map(lambda x: x * wrong, small.params(SR))
  path = tmp_path / "sr.stablehlo"
  with pytest.raises(ValueError, match="the export differs from the network"):
    write.write_export(path, _network(params), tile=SR_TILE)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("name", "changes", "message"),
  [
    ("a.bin", {}, "must end with .stablehlo"),
    ("a.stablehlo", {"tile": 0}, "tile=0 must be at least 1"),
    ("a.stablehlo", {"tile": 10**6}, "memory does not suffice; it does up to"),
    ("a.stablehlo", {"num_keys": 17}, r"num_keys=17 must lie in \[1, 16\]"),
    ("a.stablehlo", {"platforms": ("cpu", "gpu")}, "gpu: use some of cpu, cud"),
    ("a.stablehlo", {"platforms": ("tpu",)}, "verified here, on cpu; add it"),
  ],
)
def test_options_that_do_not_fit_leave_nothing(
  tmp_path, name, changes, message
):
  options = {"tile": 8} | changes
  with pytest.raises(ValueError, match=message):
    write.write_export(tmp_path / name, _network(), **options)
  assert not list(tmp_path.iterdir())


def test_the_program_exports_a_file_of_weights(tmp_path):
  """It compares a U in bfloat16 with the network itself, as it always does."""
  config = small.config()
  source, path = tmp_path / "net.safetensors", tmp_path / "net.stablehlo"
  params = small.params(make_model(config.model))
  safetensors_file.write_weights(source, params, config_to_json(config))
  said = _run(
    ROOT,
    "-m",
    "semanir_jax.export",
    f"--checkpoint={source}",
    f"--output={path}",
    "--tile=8",
    "--platforms=cpu,tpu",
    "--dtype=bfloat16",
  )
  assert "for cpu, tpu; differs by" in said
  network = exported.load(path)
  assert "xbf16>" in network.program.mlir_module()
  assert network.facts["dtype"] == "bfloat16"
  assert network.facts["config"]["model"]["dim"] == 8


# In a folder without semanir_jax, beside a copy of exported.py.
_ALONE = """
import sys
import jax, jax.export
import numpy as np
import exported
assert not {"flax", "semanir_jax"} & set(sys.modules)
network = exported.load("sr.stablehlo")
images = np.load("images.npy")
np.save("restored.npy", network(images))
with open("sr.stablehlo", "rb") as file:
  program = jax.export.deserialize(bytearray(file.read()))
np.save("again.npy", jax.jit(program.call)(images, np.int32(5)))
"""


def test_jax_alone_runs_it(file, network, tmp_path):
  for source in (file, exported.facts_path(file), exported.__file__):
    shutil.copy(source, tmp_path)
  images = _tiles(3)
  np.save(tmp_path / "images.npy", images)
  _run(tmp_path, "-c", _ALONE)
  expected = network(images)
  for name in ("restored", "again"):
    found = np.load(tmp_path / f"{name}.npy")
    np.testing.assert_allclose(found, expected, atol=2e-6)


def _run(folder: pathlib.Path, *arguments: str) -> str:
  """Runs Python; returns what it wrote to stderr."""
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
  }
  environment.pop("PYTHONPATH", None)
  done = subprocess.run(
    [sys.executable, *arguments],
    cwd=folder,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert not done.returncode, done.stderr[-4000:]
  return done.stderr
