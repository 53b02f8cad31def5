"""The studies' numbers are those of direct computations; what is done stays."""

import csv
import functools
import json

import jax
import numpy as np
import pytest
from PIL import Image

from configs import base
from semanir_jax.evaluation import metrics
from semanir_jax.images.image_file import write_image
from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine.flops import count_flops
from semanir_jax.models import ablations
from semanir_jax.models.parameters import abstract_params
from semanir_jax.models.stage import Stage
from semanir_jax.networks import build, checkpoint
from semanir_jax.networks.loaded_network import LoadedNetwork
from semanir_jax.networks.safetensors_file import write_weights
from semanir_jax.ops import build_dictionary
from semanir_jax.ops.bits import unpack_bits
from studies import (
  ablation,
  ablation_report,
  ablation_run,
  activation_maps,
  arguments,
  arithmetic,
  comparison,
  cost,
  measuring,
  num_keys,
  variants,
)
from tests import small

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with a network, `net.safetensors`, and two pictures, `clean`."""
  folder = tmp_path_factory.mktemp("studies")
  (folder / "clean").mkdir()
  rng = np.random.RandomState(0)
  for name in "ab":
    pixels = rng.randint(0, 256, (12, 20, 3)).astype(np.uint8)
    write_image(folder / "clean" / f"{name}.png", pixels)
  model = build.make_model(_config().model)
  config = checkpoint.config_to_json(_config())
  path = folder / "net.safetensors"
  write_weights(path, measuring.random_params(model), config)
  return folder


@functools.cache
def _config():
  config = base.get_config("smoke").unlock()
  config.model.architecture = "columnar"
  config.eval.sets = {"ours": base.test_set("clean", base.noise(25.0))}
  config.eval.max_images = 0
  return config.lock()


def _rows(path):
  with open(path, newline="") as file:
    return list(csv.DictReader(file))


def _decodes(path):
  with Image.open(path) as picture:
    picture.load()
    return min(picture.size) > 200


def test_k_against_quality_equals_a_direct_measurement(place, monkeypatch):
  output = place / "num_keys"
  run = functools.partial(
    num_keys.study,
    _config(),
    [f"net={place / 'net.safetensors'}"],
    output,
    data_dir=str(place),
    side=8,
  )
  run(keys=[2, 8])
  rows = _rows(output / "num_keys.csv")
  assert [row["num_keys"] for row in rows] == ["2", "8"]
  assert "ours, 2 of 2 images" in rows[0]["protocol"]
  network = num_keys.load_network(str(place / "net.safetensors"))
  _, examples, _ = measuring.open_test_set(_config(), "ours", str(place))
  restorer = Restorer(network.model, network.params)
  psnr, before = [], []
  for one in examples:
    target = metrics.to_uint8(one.hq)
    out = restorer(one.lq[None], num_keys=2)[0]
    psnr.append(metrics.psnr(metrics.to_uint8(out), target))
    before.append(metrics.psnr(metrics.to_uint8(one.lq), target))
  assert float(rows[0]["psnr"]) == pytest.approx(np.mean(psnr), abs=1e-4)
  assert float(rows[0]["input_psnr"]) == pytest.approx(np.mean(before))
  assert rows[0]["psnr"] != rows[1]["psnr"]
  assert _decodes(output / "num_keys.png")

  with pytest.raises(ValueError, match="num_keys=99 must lie in"):
    run(keys=[99])
  # What is measured is not measured again; another k is.
  measured = []
  monkeypatch.setattr(num_keys, "draw", lambda *args: None)
  monkeypatch.setattr(
    measuring,
    "mean_scores",
    lambda *args: measured.append(args[-1]) or _scores(1.0),
  )
  run(keys=[2, 4, 8])
  assert measured == [4]
  assert _rows(output / "num_keys.csv")[0] == rows[0]
  run(keys=[8])  # what is not asked for stays
  assert len(_rows(output / "num_keys.csv")) == 3


def _scores(value):
  names = ("psnr", "ssim", "input_psnr", "input_ssim")
  return dict.fromkeys(names, value)


def test_arithmetic_grows_by_two_products_a_key():
  model = build.make_model(_config().model)
  few, many = (arithmetic.gigaflops(model, (8, 8), k) for k in (2, 8))
  # Logits and values: 2 multiply-adds of C channels, per query, key and layer.
  expected = 4 * (8 - 2) * 64 * model.dim * 2 / 1e9
  assert many["gigaflops"] - few["gigaflops"] == pytest.approx(expected)
  assert few["gigaflops_mask"] == many["gigaflops_mask"] > many["gigaflops"]


def test_cost_counts_and_keeps_what_it_measured(tmp_path, monkeypatch):
  options = small.SIZE | {"architecture": "columnar", "depths": (1,)}
  monkeypatch.setattr(cost, "SIZES", {"U": options})
  cost.study(["U"], tmp_path, sides=(8, 8), repeats=1)
  (row,) = _rows(tmp_path / "cost.csv")
  model = small.COLUMNAR.clone(scale=4)
  model = model.with_execution(implementation="mask")
  params = abstract_params(model)
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert int(row["parameters"]) == count
  image = np.zeros((1, 8, 8, 3), np.float32)
  flops = count_flops(
    lambda params, image: model.apply({"params": params}, image), params, image
  )
  assert float(row["gigaflops_mask"]) == pytest.approx(flops / 1e9)
  assert float(row["milliseconds"]) > 0
  assert float(row["peak_mib"]) > 4 * count / 2**20
  assert float(row["published_psnr"]) == 31.79
  assert _decodes(tmp_path / "cost.png")
  cost.study(["U"], tmp_path, sides=(4, 4), repeats=0)
  monkeypatch.delattr(cost, "measure")
  cost.study(["U"], tmp_path, sides=(8, 8), repeats=1)
  rows = _rows(tmp_path / "cost.csv")
  assert rows[0] == row and rows[1]["input"] == "4x4" and len(rows) == 2


def test_activation_maps_are_the_dictionaries_of_the_stages_inputs(place):
  path, output = str(place / "net.safetensors"), place / "maps"
  source = str(place / "clean")
  activation_maps.study(path, source, output, pixels=[(5, 6)], keys=[3])
  assert _decodes(output / "activation_maps.png")
  network = activation_maps.load_network(path)
  model, params, config = network.model, network.params, network.config
  (example,), _ = activation_maps.pictures.open_examples(config, source, 1)

  @jax.jit
  def run(image):
    return model.apply(
      {"params": params},
      image,
      num_keys=3,
      capture_intermediates=lambda module, _: (
        isinstance(module, Stage) or module.name == "norm_first"
      ),
    )[1]["intermediates"]

  captured = run(example.lq[None])
  inputs = {
    "stage_0": captured["norm_first"]["__call__"][0],
    "stage_1": captured["stage_0"]["__call__"][0],
  }
  # Top and left of the window of pixel 5, 6; those of stage 1 are shifted by 2.
  places = {"stage_0": (4, 4), "stage_1": (2, 6)}
  for name, (top, left) in places.items():
    window = inputs[name][:, top : top + 4, left : left + 4].reshape(
      1, 1, 16, -1
    )
    bits = build_dictionary(window, 3).bits
    token = 4 * (5 - top) + 6 - left
    expected = {
      (top + index // 4, left + index % 4)
      for index in np.flatnonzero(unpack_bits(bits, 16)[0, 0, token])
    }
    found = {
      (int(row["kept_row"]), int(row["kept_column"]))
      for row in _rows(output / "activation_maps.csv")
      if row["stage"] == name
    }
    assert found == expected and len(found) == 3


def test_tokens_of_a_lower_level_stand_for_several_pixels():
  model = small.DEEP_USHAPE
  image = np.random.RandomState(0).rand(13, 16, 3).astype(np.float32)
  params = measuring.random_params(model)
  (stages,) = activation_maps.stage_keys(model, params, image, [3])
  assert [(s.name, s.step) for s in stages] == [
    ("stage_0", 1),
    ("stage_1", 2),
    ("stage_2", 1),
    ("stage_3", 1),
  ]
  found = activation_maps.kept_positions(stages[1], (12, 7))
  assert found["query"].tolist() == [6, 3]
  assert len(found["kept"]) == 3 and found["kept"].max() < 8
  assert {tuple(p) for p in found["kept"]} <= {
    tuple(p) for p in found["window"]
  }


def test_a_pixel_outside_of_the_picture_is_refused(place):
  with pytest.raises(ValueError, match="12,3 lies outside of the 12x20"):
    activation_maps.study(
      str(place / "net.safetensors"),
      str(place / "clean"),
      place / "none",
      pixels=[(12, 3)],
    )


def test_comparisons_state_the_psnr_of_crop_and_picture(place):
  output, path = place / "comparison", str(place / "net.safetensors")
  box = (2, 3, 8)
  comparison.study(
    [f"ours={path}"], str(place / "clean"), output, keys=[4], box=box
  )
  rows = _rows(output / "comparison.csv")
  assert [(row["picture"], row["view"]) for row in rows] == [
    ("a", "input"),
    ("a", "ours, k = 4"),
    ("b", "input"),
    ("b", "ours, k = 4"),
  ]
  network = comparison.load_network(path)
  model, params, config = network.model, network.params, network.config
  (example,), words = comparison.pictures.open_examples(
    config, str(place / "clean"), 1
  )
  assert "clean: noise" in words and "25.0, 25.0" in words
  out = Restorer(model, params)(example.lq[None], num_keys=4)[0]
  out, target = metrics.to_uint8(out), metrics.to_uint8(example.hq)
  assert float(rows[1]["psnr"]) == pytest.approx(
    metrics.psnr(out, target), abs=1e-4
  )
  crop = metrics.psnr(out[2:10, 3:11], target[2:10, 3:11])
  assert float(rows[1]["crop_psnr"]) == pytest.approx(crop, abs=1e-4)
  assert _decodes(output / "a.png") and _decodes(output / "b.png")
  with pytest.raises(ValueError, match="--box=8,0,8: lies outside of a 12x20"):
    comparison.cut(target, (8, 0, 8))


def test_the_most_detailed_square_is_found():
  image = np.full((64, 96, 3), 100, np.uint8)
  image[20:30, 70:80] = np.random.RandomState(0).randint(0, 255, (10, 10, 3))
  top, left, side = comparison.most_detailed(image, side=32)
  assert top <= 20 and 30 <= top + side and left <= 70 and 80 <= left + side


def test_variants_change_what_their_name_says():
  config = _config()  # windows of 4: N = 16
  fields = {
    name: variants.make_config(config, name, 3) for name in variants.VARIANTS
  }
  assert all(one.seed == 3 for one in fields.values())
  assert fields["full"].model.num_keys == 16
  assert [fields[f"k_1_{n}"].model.num_keys for n in (16, 8, 4, 2)] == [
    1,
    2,
    4,
    8,
  ]
  assert fields["window_8"].model.num_keys == 32
  assert fields["window_8"].model.max_keys == 64
  assert fields["random_k"].train.random_num_keys == (1, 2, 3, 4, 6, 8)
  assert variants.evaluated_keys(config, "random_k") == (8, 1, 2, 3, 4, 6, 16)
  assert variants.evaluated_keys(fields["full"], "full") == (16,)
  models = {name: build.make_model(f.model) for name, f in fields.items()}
  assert models["layer"].key_search.in_every_layer
  assert models["random_keys"].key_search.find is ablations.find_random
  assert models["cosine"].key_search.find is ablations.find_by_angle
  assert not models["no_shift"].shift_windows
  # All but those of the same network in another training differ.
  assert len(set(models.values())) == len(models) - 2


def test_an_ablation_goes_on_where_it_was_interrupted(place, monkeypatch):
  output, trained, models = place / "ablation", [], {}

  def train(config, workdir):
    """Leaves what a training leaves; the second run is interrupted once."""
    trained.append(workdir.rsplit("/", 1)[-1])
    if len(trained) == 2:
      raise KeyboardInterrupt
    models[workdir] = build.make_model(config.model)
    return True

  monkeypatch.setattr(
    checkpoint,
    "load_for_inference",
    lambda path: LoadedNetwork(models[path], {}, {}),
  )
  scores = map(_scores, np.arange(20.0, 50.0).tolist())
  monkeypatch.setattr(measuring, "mean_scores", lambda *args: next(scores))
  monkeypatch.setattr(ablation_run, "train_and_evaluate", train)
  run = functools.partial(
    ablation.ablate,
    _config(),
    ["stage", "layer"],
    range(2),
    output,
    data_dir=str(place),
  )
  with monkeypatch.context() as quick:
    quick.setattr(ablation_report, "draw", lambda *args: None)
    with pytest.raises(KeyboardInterrupt):
      run()
    assert len(_rows(output / "runs.csv")) == 7  # "stage" at all its k
    assert run()
  names = ["stage_0", "layer_0", "layer_0", "stage_1", "layer_1"]
  assert trained == names
  assert run() and trained == names
  rows = _rows(output / "runs.csv")
  own = [r for r in rows if r["own_k"] == "True"]
  assert [(r["variant"], r["seed"]) for r in own] == [
    ("stage", "0"),
    ("layer", "0"),
    ("stage", "1"),
    ("layer", "1"),
  ]
  _check_summary(output, own)
  summary = (output / "summary.csv").read_text()
  ablation_report.write(output, ablation_report.read(output / "runs.csv"))
  assert (output / "summary.csv").read_text() == summary
  clock = json.loads((output / "runs/layer_0/seconds.json").read_text())
  assert len(clock) == 2
  assert float(own[1]["train_seconds"]) == pytest.approx(sum(clock), abs=0.1)

  # Fewer variants: the others stay in the tables.
  assert ablation.ablate(_config(), ["layer"], [1], output, data_dir=str(place))
  assert _rows(output / "runs.csv") == rows

  other = _config().copy_and_resolve_references().unlock()
  other.train.num_steps = 5
  (output / "runs/layer_0/result.json").unlink()  # complete or not
  for name in ("stage", "layer"):
    with pytest.raises(ValueError, match=f"{name}_0 is of another config"):
      ablation.ablate(other, [name], [0], output, data_dir=str(place))


def _check_summary(output, own):
  (layer,) = (
    row for row in _rows(output / "summary.csv") if row["variant"] == "layer"
  )
  psnr = [
    [float(r["psnr"]) for r in own if r["variant"] == v]
    for v in ("stage", "layer")
  ]
  assert len(set(psnr[0] + psnr[1])) == 4
  psnr = np.array(psnr)
  assert float(layer["psnr"]) == pytest.approx(psnr[1].mean())
  assert float(layer["psnr_sd"]) == pytest.approx(psnr[1].std(ddof=1))
  gains = psnr[1] - psnr[0]
  assert float(layer["gain"]) == pytest.approx(gains.mean(), abs=1e-9)
  assert (
    "| dictionary rebuilt per layer | 8 | 2 |"
    in (output / "summary.md").read_text()
  )
  assert _decodes(output / "ablation.png")


def test_each_network_is_timed_once(tmp_path, monkeypatch):
  monkeypatch.setattr(
    measuring,
    "seconds_per_call",
    lambda calls, repeats: dict.fromkeys(calls, 2),
  )
  ablation_report.time_forward(
    _config(), ["no_shift", "random_k", "stage"], tmp_path, 8
  )
  rows = _rows(tmp_path / "forward.csv")
  # "stage" is the network of random_k.
  assert [row["variant"] for row in rows] == ["no_shift", "random_k"]
  assert float(rows[0]["milliseconds"]) == 2000


def test_calls_are_timed_in_turns():
  calls = []
  seconds = measuring.seconds_per_call(
    {name: lambda name=name: calls.append(name) for name in "ab"}, 2
  )
  assert calls == list("ababab")
  assert all(value > 0 for value in seconds.values())


def test_an_unknown_variant_is_named():
  with pytest.raises(ValueError, match="--variants=stag: use stage, layer"):
    ablation.ablate(_config(), ["stag"], [0], None)
  with pytest.raises(ValueError, match="--variants=full,full: .* each once"):
    ablation.ablate(_config(), ["full", "full"], [0], None)


def test_a_variant_that_is_another_one_is_left_out():
  names = ["stage", "k_1_2", "layer"]
  assert ablation._distinct(_config(), names) == ["stage", "layer"]


def test_a_config_of_random_k_keeps_it_in_its_variant_alone():
  config = _config().copy_and_resolve_references().unlock()
  config.train.random_num_keys = (1, 2)
  full, random_k = (
    variants.make_config(config, name, 0) for name in ("full", "random_k")
  )
  assert full.train.random_num_keys == ()
  assert random_k.train.random_num_keys == (1, 2, 3, 4, 6, 8)


def test_arguments_are_split_or_refused_by_name(tmp_path):
  path = tmp_path / "lr=1e-3"
  path.mkdir()
  assert arguments.named(f"ours={path}") == ("ours", str(path))
  assert arguments.named(str(path)) == ("lr=1e-3", str(path))
  assert arguments.integers("box", ["1", "2"]) == [1, 2]
  with pytest.raises(ValueError, match="--num_keys=4,x: whole numbers"):
    arguments.integers("num_keys", ["4", "x"])


def test_pictures_of_one_name_are_refused(place, tmp_path):
  for suffix in ("png", "bmp"):
    write_image(tmp_path / f"x.{suffix}", np.zeros((8, 8, 3), np.uint8))
  path = str(place / "net.safetensors")
  with pytest.raises(ValueError, match="several pictures are called x"):
    comparison.study([path], str(tmp_path), tmp_path / "out", keys=[4])
