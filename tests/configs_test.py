"""Every config builds, trains one step, and states the published figures."""

import functools
import importlib
import itertools
import json
import pathlib
import subprocess
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import base, pretrained
from semanir_jax import degradations
from semanir_jax.networks import build
from semanir_jax.training import data, phases, setup
from tests import small

pytestmark = pytest.mark.slow

U = ("", "U", "U_light", "U_tiny")
# Words that exclude each other, by config; every combination is built.
VARIANTS = {
  "base": [("",)],
  "sr": [
    ("", "x3", "x4", "x8"),
    ("", "B", "light", "tiny"),
    ("", "lr_files"),
    ("", "finetune"),
  ],
  "denoise": [
    ("", "gray"),
    ("", "s15", "s25", "s50"),
    (*U, "demo", "finetune"),
    ("", "stored", "truncated"),
  ],
  "jpeg": [
    ("", "color"),
    ("", "q10", "q20", "q30", "q40"),
    (*U, "finetune"),
  ],
  "demosaic": [U],
  "photo": [U, ("", "s10", "s25", "s50")],
  "deblur": [U, ("", "realblur_j", "realblur_r", "synthetic")],
  "weather": [U, ("", "synthetic")],
  "all_in_one": [U, ("", "outdoor")],
  "pretrained": [
    (
      "denoise_color_light",
      "denoise_color_tiny",
      "denoise_gray_light",
      "jpeg_color_light",
      "photo_light",
      "demosaic_light",
      "sr_x2_light",
      "sr_x4_light",
    ),
    ("", "further"),
  ],
  "ablation": [("",)],
}
# What differs in a step: each is run once. `finetune` has other numbers alone.
STEPS = {
  "base": [""],
  "sr": ["", "x3", "x8", "x4,light", "B,random_k"],
  "denoise": ["", "s25,U_light", "gray", "demo"],
  "jpeg": ["", "q10", "color", "color,q40"],
  "demosaic": [""],
  "photo": ["U_light"],
  "deblur": ["", "realblur_j", "synthetic"],
  "weather": ["", "synthetic"],
  "all_in_one": ["", "outdoor"],
  "pretrained": ["", "sr_x4_light"],
  "ablation": [""],
}
# PSNR of the paper, a value from every row of semanir_spec.md section 5.
PUBLISHED = {
  "sr:x2,B": {"set5": 38.61, "set14": 35.08, "manga109": 40.59},
  "sr:x3,B": {"set5": 35.03, "bsd100": 29.54, "urban100": 30.87},
  "sr:x4,B": {"set5": 33.08, "urban100": 28.51, "manga109": 32.56},
  "sr:x2": {"set5": 38.57, "urban100": 34.86},
  "sr:x4,S": {"set5": 33.02, "manga109": 32.48},
  "denoise:color,s15": {"cbsd68": 34.43, "mcmaster": 35.65, "urban100": 35.38},
  "denoise:color,s50": {"cbsd68": 28.60, "mcmaster": 30.38, "urban100": 30.51},
  "denoise:gray,s25": {"set12": 31.18, "bsd68": 29.52, "urban100": 31.87},
  "denoise:color": {"cbsd68_s15": 34.42, "cbsd68_s25": 31.78},
  "denoise:gray": {"set12_s15": 33.47, "set12_s50": 28.12},
  "jpeg:gray,q10": {"classic5": 30.36, "live1": 29.92},
  "jpeg:gray,q40": {"classic5": 34.57, "live1": 34.67},
  "jpeg:color,q20": {"live1": 30.61, "bsds500": 30.63},
  "jpeg:gray": {"classic5_q10": 30.26, "classic5_q40": 34.55},
  "jpeg:color": {"live1_q10": 28.19, "live1_q40": 32.81},
  "demosaic:": {"kodak24": 43.62, "mcmaster": 40.68},
  "deblur:": {"gopro": 33.44, "hide": 31.05},
  "weather:": {"test1": 29.57, "snow100k_l": 30.76, "raindrop": 30.82},
}


def _config(name, arg=""):
  return importlib.import_module(f"configs.{name}").get_config(arg)


def test_all_configs_are_tested():
  files = pathlib.Path(base.__file__).parent.glob("[!_]*.py")
  there, ours = {path.stem for path in files}, set(VARIANTS)
  tracked = subprocess.run(
    ["git", "ls-files", "--", *map(str, pathlib.Path("configs").glob("*.py"))],
    capture_output=True,
    text=True,
  ).stdout.split()
  if tracked:  # what a user has added is not ours
    there &= {pathlib.Path(name).stem for name in tracked}
  assert there == ours == set(STEPS)


