"""The networks in `pretrained/`: how each of them was trained, by its name.

The light ones in minutes each on one H200, several at a time, and five of them
for one to five hours on a CPU core; the tiny one in 50 minutes on a CPU core,
and in 75 and 150 those of files and photographs, which began as the colour
denoiser. All with random k, on the 398 images of BSDS500 train and test that
hold no test image (its `val` holds CBSD68; two of `train` are left out, see
docs/data.md); that of photographs on 261 others besides. pretrained/README.md
and its cards have scores and times, docs/history.md what else was tried. The
test sets are those of the task's own config, which `eval.py` is run with.

  python train.py --config=configs/pretrained.py:denoise_color_light \
    --config.data.data_dir=DATA --workdir=runs/denoise_color_light
  python -m semanir_jax.weights --checkpoint=runs/denoise_color_light \
    --output=pretrained/denoise_color_light.safetensors --dtype=float32

`further` goes on from the bundled file, as all the light ones but those of
files and photographs have done once (x2 and x4 twice, with other seeds and
steps; gray from the colour denoiser);
`make gpu_queue` does so with all of them, one after the other, while the time
of a GPU lasts.
"""

from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from configs import base, demosaic, denoise, jpeg, photo, sr
from configs._smoke import SMOKE

_RECIPE = {
  "data.train": ("bsds500/train", "bsds500/test"),
  "data.patch_size": 64,
  "schedule.name": "cosine",
  "eval.every_steps": 0,
  "log.every_steps": 50,
}
_TINY = {
  "train.batch_size": 4,
  "train.num_steps": 3_200,
  "train.ema_decay": 0.99,
  "schedule.peak": 2e-3,
  "schedule.warmup_steps": 100,
  "schedule.hold_steps": 1_900,
  "checkpoint.every_steps": 200,
}
# At a rate of 2e-3 the loss of the colour denoiser jumped to that of its noisy
# input, 0.08, between steps 300 and 350, and stayed there.
_LIGHT = {
  "model.dtype": "bfloat16",
  "data.num_workers": 4,
  "data.cache_gib": 4.0,
  "train.batch_size": 64,
  "train.num_steps": 1_500,
  "train.ema_decay": 0.999,
  "schedule.peak": 8e-4,
  "schedule.warmup_steps": 300,
  "schedule.hold_steps": 300,
  "optimizer.grad_clip_norm": 1.0,
  "checkpoint.every_steps": 1_000,
}
_FROM_DENOISER = _LIGHT | {"init_from": "denoise_color_light"}
# On one CPU core, with photographs besides.
_ONE_CORE = {
  "init_from": "denoise_color_light",
  "data.train": ("photos/train", "bsds500/train", "bsds500/test"),
  "data.patch_size": 128,
  "data.num_threads": 1,
  "data.cache_gib": 2.0,
  "train.batch_size": 2,
  "train.num_steps": 1_000,
  "train.ema_decay": 0.99,
  "optimizer.name": "muon",
  "optimizer.grad_clip_norm": 1.0,
  "schedule.peak": 6e-4,
  "schedule.warmup_steps": 50,
  "checkpoint.every_steps": 50,
  "log.every_steps": 25,
}

# The task's config, its variants, and what differs from it and from `_RECIPE`.
NETWORKS: dict[str, tuple[ModuleType, str, dict[str, Any]]] = {
  "denoise_color_light": (
    denoise,
    "color,blind,U_light,random_k",
    _LIGHT | {"train.num_steps": 6_000, "schedule.hold_steps": 2_000},
  ),
  "denoise_color_tiny": (denoise, "color,blind,U_tiny,random_k", _TINY),
  # Of noise that is clipped and rounded, which networks of papers never saw.
  "denoise_files_light": (
    denoise,
    "color,blind,U_light,stored,random_k",
    _FROM_DENOISER,
  ),
  "denoise_gray_light": (
    denoise,
    "gray,blind,U_light,random_k",
    _FROM_DENOISER | {"train.num_steps": 800, "schedule.hold_steps": 150},
  ),
  "jpeg_color_light": (jpeg, "color,blind,U_light,random_k", _FROM_DENOISER),
  # Of people's own files, on one CPU core.
  "photo_light": (
    photo,
    "U_light,random_k",
    _ONE_CORE | {"data.degradation.clean": 0.2},
  ),
  "demosaic_light": (demosaic, "U_light,random_k", _FROM_DENOISER),
  "sr_x2_light": (
    sr,
    "x2,light,random_k",
    _LIGHT
    | {
      "data.patch_size": 128,
      "train.batch_size": 16,
      "train.num_steps": 5_000,
      "schedule.peak": 1.5e-3,
      "schedule.warmup_steps": 200,
      "schedule.hold_steps": 2_000,
    },
  ),
  "sr_x4_light": (
    sr,
    "x4,light,random_k",
    _LIGHT
    | {
      "init_from": "sr_x2_light",
      "data.patch_size": 128,
      "train.batch_size": 32,
      "train.num_steps": 3_000,
      "schedule.peak": 1e-3,
      "schedule.warmup_steps": 200,
      "schedule.hold_steps": 800,
    },
  ),
}

