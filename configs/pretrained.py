"""The networks in `pretrained/`: how each of them was trained, by its name.

Small budgets on a CPU: a batch of few patches, a high rate, random k, and the
398 images of BSDS500 train and test that hold no test image (its `val` holds
CBSD68; two of `train` are left out, see docs/data.md).
pretrained/README.md has scores, steps and hours; the test sets are those of the
task's own config, which `eval.py` is run with.

  python train.py --config=configs/pretrained.py:denoise_color_tiny \
    --config.data.data_dir=DATA --workdir=runs/denoise_color_tiny
  python -m semanir_jax.weights --checkpoint=runs/denoise_color_tiny \
    --output=pretrained/denoise_color_tiny.safetensors
"""

from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from configs import base, demosaic, denoise, jpeg, sr

_FROM_DENOISER = {"init_from": "denoise_color_tiny"}

# The task's config, its variants, and what differs from it and from `_RECIPE`.
NETWORKS: dict[str, tuple[ModuleType, str, dict[str, Any]]] = {
  "denoise_color_tiny": (
    denoise,
    "color,blind,U_tiny,random_k",
    {"train.num_steps": 3_200, "schedule.hold_steps": 1_900},
  ),
  "denoise_gray_tiny": (
    denoise,
    "gray,blind,U_tiny,random_k",
    _FROM_DENOISER,
  ),
  "jpeg_color_tiny": (jpeg, "color,blind,U_tiny,random_k", _FROM_DENOISER),
  "demosaic_tiny": (demosaic, "U_tiny,random_k", _FROM_DENOISER),
  "sr_x2_tiny": (
    sr,
    "x2,tiny,random_k",
    {
      "train.batch_size": 8,
      "train.num_steps": 2_200,
      "schedule.hold_steps": 1_000,
    },
  ),
  "sr_x4_tiny": (
    sr,
    "x4,tiny,random_k",
    {
      "init_from": "sr_x2_tiny",
      "data.patch_size": 128,
      "train.batch_size": 8,
    },
  ),
}

_RECIPE = {
  "data.train": ("bsds500/train", "bsds500/test"),
  "data.patch_size": 64,
  "train.batch_size": 4,
  "train.num_steps": 1_000,
  "train.ema_decay": 0.99,
  "schedule.name": "cosine",
  "schedule.peak": 2e-3,
  "schedule.warmup_steps": 100,
  "schedule.hold_steps": 300,
  "eval.every_steps": 0,
  "checkpoint.every_steps": 200,
  "log.every_steps": 50,
}

# Another network, which starts from random values.
_SMOKE = base.SMOKE | {"init_from": "", "data.patch_size": 32}


def get_config(arg: str = "") -> ConfigDict:
  """Variants: the name of a network, denoise_color_tiny by default; smoke."""
  name = base.choose(arg, *NETWORKS)
  task, words, changes = NETWORKS[name]
  config = task.get_config(words).unlock()
  config.update_from_flattened_dict(_RECIPE | changes)
  variants = dict.fromkeys(NETWORKS, {}) | {"smoke": _SMOKE}
  return base.apply_variants(config, arg, variants)