def _nodes(config: ConfigDict) -> Iterator[ConfigDict]:
  """A config and all configs in it, as often as they stand there."""
  yield config
  for value in config.values():
    for part in value if isinstance(value, tuple) else (value,):
      if isinstance(part, ConfigDict):
        yield from _nodes(part)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_option_for_one_place_reaches_no_other(name):
  for words in itertools.product(*VARIANTS[name]):
    arg = ",".join(words)
    configs = _config(name, arg), _config(name, arg)
    nodes = [id(node) for config in configs for node in _nodes(config)]
    assert len(set(nodes)) == len(nodes), arg


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_builds(name):
  for words in itertools.product(*VARIANTS[name]):
    config = _config(name, ",".join(words))
    model = build.make_model(config.model)
    setup.make_step(config, model, small.one_device_mesh())
    assert model.max_keys >= model.num_keys
    scale = 1
    if config.data.degradation:
      scale = degradations.make(**config.data.degradation.to_dict()).scale
    assert scale == model.scale
    assert model.in_channels == model.out_channels == config.data.channels
    if "demo" not in words:
      one_cpu = name in ("pretrained", "ablation")
      phases.make_phases(config, 1 if one_cpu else 8)
      # Or every patch would be padded.
      assert config.data.patch_size % (scale * model.size_multiple) == 0
    if config.schedule.name == "multistep":
      assert max(config.schedule.milestones) < config.train.num_steps
    for options in config.eval.sets.values():
      assert options.channels == config.data.channels
      if options.degradation:
        degradations.make(**options.degradation.to_dict())


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """The training folders of docs/data.md, with one tiny image each."""
  root = tmp_path_factory.mktemp("data")
  rng = np.random.default_rng(0)
  singles = ("div2k", "flickr2k", "wed", "bsds500/train", "bsds500/test")
  singles += ("photos/train",)
  pairs = ("gopro/train", "realblur_j/train", "realblur_r/train", "allweather")
  folders = [
    *singles,
    *(f"{p}/{s}" for p in pairs for s in ("input", "target")),
  ]
  for folder in folders:
    (root / folder).mkdir(parents=True)
    pixels = rng.integers(0, 256, (70, 66, 3), np.uint8)
    Image.fromarray(pixels).save(root / folder / "0001.png")
  return root


@pytest.fixture(scope="module")
def steps():
  """Train step of a config, compiled once for all configs that share it.

  The state is filled by numpy: compiling the initialisation takes longer.
  """

  @functools.cache
  def step_and_state(text):
    config = base.ConfigDict(json.loads(text))
    model = build.make_model(config.model)
    step, init = setup.make_step(config, model, small.one_device_mesh())
    rng = np.random.default_rng(0)

    def filled(leaf):
      if leaf.dtype == np.float32:
        return rng.uniform(0.01, 0.1, leaf.shape).astype(np.float32)
      return np.zeros(leaf.shape, leaf.dtype)

    return jax.jit(step), jax.tree.map(filled, jax.eval_shape(init))

  return step_and_state


@pytest.mark.parametrize(
  "name, arg", [(name, arg) for name, args in STEPS.items() for arg in args]
)
def test_one_step_changes_the_parameters(name, arg, data_dir, steps):
  config = _config(name, f"{arg},smoke").unlock()
  config.data.data_dir = str(data_dir)
  phase = phases.make_phases(config, 1)[0]
  batches = data.make_data(config, data.open_train_sources(config), phase)
  batch = next(batches)
  assert batch["hq"].shape[:2] == (phase.batch_size, phase.patch_size)
  batches.close()
  groups = ("model", "train", "loss", "optimizer", "schedule", "seed")
  fields = {key: config.to_dict()[key] for key in groups}
  step, before = steps(json.dumps(fields, sort_keys=True))
  state, metrics = step(before, batch)
  assert np.isfinite(metrics["loss"]) and metrics["skipped"] == 0
  assert int(state.step) == 1
  changed = [
    bool((a != b).any())
    for a, b in zip(
      jax.tree.leaves(before.params), jax.tree.leaves(state.params), strict=True
    )
  ]
  assert np.mean(changed) > 0.9


@pytest.mark.parametrize("config", PUBLISHED)
def test_published_figures_stand_in_the_configs(config):
  name, _, arg = config.partition(":")
  sets = _config(name, arg).eval.sets
  found = {key: sets[key].published for key in PUBLISHED[config]}
  assert found == PUBLISHED[config]


@pytest.mark.parametrize("word", ["stored", "truncated"])
def test_noise_in_files_is_of_every_set_and_is_not_the_papers(word):
  for arg in (word, f"gray,s25,{word}", f"demo,{word}"):
    config = _config("denoise", arg)
    sets = config.eval.sets.values()
    down = "down" if word == "truncated" else "nearest"
    for options in (config.data.degradation, *(s.degradation for s in sets)):
      assert options.stored == 1
      assert options.get("rounding", "nearest") == down
    assert not any(options.published for options in sets)
  plain = _config("denoise").data.degradation
  assert "stored" not in plain and "rounding" not in plain
  tested = _config("denoise", f"s25,{word}").eval.sets.cbsd68.degradation
  assert tested.channel_order == ("rgb" if word == "truncated" else "bgr")


