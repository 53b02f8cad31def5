"""Recipes and protocols of the field, as its code has them.

Written from a list of those (sections 3 and 5.1 of the protocols.md that the
developers share), not from the configs; where a config departs, its docstring
says so, and so does a comment here.
"""

import importlib
from typing import Any

import pytest
from ml_collections import ConfigDict

pytestmark = pytest.mark.slow

# AdamW of GRL, and SwinIR's moving average, unless a recipe says otherwise.
COMMON = {
  "train.ema_decay": 0.999,
  "train.accumulate": 1,
  "optimizer.name": "adamw",
  "optimizer.beta1": 0.9,
  "optimizer.beta2": 0.999,
  "optimizer.epsilon": 1e-8,
  "optimizer.weight_decay": 1e-4,
  "optimizer.grad_clip_norm": 0.0,
  "schedule.name": "multistep",
  "schedule.peak": 2e-4,
  "schedule.factor": 0.5,
  "schedule.warmup_steps": 0,
  "loss.name": "charbonnier",
  "loss.form": "squared",
  "loss.epsilon": 1e-3,
  "loss.fft_weight": 0.0,
  "data.shrink": (1.0, 1.0),
  "data.saturation": (1.0, 1.0),
  "data.dither": 0,
  "data.graphics": 0.0,
}
SWINIR_SR = {
  "train.batch_size": 32,
  "train.num_steps": 500_000,
  "optimizer.weight_decay": 0.0,  # Adam
  "schedule.milestones": (250_000, 400_000, 450_000, 475_000),
  "loss.name": "l1",
  "data.train": ("div2k", "flickr2k"),
}
DFWB = ("div2k", "flickr2k", "wed", "bsds500/train", "bsds500/test")
SWINIR_RESTORATION = {
  "train.batch_size": 8,
  "train.num_steps": 1_600_000,
  "schedule.milestones": (800_000, 1_200_000, 1_400_000, 1_500_000),
  "data.patch_size": 128,
  "data.train": DFWB,
}
NOISE = {"name": "noise", "channel_order": "rgb"}
RECIPES: dict[str, dict[str, Any]] = {
  "sr:x2": SWINIR_SR | {"data.patch_size": 128},
  "sr:x3": SWINIR_SR | {"data.patch_size": 192},
  "sr:x4,B": SWINIR_SR
  | {
    "data.patch_size": 256,
    "data.degradation": {
      "name": "bicubic",
      "scale": 4,
      "rounding": "per_pass",
    },
  },
  # MATLAB's files of x8 are rounded once (protocols 2).
  "sr:x8": SWINIR_SR
  | {
    "data.patch_size": 512,
    "data.degradation": {"name": "bicubic", "scale": 8, "rounding": "once"},
  },
  "sr:x4,light": SWINIR_SR | {"train.batch_size": 64, "data.train": ("div2k",)},
  "denoise:color,s15": SWINIR_RESTORATION
  | {"data.degradation": NOISE | {"sigma_255": (15.0, 15.0)}},
  "denoise:color": SWINIR_RESTORATION
  | {"data.degradation": NOISE | {"sigma_255": (0.0, 50.0)}},
  "denoise:gray,s50": SWINIR_RESTORATION
  | {
    "data.degradation": NOISE | {"sigma_255": (50.0, 50.0)},
    "data.gray": "rgb2gray",
  },
  # Patches of one window of the lowest level, where SwinIR has 126.
  "jpeg:gray,q40": SWINIR_RESTORATION
  | {
    "data.degradation": {"name": "jpeg", "quality": (40, 40), "aligned": 0.0},
    "data.gray": "y",
  },
  # BSDS500's test images are a test set of colour JPEG.
  "jpeg:color": SWINIR_RESTORATION
  | {
    "data.degradation": {"name": "jpeg", "quality": (10, 40), "aligned": 0.0},
    "data.train": DFWB[:-1],
  },
  # 8 patches of 128 px where GRL has 32 of 64: as many pixels.
  "demosaic:": {
    "train.batch_size": 8,
    "train.num_steps": 1_000_000,
    "schedule.milestones": (400_000, 700_000, 850_000, 900_000, 950_000),
    "schedule.warmup_steps": 50_000,
    "data.patch_size": 128,
    "data.degradation": {"name": "demosaic"},
  },
  # Its phases have a test of their own, in configs_test.
  "deblur:": {
    "optimizer.grad_clip_norm": 0.01,
    "schedule.name": "cosine",
    "schedule.peak": 3e-4,
    "schedule.hold_steps": 92_000,
    "schedule.final": 1e-6,
    "loss.name": "l1",
    "data.degradation": {},
    "data.train": ("gopro/train",),
  },
  # 200 epochs of 18,069 images in batches of 16, TransWeather's has 18.
  "weather:": {
    "train.batch_size": 16,
    "train.num_steps": 226_000,
    "schedule.name": "cosine",
    "schedule.final": 1e-6,
    "data.patch_size": 256,
    "data.degradation": {},
    "data.train": ("allweather",),
  },
}


