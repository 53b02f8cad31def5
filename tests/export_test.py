"""Exports: what is written is the network, and what is not is refused."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax import checkpoint, export, exported
from semanir_jax.inference import Restorer
from tests import programs, small

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = {"model": {"dim": 8}}
# The gather form, so that the export's own differs from the network's.
SR = small.COLUMNAR.clone(depths=(1, 1), implementation="gather")
TILES = {"sr": (SR, 10), "ushape": (small.DEEP_USHAPE, 16)}  # padded, and not


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  """With `sr.stablehlo` and `ushape.stablehlo`."""
  folder = tmp_path_factory.mktemp("exports")
  for name, (model, tile) in TILES.items():
    path = folder / "new" / f"{name}.stablehlo"
    params = small.params(model)
    export.write_export(path, model, params, CONFIG, tile=tile, num_keys=5)
  return folder / "new"


def _images(tile: int, count: int) -> np.ndarray:
  rng = np.random.RandomState(count)
  return rng.uniform(0, 1, (count, tile, tile, 3)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", TILES)
def test_an_export_equals_the_network_at_any_batch_and_k(folder, name, count):
  model, tile = TILES[name]
  network = exported.load(folder / f"{name}.stablehlo")
  eager = Restorer(model, small.params(model))
  images = _images(tile, 3)
  outputs = []
  for num_keys in (None, 1, 16):
    outputs.append(network(images[:count], num_keys=num_keys))
    expected = eager(images, num_keys=num_keys or 5)[:count]
    np.testing.assert_allclose(outputs[-1], expected, rtol=0, atol=2e-6)
  assert outputs[0].shape == (count, tile * model.scale, tile * model.scale, 3)
  # k does something.
  assert np.abs(outputs[0] - outputs[1]).max() > 1e-5


def test_one_program_is_for_all_platforms_and_calls_nobody(folder):
  path = folder / "sr.stablehlo"
  # JAX alone reads it.
  program = jax.export.deserialize(bytearray(path.read_bytes()))
  assert program.platforms == ("cpu", "cuda", "tpu")
  images, num_keys = program.in_avals
  assert str(images.shape) == "(b, 10, 10, 3)" and num_keys.shape == ()
  assert str(program.out_avals[0].shape) == "(b, 20, 20, 3)"
  # The only calls it makes are of JAX itself, to check what it is given.
  calls = [
    line for line in program.mlir_module().splitlines() if "custom_call" in line
  ]
  assert calls and all("@shape_assertion" in line for line in calls)


def test_the_facts_beside_it_say_how_to_call_it(folder):
  facts = json.loads((folder / "sr.stablehlo.json").read_text())
  expected = {
    "tile": 10,
    "scale": 2,
    "in_channels": 3,
    "out_channels": 3,
    "num_keys": 5,
    "max_keys": 16,
    "platforms": ["cpu", "cuda", "tpu"],
    "config": CONFIG,
  }
  assert {name: facts[name] for name in expected} == expected


def test_what_it_is_exported_on_does_not_matter(folder, monkeypatch):
  """Platforms choose forms and chunks; an export's are its own."""
  model, tile = TILES["sr"]
  program = exported.load(folder / "sr.stablehlo").program
  monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
  again = export.export_network(model, small.params(model), tile=tile)
  texts = [
    # Without the lines of the sources that made it.
    re.sub(r" ?loc\(.*|#loc.*", "", made.mlir_module())
    for made in (again, program)
  ]
  assert "dot_general" in texts[0] and texts[0] == texts[1]


def test_what_does_not_fit_an_export_is_refused(folder):
  network = exported.load(folder / "sr.stablehlo")
  for images in (
    _images(9, 1),
    _images(10, 1)[..., :1],
    _images(10, 1)[0],
    _images(10, 1)[:0],
    _images(10, 1).astype(np.float64),
  ):
    with pytest.raises(ValueError, match=r"takes \[batch, 10, 10, 3\] float32"):
      network(images)
  for num_keys in (0, 17):
    with pytest.raises(ValueError, match=f"={num_keys} must lie in .1, 16"):
      network(_images(10, 1), num_keys=num_keys)