_WEATHER = ("rain_veil", "rain", "rain_thin", "snow", "raindrop", "haze")
_BLUR = ("blur_10", "blur_20", "blur_regions", "blur_lights")
# Pairs, and how many there are.
_SAMPLES = {
  "gopro_samples": 4,
  "reds_samples": 12,
  "outdoor_rain_samples": 4,
  "rain200l_samples": 3,
  "raindrop_samples": 4,
}


@pytest.mark.parametrize(
  ("name", "arg", "forms", "samples"),
  [
    ("deblur", "synthetic", (*_BLUR, "clean"), tuple(_SAMPLES)[:2]),
    ("weather", "synthetic", (*_WEATHER, "clean"), tuple(_SAMPLES)[2:]),
    ("all_in_one", "outdoor", (*_BLUR, *_WEATHER, "clean"), tuple(_SAMPLES)),
  ],
)
def test_synthetic_forms_are_fixed_and_measured_beside_real_pairs(
  name, arg, forms, samples
):
  config = _config(name, arg)
  sets = config.eval.sets
  pictures = {key for key in sets if key.startswith("photos_")}
  assert pictures == {f"photos_{form}" for form in forms}
  for key in pictures:
    options = sets[key]
    assert (options.source, options.num_images) == ("photos/val", 24)
    assert options.center_crop_px == 256 and options.validate
    for share in ("blur", "streaks", "veil", "lights", "jpeg"):
      assert options.degradation.get(share, 1.0) in (0.0, 1.0)
    for value in options.degradation.values():  # a form, no range
      assert (
        not isinstance(value, tuple)
        or value[0] == value[-1]
        or (key == "photos_blur_regions" and value == (10.0, 20.0))
      )
  assert {key for key in sets if "samples" in key} == set(samples)
  for key in samples:
    assert (sets[key].source, sets[key].num_images) == (key, _SAMPLES[key])
    assert not sets[key].degradation and not sets[key].validate
    assert not sets[key].published
  assert config.data.dither == 1 and "photos/train" in config.data.train
  assert "bsds500/train" in config.data.train


def test_what_an_outdoor_network_learns():
  parts = _config("all_in_one", "outdoor").data.degradation
  shares = np.array(parts.weights) / sum(parts.weights)
  names = [part.name for part in parts.degradations]
  by_name = {
    name: sum(s for s, n in zip(shares, names, strict=True) if n == name)
    for name in names
  }
  np.testing.assert_allclose(by_name["motion_blur"], 1 / 6)
  assert by_name["rain"] > by_name["snow"] > by_name["haze"] > 0
  learned = _config("weather", "synthetic").data.degradation
  kinds = [
    (part.get("veil", 1.0), part.get("blur", 1.0))
    for part in learned.degradations
    if part.name == "rain"
  ]
  assert kinds == [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0)]  # veil, none, thin
  clean = [part for part in learned.degradations if part.name == "noise"]
  assert [part.sigma_255 for part in clean] == [(0.0, 0.0)]
  assert len(_config("all_in_one").data.degradation.degradations) == 3


def test_deblurring_states_the_published_ssim():
  sets = _config("deblur").eval.sets
  assert (sets.gopro.published_ssim, sets.hide.published_ssim) == (0.964, 0.941)


@pytest.mark.parametrize(
  "name, arg",
  [
    ("all_in_one", ""),
    ("all_in_one", "outdoor"),
    ("deblur", ""),
    ("deblur", "synthetic"),
    ("demosaic", ""),
    ("denoise", "color"),
    ("denoise", "demo"),
    ("denoise", "gray"),
    ("jpeg", "color"),
    ("jpeg", "color,q10"),
    ("jpeg", "gray"),
    ("sr", ""),
    ("weather", ""),
    ("weather", "synthetic"),
    *(("pretrained", network) for network in pretrained.NETWORKS),
  ],
)
def test_no_network_trains_on_its_test_images(name, arg):
  config = _config(name, arg)
  tested = {options.source for options in config.eval.sets.values()}
  assert tested and not tested & set(config.data.train)


@pytest.mark.parametrize("name, gray", [("jpeg", "y"), ("denoise", "rgb2gray")])
def test_gray_of_a_task_is_the_same_everywhere(name, gray):
  config = _config(name, "gray")
  tested = {options.gray for options in config.eval.sets.values()}
  assert tested == {config.data.gray} == {gray}


def test_lr_files_are_pairs_as_they_are():
  options = _config("sr", "x4,lr_files").eval.sets.set5
  assert options.source == "set5/lr_bicubic/x4,set5/hr"
  assert not options.degradation