def _config(name: str) -> ConfigDict:
  module, _, arg = name.partition(":")
  return importlib.import_module(f"configs.{module}").get_config(arg)


def _field(config: ConfigDict, path: str) -> Any:
  for part in path.split("."):
    config = config[part]
  return config.to_dict() if isinstance(config, ConfigDict) else config


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_that_of_the_field(name):
  expected = COMMON | RECIPES[name]
  config = _config(name)
  assert {path: _field(config, path) for path in expected} == expected


# What a figure is measured on; SSIM's variants in `also` are columns more.
RGB = {
  "channel": "rgb",
  "crop_px": 0,
  "ssim": "valid",
  "psnr_b": False,
  "also": (),
}
Y_ROUNDED = ("psnr_y_rounded", "ssim_zero_pad_y_rounded")
PROTOCOLS: dict[str, dict[str, Any]] = {
  **{
    f"sr:x{scale}": RGB | {"channel": "y", "crop_px": scale, "also": Y_ROUNDED}
    for scale in (2, 3, 4, 8)
  },
  "denoise:color,s25": RGB,
  "denoise:gray": RGB,
  "denoise:color,s25,truncated": RGB | {"also": ("psnr_float",)},
  "jpeg:gray": RGB | {"psnr_b": True, "also": ("ssim_zero_pad",)},
  "jpeg:color,q10": RGB | {"psnr_b": True, "also": ("ssim_zero_pad",)},
  "demosaic:": RGB | {"crop_px": 10},
  "deblur:": RGB | {"ssim": "3d"},
  "weather:": RGB | {"channel": "y", "also": ("psnr_rgb",)},
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_that_of_the_field(name):
  assert _config(name).eval.protocol.to_dict() == PROTOCOLS[name]


# How test images are made, beside their degradation.
PLAIN = {
  "center_crop_px": 0,
  "crop_multiple": 1,
  "sides_px": (),
  "resize": "",
  "gray": "",
}
FORMS: dict[tuple[str, str], dict[str, Any]] = {
  ("sr:x4", "urban100"): PLAIN,
  ("denoise:color,s25", "cbsd68"): PLAIN,
  ("denoise:color,s25", "kodak24"): PLAIN | {"center_crop_px": 500},
  ("denoise:color", "kodak24_s50"): PLAIN | {"center_crop_px": 500},
  ("denoise:gray,s25", "bsd68"): PLAIN | {"gray": "rgb2gray"},
  ("jpeg:gray,q10", "live1"): PLAIN | {"gray": "y"},
  ("jpeg:color", "live1_q10"): PLAIN,
  # The paper's "Matlab" row has the whole images of Kodak.
  ("demosaic:", "kodak24"): PLAIN
  | {"crop_multiple": 8, "sides_px": (512, 768)},
  ("demosaic:", "mcmaster"): PLAIN | {"crop_multiple": 8},
  ("deblur:", "hide"): PLAIN,
  ("weather:", "snow100k_l"): PLAIN | {"resize": "all_weather"},
}


@pytest.mark.parametrize(("name", "set_name"), FORMS)
def test_test_images_have_the_form_of_the_field(name, set_name):
  options = _config(name).eval.sets[set_name]
  expected = FORMS[name, set_name]
  assert {key: options[key] for key in expected} == expected


def test_noise_of_colour_test_images_is_drawn_as_swinir_draws_it():
  for options in _config("denoise:color,s25").eval.sets.values():
    assert options.degradation.channel_order == "bgr"