def test_another_platform_is_named(folder, monkeypatch):
  network = exported.load(folder / "sr.stablehlo")
  monkeypatch.setattr(jax.export, "default_export_platform", lambda: "rocm")
  with pytest.raises(ValueError, match="for cpu, cuda, tpu, and JAX runs on r"):
    network(_images(10, 1))


def test_damaged_files_are_refused(folder, tmp_path):
  path = tmp_path / "sr.stablehlo"
  with pytest.raises(FileNotFoundError, match="sr.stablehlo"):
    exported.load(path)
  facts = exported.facts_path(path)
  for file in (path, facts):
    shutil.copy(folder / file.name, file)
  whole, text = path.read_bytes(), facts.read_text()
  middle = len(whole) // 2
  swapped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
  for damaged in (b"", whole[:-1], swapped):
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="sr.stablehlo is not the program"):
      exported.load(path)
  path.write_bytes(whole)
  for damaged in ("", "[]", "{}", text[:-9]):
    facts.write_text(damaged)
    with pytest.raises(ValueError, match="json does not describe an export"):
      exported.load(path)
  facts.write_text(text.replace("export 1", "export 9"))
  with pytest.raises(ValueError, match="has format 'semanir_jax export 9'"):
    exported.load(path)


@pytest.mark.parametrize("wrong", [1.01, np.nan])
def test_a_wrong_export_is_not_written(tmp_path, monkeypatch, wrong):
  model = small.COLUMNAR
  params = small.params(model)
  good = export.export_network

  def bad(model, params, **options):
    return good(model, jax.tree.map(lambda x: x * wrong, params), **options)

  monkeypatch.setattr(export, "export_network", bad)
  path = tmp_path / "sr.stablehlo"
  with pytest.raises(ValueError, match="the export differs from the network"):
    export.write_export(path, model, params, CONFIG, tile=8)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("name", "changes", "message"),
  [
    ("a.bin", {}, "must end with .stablehlo"),
    ("a.stablehlo", {"tile": 0}, "tile=0 must be at least 1"),
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
    export.write_export(
      tmp_path / name, SR, small.params(SR), CONFIG, **options
    )
  assert not list(tmp_path.iterdir())


def test_bfloat16_stays_bfloat16(tmp_path):
  model = small.USHAPE.clone(dtype=jnp.bfloat16)
  params = small.params(small.USHAPE)
  path = tmp_path / "a.stablehlo"
  export.write_export(path, model, params, CONFIG, tile=8, platforms=("cpu",))
  network = exported.load(path)
  assert "xbf16>" in network.program.mlir_module()
  assert network(_images(8, 2)).dtype == np.float32


_ALONE = """
import sys
import numpy as np
from semanir_jax import exported
network = exported.load(sys.argv[1])
images = np.load(sys.argv[2])
np.save(sys.argv[3], network(images))
print({"flax", "semanir_jax.models"} & set(sys.modules))
"""


def test_the_program_exports_and_jax_alone_runs_it(tmp_path):
  config = small.config()
  run = small.save_run(tmp_path / "run", config)
  model, params, _ = checkpoint.load_for_inference(str(run))
  path = tmp_path / "run.stablehlo"
  ended = programs.run_all(
    {
      "export": (
        "semanir_jax/export.py",
        f"--checkpoint={run}",
        f"--output={path}",
        "--tile=8",
        "--platforms=cpu,tpu",
      )
    },
    tmp_path,
  )["export"]
  assert ended.code == 0, ended.err
  assert "for cpu, tpu; differs by" in ended.err
  images = _images(8, 2)
  np.save(tmp_path / "images.npy", images)
  files = [str(tmp_path / f"{name}.npy") for name in ("images", "restored")]
  said = subprocess.run(
    [sys.executable, "-c", _ALONE, str(path), *files],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert said == "set()\n"
  np.testing.assert_allclose(
    np.load(files[1]), Restorer(model, params)(images), rtol=0, atol=2e-6
  )