# What a network that has learned takes: no rate that tears it down again; other
# crops and other noise than those of seed 0. Patches of 64 px gave the lowest
# level of the U a single window.
_FURTHER = {
  "seed": 3,  # no bundled network has seen its crops and its noise
  "data.patch_size": 128,
  "train.batch_size": 16,
  "optimizer.name": "muon",
  "schedule.peak": 8e-4,
  "schedule.warmup_steps": 100,
}
# The colours of BSDS500 hardly have detail, see data/augmentation.py.
_COLORFUL = {"data.shrink": (1.0, 2.0), "data.saturation": (1.0, 3.0)}
_FURTHER_BY_NAME: dict[str, dict[str, Any]] = {
  # Else it would forget the strong colours that its last trainings taught it.
  "denoise_color_light": _COLORFUL
  | {"train.num_steps": 3_600, "schedule.hold_steps": 1_400},
  "denoise_files_light": _COLORFUL
  | {"train.num_steps": 2_400, "schedule.hold_steps": 900},
  "denoise_gray_light": {
    "train.num_steps": 2_800,
    "schedule.hold_steps": 1_000,
  },
  # At quality 10 it is 0.1 dB short of 27.6, our aim on LIVE1. Most patches
  # begin a file, and the loss is the squared error: on a CPU, in one run each,
  # either gave whole files 0.01 dB. An H200 took 18.6 steps/s, so that it fits
  # a loan of ten minutes. No photograph has flat saturated colours.
  "jpeg_color_light": {
    "data.graphics": 0.1,
    "data.degradation.aligned": 0.75,
    "loss.name": "l2",
    "model.unroll": True,
    "train.batch_size": 32,
    "train.num_steps": 8_400,
    "schedule.hold_steps": 3_400,
  },
  "photo_light": {
    "train.num_steps": 4_000,
    "schedule.peak": 5e-4,
    "schedule.hold_steps": 1_600,
  },
  "demosaic_light": _COLORFUL
  | {"train.num_steps": 3_600, "schedule.hold_steps": 1_400},
  "sr_x2_light": {"train.num_steps": 2_400, "schedule.hold_steps": 900},
  "sr_x4_light": {
    "train.batch_size": 32,
    "train.num_steps": 1_800,
    "schedule.hold_steps": 600,
  },
}

# Another network, which starts from random values; few images, no workers.
_SMOKE = SMOKE | {
  "init_from": "",
  "data.patch_size": 32,
  "data.num_workers": 0,
}


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: a network, denoise_color_light by default; further; smoke.
  """
  name = base.choose(arg, *NETWORKS)
  task, words, changes = NETWORKS[name]
  config = task.get_config(words).unlock()
  config.update_from_flattened_dict(_RECIPE | changes)
  # Of colour JPEG's benchmark; the bundled networks learned from these images.
  for test_set in list(config.eval.sets):
    if config.eval.sets[test_set].source in config.data.train:
      del config.eval.sets[test_set]
  variants = dict.fromkeys(NETWORKS, {})
  further = _FURTHER | _FURTHER_BY_NAME.get(name, {}) | {"init_from": name}
  variants |= {"further": further, "smoke": _SMOKE}
  return base.apply_variants(config, arg, variants)
