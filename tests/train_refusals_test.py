"""What training refuses or warns of before its first step."""

import pytest

from configs import base
from semanir_jax.training import loop, setup
from tests.train_cases import train_config

pytestmark = pytest.mark.slow


def test_a_phase_that_does_not_fit_is_found_before_the_first(
  photographs, tmp_path
):
  rows = ((2, 16, 8), (2, 24, 12))
  config = train_config(photographs, train__progressive=rows)
  with pytest.raises(ValueError, match="of devices, 8 .phase 1 of"):
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("none", "no checkpoint in .*none"),
    ("none.safetensors", "none.safetensors: there is no such file"),
  ],
)
def test_parameters_that_are_not_there_are_missed_at_once(
  photographs, tmp_path, name, message
):
  config = train_config(photographs, init_from=str(tmp_path / name))
  with pytest.raises(ValueError, match=message):
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_a_misspelt_bundled_network_is_named(photographs, tmp_path):
  config = train_config(photographs, init_from="denoise_color_tin")
  with pytest.raises(ValueError, match="did you mean 'denoise_color_tiny'"):
    loop.train_and_evaluate(config, str(tmp_path / "run"))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"seed": -1}, "seed=-1 must be at least 0"),
    ({"data__num_workers": -1}, "data.num_workers=-1 must be at least 0"),
    ({"data__cache_gib": -0.5}, "data.cache_gib=-0.5 must be at least 0"),
    ({"data__cache_gib": float("inf")}, "data.cache_gib=inf must be at least"),
    ({"train__accumulate": 0}, "train.accumulate=0 must be at least 1"),
    ({"optimizer__beta1": float("nan")}, "optimizer.beta1=nan must be at leas"),
    ({"optimizer__beta2": 1.0}, "optimizer.beta2=1.0 must be below 1"),
    ({"train__max_skipped": 0}, "train.max_skipped=0 must be at least 1"),
    ({"train__ema_decay": -0.1}, "train.ema_decay=-0.1 must be at least 0"),
    ({"train__ema_decay": 1.5}, "train.ema_decay=1.5 must be below 1"),
    ({"checkpoint__every_steps": -1}, "checkpoint.every_steps=-1 must be at"),
  ],
)
def test_a_number_that_means_nothing_is_refused(photographs, changes, message):
  with pytest.raises(ValueError, match=f"^config.{message}"):
    setup.make_plan(train_config(photographs, **changes))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"train__batch_size": 12}, "batch_size=12 must be a multiple of the num"),
    ({"mesh__fsdp": 3}, "mesh data=2 x fsdp=3 does not use the 8 devices"),
    ({"model__num_keys": 17}, r"num_keys=17 must lie in \[1, 16\]"),
    ({"model__max_keys": 17}, r"max_keys=17 must lie in \[1, 16\]"),
    ({"model__window_size": 1}, "window_size=1: a window needs 2 tokens"),
    ({"model__num_heads": 3}, "num_heads=3 must divide dim=8"),
    ({"model__num_heads": 0}, "num_heads=0"),
    ({"model__dtype": "float"}, "dtype must be 'float32' or 'bfloat16'"),
    ({"loss__name": "l3"}, "unknown config.loss.name 'l3'; use one of l1, l"),
    ({"schedule__name": "step"}, "unknown config.schedule.name 'step'"),
    ({"data__train": ("none",)}, "none: no such f"),
    ({"data__train": ()}, "at least one source"),
    ({"data__patch_size": 0}, "patch_size=0 must be"),
    ({"data__degradation__name": "fog"}, "unknown degradation 'fog'"),
  ],
)
def test_a_config_that_does_not_fit_leaves_nothing(
  photographs, tmp_path, changes, message
):
  workdir = tmp_path / "run"
  config = train_config(photographs, **changes)
  with pytest.raises(ValueError, match=message):
    loop.train_and_evaluate(config, str(workdir))
  assert not workdir.exists()


def test_a_test_set_that_does_not_fit_is_found_before_the_first_step(
  photographs, tmp_path
):
  config = train_config(photographs, eval__every_steps=2).unlock()
  config.eval.sets.ours.num_images = 3
  with pytest.raises(ValueError, match=r"ours \(test\) has 2 images"):
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("protocol.ssim", "valdi", "variant='valdi'"),
    ("sets.ours.degradation.sigma_255", (25.0, -1.0), "sigma_255"),
  ],
)
def test_a_mistake_in_the_evaluation_is_found_before_the_first_step(
  photographs, tmp_path, field, value, message
):
  config = train_config(photographs, eval__every_steps=2).unlock()
  config.update_from_flattened_dict({f"eval.{field}": value})
  with pytest.raises(ValueError, match=message):
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model__scale": 2}, "scale=2 must be that of config.data.degradation, 1"),
    ({"model__out_channels": 1}, "in_channels=3 and out_channels=1 must both "),
    ({"model__in_channels": 1}, "in_channels=1 and .* config.data.channels=3"),
  ],
)
def test_a_network_that_does_not_fit_the_images_is_refused_at_once(
  photographs, tmp_path, changes, message
):
  config = train_config(photographs, **changes)
  with pytest.raises(ValueError, match=f"^config.model.{message}"):
    setup.make_plan(config)


def test_a_test_set_that_the_run_learns_from_is_named(photographs, warnings):
  config = train_config(photographs, eval__every_steps=2).unlock()
  config.data.train = ("train", "test")
  setup.make_plan(config)
  (warning,) = [text for text in warnings if "trained on the images" in text]
  assert warning.startswith("ours: ")


def test_a_test_set_can_be_kept_from_choosing_a_checkpoint(photographs):
  config = train_config(photographs, eval__every_steps=2)
  assert [one.name for one in setup.make_plan(config).sets] == ["ours"]
  with config.unlocked():
    config.eval.sets.kept = base.test_set("test", base.noise(9), validate=False)
  assert [one.name for one in setup.make_plan(config).sets] == ["ours"]
