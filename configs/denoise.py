"""Gaussian denoising: colour or gray, one sigma or blind.

Published (SemanIR, U shape, 25.82 M parameters, trained on DFWB), PSNR at sigma
15 / 25 / 50: colour CBSD68 34.43 31.79 28.60, McMaster 35.65 33.43 30.38,
Urban100 35.38 33.29 30.51; gray Set12 33.48 31.18 28.14, BSD68 31.97 29.52
26.53, Urban100 34.09 31.87 28.86. One blind network: colour CBSD68 34.42 31.78
28.57, gray Set12 33.47 31.16 28.12. Kodak24 is measured for other papers.

Recipe: patch, batch, steps, schedule and moving average are SwinIR's at sigma
15 (KAIR train_swinir_denoising_*.json, 8 GPUs). AdamW and Charbonnier,
sqrt(d^2 + (1e-3)^2), are GRL's; SwinIR has Adam and sqrt(d^2 + 1e-9). The patch
is one window of the lowest level of the U. By default every sigma trains from
scratch. `finetune` is how SwinIR trains sigma 25 and 50: from the network of
sigma 15, in half the steps, with halved milestones and rate.

`stored`: noise that is clipped and rounded to 8 bits, as a file holds it.
`truncated`: the noise of the all-in-one papers (PromptIR, AdaIR, MoCE-IR). It
is drawn for RGB, clipped, and cast to uint8, which rounds down; PSNR of the
unrounded result is printed too. docs/protocols.md has their figures.

  python eval.py --baseline --config=configs/denoise.py:color,s25 \
    --data_dir=data --workdir=/tmp/noisy
  python train.py --config=configs/denoise.py:color,s25 \
    --config.data.data_dir=data --workdir=runs/denoise
  python eval.py --config=configs/denoise.py:color,s25 --data_dir=data \
    --workdir=runs/denoise
  python train.py --config=configs/denoise.py:color,s15 \
    --config.data.data_dir=data --workdir=runs/denoise_s15
  python train.py --config=configs/denoise.py:color,s50,finetune \
    --config.init_from=runs/denoise_s15 --config.data.data_dir=data \
    --workdir=runs/denoise_s50
"""

from typing import Any

from ml_collections import ConfigDict

from configs import base

# PSNR at sigma 15, 25, 50; 0 where the paper has none.
_PUBLISHED = {
  "color": {
    "cbsd68": (34.43, 31.79, 28.60),
    "mcmaster": (35.65, 33.43, 30.38),
    "urban100": (35.38, 33.29, 30.51),
    "kodak24": (0.0, 0.0, 0.0),
  },
  "color,blind": {
    "cbsd68": (34.42, 31.78, 28.57),
    "mcmaster": (35.65, 33.40, 30.34),
    "urban100": (35.37, 33.26, 30.41),
    "kodak24": (0.0, 0.0, 0.0),
  },
  "gray": {
    "set12": (33.48, 31.18, 28.14),
    "bsd68": (31.97, 29.52, 26.53),
    "urban100": (34.09, 31.87, 28.86),
  },
  "gray,blind": {
    "set12": (33.47, 31.16, 28.12),
    "bsd68": (31.95, 29.49, 26.54),
    "urban100": (34.05, 31.84, 28.83),
  },
}
_COLORS = ("color", "gray")
_SIGMAS = ("s15", "s25", "s50")
_SIZES = ("U", "U_light", "U_tiny")
# How a noisy image is kept, by word: as it is, or as 8 bits.
_FILES: dict[str, dict[str, Any]] = {
  "unclipped": {},
  "stored": {"stored": True},
  "truncated": {"stored": True, "rounding": "down"},
}


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: color (default), gray; blind (default: sigma 0 to 50), s15, s25,
  s50; U (default), U_light, U_tiny; unclipped (default), stored (noise as 8-bit
  files hold it), truncated (cast to 8 bits); finetune (from --config.init_from,
  runs/denoise_s15 without it); demo; random_k; smoke.
  """
  color = base.choose(arg, *_COLORS)
  level = base.choose(arg, "blind", *_SIGMAS)
  size = base.choose(arg, *_SIZES)
  demo = "demo" in arg.split(",")
  stored = _FILES[base.choose(arg, *_FILES)]
  config = base.get_config().unlock()
  config.model = base.model_options("U_tiny" if demo else size)
  ends = (0.0, 50.0) if level == "blind" else (float(level[1:]),) * 2
  config.data.degradation = base.noise(*ends, **stored)
  config.data.patch_size = 128
  config.data.train = base.DFWB
  config.train.num_steps = 1_600_000
  config.schedule.milestones = (800_000, 1_200_000, 1_400_000, 1_500_000)
  config.eval.sets = _test_sets(color, level, stored)
  if demo:
    config.eval.sets = {
      "photographs": base.test_set(
        "photographs:test",
        base.noise(25.0, **stored),
        **_pixels(color),
      )
    }
  variants = dict.fromkeys(
    (*_COLORS, "blind", *_SIGMAS, *_SIZES, *_FILES), {}
  ) | {
    "truncated": {"eval.protocol.also": ("psnr_float",)},
    "gray": base.GRAY | {"data.gray": "rgb2gray"},
    "finetune": base.finetune(config, "runs/denoise_s15"),
    "demo": _DEMO,
  }
  return base.apply_variants(config, arg, variants)


# `make demo`: minutes on two CPU cores, on photographs inside our wheels.
_DEMO = {
  "data.train": ("photographs:train",),
  "data.patch_size": 48,
  "data.degradation.sigma_255": (25.0, 25.0),
  "train.batch_size": 4,
  "train.num_steps": 500,
  "train.ema_decay": 0.99,
  "schedule.name": "cosine",
  "schedule.peak": 2e-3,
  "schedule.warmup_steps": 20,
  "eval.every_steps": 250,
  "checkpoint.every_steps": 250,
  "log.every_steps": 50,
}


def _test_sets(
  color: str, level: str, stored: dict[str, Any]
) -> dict[str, ConfigDict]:
  """Describes the paper's test sets; of a blind network at three sigmas."""
  blind = level == "blind"
  sets = {}
  for index, sigma in enumerate(_SIGMAS):
    if not blind and sigma != level:
      continue
    # SwinIR draws colour noise for BGR pixels, PromptIR for RGB.
    order = "rgb" if "rounding" in stored else "bgr"
    degradation = base.noise(float(sigma[1:]), channel_order=order, **stored)
    for name, psnr in _PUBLISHED[f"{color},blind" if blind else color].items():
      sets[f"{name}_{sigma}" if blind else name] = base.benchmark(
        name,
        degradation,
        **_pixels(color),
        # The denoising papers use the middle of every Kodak image.
        center_crop_px=500 if name == "kodak24" else 0,
        published=0.0 if stored else psnr[index],
      )
  return sets


def _pixels(color: str) -> dict[str, Any]:
  """Returns how test images are read."""
  if color == "gray":
    return {"channels": 1, "gray": "rgb2gray"}
  return {"channels": 3}
