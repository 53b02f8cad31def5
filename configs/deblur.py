"""Motion deblurring: trained on GoPro, measured on GoPro and HIDE.

Published (SemanIR, U shape), PSNR / SSIM: GoPro 33.44 / 0.964, HIDE 31.05 /
0.941. The network did not train on HIDE. SSIM is MATLAB's of an RGB array, with
a 3-D window.

Recipe: Restormer's (Deblurring_Restormer.yml, 8 GPUs): 300 k steps in phases of
growing patches and shrinking batches, AdamW, gradient norm at most 0.01, L1,
3e-4 for 92 k steps and then a cosine to 1e-6. The moving average is ours.
The batches of the last phases split over at most 8 devices. U pads patches to
multiples of 128 px: 160 and 192 px to 256, and 320 px to 384. That makes 1.5
times the arithmetic of the run, and the second phase computes 2.5 times the
pixels of the first. U_light pads 160 px to 192, U_tiny pads nothing. These
flags train in one phase instead, Restormer's fourth:
--config.train.progressive="()" --config.data.patch_size=256
--config.train.batch_size=16.

`synthetic` needs no pairs: photographs are blurred while training
(`degradations.MotionBlur`), and an eighth of the patches stays clean. The tests
are fixed blurs of `photos/val`, `clean` pictures, which should come back
unchanged, and the few real pairs of `gopro_samples` (4) and `reds_samples`
(12). A network that learned from synthetic blur may make GoPro's frames worse,
as DeblurGAN did.

  python train.py --config=configs/deblur.py --config.data.data_dir=data \
    --workdir=runs/deblur
  python eval.py --config=configs/deblur.py --data_dir=data \
    --workdir=runs/deblur
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import base
from configs._smoke import SMOKE

_SIZES = ("U", "U_light", "U_tiny")
_SETS = ("gopro", "realblur_j", "realblur_r", "synthetic")
# Steps, patch side in px, batch size.
_PHASES = (
  (92_000, 128, 64),
  (64_000, 160, 40),
  (48_000, 192, 32),
  (36_000, 256, 16),
  (36_000, 320, 8),
  (24_000, 384, 8),
)
# What a training patch of `synthetic` goes through, unless it stays CLEAN, and
# what the tests are.
TRAINING: Mapping[str, Any] = {
  "name": "motion_blur",
  "length_px": (2.0, 25.0),
  "jitter": (0.02, 0.08),
}
CLEAN: Mapping[str, Any] = {"name": "noise", "sigma_255": (0.0, 0.0)}
_FORM: Mapping[str, Any] = {
  **TRAINING,
  "jitter": (0.05, 0.05),
  "border_px": (16.0, 16.0),
  "lights": 0.0,
  "read_255": (1.0, 1.0),
  "shot_255": (2.0, 2.0),
  "jpeg": 0.0,
}
FORMS: Mapping[str, Mapping[str, Any]] = {
  "blur_10": _FORM | {"length_px": (10.0, 10.0), "regions": (1, 1)},
  "blur_20": _FORM | {"length_px": (20.0, 20.0), "regions": (1, 1)},
  "blur_regions": _FORM | {"length_px": (10.0, 20.0), "regions": (4, 4)},
  "blur_lights": _FORM
  | {"length_px": (20.0, 20.0), "regions": (1, 1)}
  | {"lights": 1.0, "light": (4.0, 4.0)},
  "clean": CLEAN,
}


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: U (default), U_light, U_tiny; gopro (default), realblur_j,
  realblur_r (train and measure on RealBlur; without the alignment of its
  authors' metric, so comparable among runs of this project only), synthetic;
  random_k; smoke.
  """
  size = base.choose(arg, *_SIZES)
  kind = base.choose(arg, *_SETS)
  config = base.get_config().unlock()
  config.model = base.model_options(size)
  config.data.degradation = {}
  _, config.data.patch_size, config.train.batch_size = _PHASES[0]
  config.data.train = (f"{kind}/train",)
  config.train.progressive = _PHASES
  config.train.num_steps = sum(steps for steps, _, _ in _PHASES)
  config.loss.name = "l1"
  config.optimizer.grad_clip_norm = 0.01
  config.schedule.name = "cosine"
  config.schedule.peak = 3e-4
  config.schedule.hold_steps = 92_000
  if kind == "gopro":
    gopro = base.benchmark("gopro", {}, published=33.44, published_ssim=0.964)
    hide = base.benchmark("hide", {}, published=31.05, published_ssim=0.941)
    config.eval.sets = {"gopro": gopro, "hide": hide}
  elif kind == "synthetic":
    config.data.degradation = ConfigDict(
      {
        "name": "mixture",
        "degradations": (ConfigDict(TRAINING), ConfigDict(CLEAN)),
        "weights": (7.0, 1.0),
      }
    )
    base.train_on_photographs(config)
    config.eval.sets = {
      f"photos_{form}": base.photos_val(degradation)
      for form, degradation in FORMS.items()
    }
    for name in ("gopro_samples", "reds_samples"):
      config.eval.sets[name] = base.samples(name)
  else:
    config.eval.sets = {kind: base.benchmark(kind, {})}
  config.eval.protocol.ssim = "3d"
  variants = dict.fromkeys(_SIZES + _SETS, {}) | {
    "smoke": SMOKE | {"train.progressive": ((2, 16, 8), (2, 24, 8))}
  }
  return base.apply_variants(config, arg, variants)