# Side of the patches that a size of the U pads, px, to what.
@pytest.mark.parametrize(
  ("size", "padded"),
  [
    ("U", {160: 256, 192: 256, 320: 384}),
    ("U_light", {160: 192}),
    ("U_tiny", {}),
  ],
)
def test_deblurring_has_restormers_phases_and_says_what_it_pads(size, padded):
  config = _config("deblur", size)
  assert config.train.progressive == (
    (92_000, 128, 64),
    (64_000, 160, 40),
    (48_000, 192, 32),
    (36_000, 256, 16),
    (36_000, 320, 8),
    (24_000, 384, 8),
  )
  assert config.train.num_steps == 300_000
  schedule = config.schedule
  assert (schedule.name, schedule.hold_steps) == ("cosine", 92_000)
  assert (schedule.peak, schedule.final) == (3e-4, 1e-6)
  multiple = build.make_model(config.model).size_multiple
  sides = {
    side: -(-side // multiple) * multiple
    for _, side, _ in config.train.progressive
  }
  assert {k: v for k, v in sides.items() if k != v} == padded
  if size == "U":
    # As the docstring has them.
    rows = config.train.progressive
    computed = sum(n * b * sides[p] ** 2 for n, p, b in rows)
    assert round(computed / sum(n * b * p**2 for n, p, b in rows), 1) == 1.5
    areas = [b * sides[p] ** 2 for _, p, b in rows]
    assert max(areas) == areas[1] == 2.5 * areas[0]


def test_smoke_has_phases_where_the_recipe_has():
  config = _config("deblur", "smoke")
  assert config.train.progressive == ((2, 16, 8), (2, 24, 8))
  assert config.train.num_steps == 4


@pytest.mark.parametrize(
  ("name", "arg", "steps", "milestones"),
  [
    ("sr", "x4", 250_000, (125_000, 200_000, 225_000, 237_500)),
    ("denoise", "s25", 800_000, (400_000, 600_000, 700_000, 750_000)),
    ("jpeg", "q10", 800_000, (400_000, 600_000, 700_000, 750_000)),
  ],
)
def test_fine_tuning_has_half_of_the_recipe(name, arg, steps, milestones):
  config = _config(name, f"{arg},finetune")
  assert config.train.num_steps == steps
  assert config.schedule.milestones == milestones
  assert config.schedule.peak == 1e-4
  # Looked for there: without a checkpoint the run does not start.
  start = {"sr": "sr_x2", "denoise": "denoise_s15", "jpeg": "jpeg_q40"}[name]
  assert config.init_from == f"runs/{start}"
  assert _config(name, arg).init_from == ""


@pytest.mark.parametrize("name", VARIANTS)
def test_every_config_states_the_form_of_its_loss(name):
  loss = _config(name).loss
  if name in ("sr", "deblur"):
    assert loss.name == "l1"
  else:
    # GRL's; of photo our choice.
    assert (loss.name, loss.form, loss.epsilon) == (
      "charbonnier",
      "squared",
      1e-3,
    )
  assert loss.fft_weight == 0


def test_smoke_needs_no_download_but_for_pairs():
  for name in ("denoise", "jpeg", "sr", "demosaic", "all_in_one"):
    assert _config(name, "smoke").data.train == ("photographs:train",)
  for name in ("deblur:synthetic", "weather:synthetic", "all_in_one:outdoor"):
    config = _config(*f"{name},smoke".split(":"))
    assert config.data.train == ("photographs:train",)
  for name in ("deblur", "weather"):
    assert _config(name, "smoke").data.train == _config(name, "").data.train


def test_smoke_wins_wherever_it_stands():
  for arg in ("x4,finetune,smoke", "smoke,x4,finetune"):
    assert _config("sr", arg).train.num_steps == 4


def test_words_that_exclude_each_other_are_refused():
  with pytest.raises(ValueError, match="x2 and x4 exclude each other"):
    _config("sr", "x2,x4")


def test_unknown_word_names_the_nearest():
  with pytest.raises(ValueError, match="unknown variant 'colour'.*'color'"):
    _config("jpeg", "colour,q10")


def test_random_k_is_the_papers():
  config = _config("denoise", "color,s25,random_k")
  assert config.train.random_num_keys == (64, 128, 192, 256, 384, 512)


@pytest.mark.parametrize(
  ("name", "arg"),
  [
    ("denoise", "color,s25,random_k,smoke"),
    ("pretrained", "sr_x2_light,smoke"),
  ],
)
def test_smoke_draws_k_too(name, arg):
  config = _config(name, arg)
  assert config.train.random_num_keys == (1, 2, 3, 4, 6, 8)
  assert max(config.train.random_num_keys) <= config.model.max_keys
  assert _config("denoise", "smoke").train.random_num_keys == ()
