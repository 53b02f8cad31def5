"""Weights as files."""

import hashlib
import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from semanir_jax.networks import build, checkpoint, load, safetensors_file
from semanir_jax.networks.build import CheckpointError
from tests import programs, small

CONFIG = checkpoint.config_to_json(small.config())


@pytest.fixture
def file(tmp_path) -> pathlib.Path:
  path = tmp_path / "new folder" / "net.safetensors"
  safetensors_file.write_weights(path, small.params(small.USHAPE), CONFIG)
  return path


def test_a_file_gives_back_the_network(file):
  network = load.load_network(str(file))
  model, params, config = network.model, network.params, network.config
  assert model == build.make_model(small.config().model)
  small.assert_equal_trees(params, small.params(small.USHAPE))
  assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
  assert config == CONFIG


def test_the_arrays_are_plain_and_named_by_their_path(file):
  arrays = safetensors.numpy.load_file(file)
  expected = small.params(small.USHAPE)["stage_0"]["layers"]["mlp"]["expand"]
  found = arrays["stage_0/layers/mlp/expand/kernel"]
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, expected["kernel"])


def test_a_file_names_no_folder_of_its_machine(tmp_path):
  data = {**CONFIG["data"], "data_dir": "/mnt/sets"}
  data["train"] = ["/mnt/sets/div2k", "wed"]
  config = {**CONFIG, "data": data, "init_from": "/home/me/a.safetensors"}
  path = tmp_path / "net.safetensors"
  safetensors_file.write_weights(path, small.params(small.USHAPE), config)
  found = load.load_network(str(path)).config
  assert found["init_from"] == ".../a.safetensors"
  assert found["data"]["data_dir"] == "DATA"
  assert found["data"]["train"] == ["DATA/div2k", "wed"]
  assert found["model"] == CONFIG["model"]


def test_what_was_loaded_can_be_told(file, tmp_path):
  digest = hashlib.sha256(file.read_bytes()).hexdigest()
  assert load.identify(str(file)) == f"{file.name}, sha256 {digest[:12]}"
  run = small.save_run(tmp_path / "run", small.config())
  (step,) = (run / "checkpoints").iterdir()
  assert load.pin(str(run)) == load.pin(str(step)) == str(step)
  assert load.identify(str(step)) == f"run, step {step.name}"
  (run / "checkpoints" / "1000").mkdir()
  assert load.identify(load.pin(str(run))) == "run, step 1000"
  assert load.pin(str(step)) == str(step)
  for name in (str(file), "denoise_color_tiny", str(tmp_path / "none")):
    assert load.pin(name) == name


def test_a_training_run_is_found_too_and_becomes_a_file(tmp_path):
  run = small.save_run(tmp_path / "run", small.config())
  network = load.load_network(str(run))
  params, config = network.params, network.config
  command = ("semanir_jax/weights.py", f"--checkpoint={run}")
  paths = {name: tmp_path / f"{name}.safetensors" for name in ("as_is", "half")}
  ended = programs.run_all(
    {
      "as_is": (*command, f"--output={paths['as_is']}"),
      "half": (*command, f"--output={paths['half']}", "--dtype=bfloat16"),
    },
    tmp_path,
  )
  for name, path in paths.items():
    assert ended[name].code == 0, ended[name].err
    assert "written: " in ended[name].err
    network = load.load_network(str(path))
    model, again, config_again = network.model, network.params, network.config
    small.assert_equal_trees(again, params)
    if name == "half":
      assert model.execution.dtype == "bfloat16"
      assert config_again["model"]["dtype"] == "bfloat16"
      config_again["model"]["dtype"] = "float32"
    assert config_again == config


def test_bundled_networks_have_names_and_sums(file, tmp_path, monkeypatch):
  folder = tmp_path / "pretrained"
  folder.mkdir()
  data = file.read_bytes()
  (folder / "net.safetensors").write_bytes(data)
  line = f"{hashlib.sha256(data).hexdigest()}  net.safetensors\n"
  (folder / load.SUMS).write_text(line)
  monkeypatch.setattr(load, "PRETRAINED", folder)
  monkeypatch.chdir(tmp_path)
  params = load.load_network("net").params
  small.assert_equal_trees(params, small.params(small.USHAPE))
  with pytest.raises(
    CheckpointError, match=r"bundled network: net; did you mean .net.\?$"
  ):
    load.load_network("nett")
  # A whole file, but another one.
  safetensors_file.write_weights(
    folder / "net.safetensors", small.params(small.USHAPE), CONFIG | {"seed": 1}
  )
  with pytest.raises(CheckpointError, match="net.safetensors is not the file"):
    load.load_network("net")


def _save(path: pathlib.Path, arrays: dict, metadata: dict) -> None:
  path.write_bytes(safetensors.numpy.save(arrays, metadata))


def test_files_that_cannot_be_used_are_refused(file, tmp_path):
  whole = file.read_bytes()
  arrays = safetensors.numpy.load(whole)
  good = {"format": "semanir_jax 1", "config": json.dumps(CONFIG)}
  other = json.dumps(CONFIG | {"model": CONFIG["model"] | {"dim": 16}})
  unknown = json.dumps(CONFIG | {"model": {"depth": 3}})
  path = tmp_path / "bad.safetensors"
  with pytest.raises(CheckpointError, match="there is no such file"):
    load.load_network(str(path))
  for cut in (0, 4, 1000, len(whole) - 1):
    path.write_bytes(whole[:cut])
    with pytest.raises(CheckpointError, match="bad.safetensors cannot be read"):
      load.load_network(str(path))
  for metadata, message in (
    ({}, "is not of semanir_jax"),
    (good | {"format": "semanir_jax 9"}, "'semanir_jax 9'"),
    ({"format": good["format"]}, "has no config in its metadata"),
    (good | {"config": "{"}, "a config that this version cannot read"),
    (good | {"config": other}, "is of another architecture"),
    (good | {"config": unknown}, "a config that this version cannot read"),
  ):
    _save(path, arrays, metadata)
    with pytest.raises(CheckpointError, match=message):
      load.load_network(str(path))
  del arrays["conv_first/conv/bias"]
  _save(path, arrays, good)
  with pytest.raises(
    CheckpointError, match="conv_first/conv/bias: here .*absent"
  ):
    load.load_network(str(path))


def test_a_file_has_the_formats_name(tmp_path):
  with pytest.raises(ValueError, match="must end with .safetensors"):
    safetensors_file.write_weights(tmp_path / "a.npz", {}, {})
  assert not list(tmp_path.iterdir())
