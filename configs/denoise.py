"""Gaussian denoising: colour or gray, one sigma or blind.

Published (SemanIR, U shape, trained on DFWB), PSNR at sigma 15 / 25 / 50:
colour CBSD68 34.43 31.79 28.60, McMaster 35.65 33.43 30.38, Urban100 35.38
33.29 30.51; gray Set12 33.48 31.18 28.14, BSD68 31.97 29.52 26.53, Urban100
34.09 31.87 28.86. SwinIR trains sigma 15 for 1.6 M steps of batch 8 on 8 GPUs.

  python train.py --config=configs/denoise.py:color,s25 --workdir=runs/denoise
  python eval.py --config=configs/denoise.py:color,s25 --workdir=runs/denoise
"""

from ml_collections import ConfigDict

from configs import base

# PSNR by sigma; "blind" for one network of all sigmas.
_PUBLISHED = {
  "color": {
    "cbsd68": {15: 34.43, 25: 31.79, 50: 28.60},
    "mcmaster": {15: 35.65, 25: 33.43, 50: 30.38},
    "urban100": {15: 35.38, 25: 33.29, 50: 30.51},
  },
  "color,blind": {
    "cbsd68": {15: 34.42, 25: 31.78, 50: 28.57},
    "mcmaster": {15: 35.65, 25: 33.40, 50: 30.34},
    "urban100": {15: 35.37, 25: 33.26, 50: 30.41},
  },
  "gray": {
    "set12": {15: 33.48, 25: 31.18, 50: 28.14},
    "bsd68": {15: 31.97, 25: 29.52, 50: 26.53},
    "urban100": {15: 34.09, 25: 31.87, 50: 28.86},
  },
  "gray,blind": {
    "set12": {15: 33.47, 25: 31.16, 50: 28.12},
    "bsd68": {15: 31.95, 25: 29.49, 50: 26.54},
    "urban100": {15: 34.05, 25: 31.84, 50: 28.83},
  },
}
_IMAGES = {"cbsd68": 68, "mcmaster": 18, "urban100": 100, "set12": 12}


def get_config(arg: str = "") -> ConfigDict:
  """Variants: color (default), gray; blind (default: sigma 0 to 50), s15, s25,
  s50; U (default), U_light, U_tiny; demo; smoke.
  """
  config = base.get_config().unlock()
  config.model = base.model_options("U")
  words = arg.split(",")
  kind = "gray" if "gray" in words else "color"
  sigmas = [s for s in (15, 25, 50) if f"s{s}" in words]
  ends = (sigmas[0], sigmas[0]) if sigmas else (0, 50)
  config.data.degradation = base.noise(*map(float, ends))
  config.data.patch_size = 128
  config.data.train = ("div2k", "flickr2k", "wed", "bsd500")
  config.train.num_steps = 1_600_000
  config.schedule.milestones = (800_000, 1_200_000, 1_400_000, 1_500_000)
  config.eval.sets = _test_sets(kind, sigmas)
  if "demo" in words:
    config.eval.sets = {
      "photographs": base.test_set("photographs:test", base.noise(25.0))
    }
  return base.apply_variants(
    config,
    arg,
    base.size_variants("U", "U_light", "U_tiny")
    | {
      "color": {},
      "gray": base.GRAY | {"data.gray": "rgb2gray"},
      "blind": {},
      "s15": {},
      "s25": {},
      "s50": {},
      "demo": _DEMO,
    },
  )


# `make demo`: minutes on two CPU cores, on photographs inside our wheels.
_DEMO = base.size_variants("U_tiny")["U_tiny"] | {
  "data.train": ("photographs:train",),
  "data.patch_size": 48,
  "data.degradation.sigma_255": (25.0, 25.0),
  "train.batch_size": 4,
  "train.num_steps": 600,
  "train.ema_decay": 0.99,
  "schedule.name": "cosine",
  "schedule.peak": 2e-3,
  "schedule.warmup_steps": 20,
  "eval.every_steps": 300,
  "checkpoint.every_steps": 300,
  "log.every_steps": 50,
}


def _test_sets(kind: str, sigmas: list[int]) -> dict[str, ConfigDict]:
  """The paper's test sets; a blind network is measured at three sigmas."""
  published = _PUBLISHED[kind if sigmas else f"{kind},blind"]
  sets = {}
  for sigma in sigmas or (15, 25, 50):
    # SwinIR draws colour noise for BGR pixels.
    degradation = base.noise(float(sigma), channel_order="bgr")
    for name, figures in published.items():
      key = name if sigmas else f"{name}_s{sigma}"
      sets[key] = base.test_set(
        "cbsd68" if name == "bsd68" else name,
        degradation,
        channels=3 if kind == "color" else 1,
        gray="rgb2gray" if kind == "gray" else "",
        num_images=_IMAGES.get(name, 68),
        published=figures[sigma],
      )
  return sets
