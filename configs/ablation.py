"""Describes the network of the ablations, small enough for runs on a CPU.

Colour denoising at sigma 25: two stages of four layers, window 8 (N = 64
tokens), k = N/2 as in the paper, trained on the 398 images of BSDS500 train
and test, measured on the middle of the CBSD68 images. docs/studies.md has the
results.

  python -m studies.ablation --config=configs/ablation.py \
    --config.data.data_dir=DATA --output=runs/ablation
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: smoke.
  """
  config = base.get_config().unlock()
  config.model = base.model_options(
    "tiny",
    scale=1,
    depths=(4, 4),
  )
  config.data.train = ("bsds500/train", "bsds500/test")
  config.data.degradation = base.noise(25.0)
  config.data.patch_size = 64
  config.train.batch_size = 1
  config.train.num_steps = 600
  config.train.ema_decay = 0.99
  config.schedule.name = "cosine"
  config.schedule.peak = 1e-3
  config.schedule.warmup_steps = 50
  config.schedule.hold_steps = 200
  config.eval.every_steps = 0
  config.eval.sets = {
    "cbsd68_middle": base.benchmark(
      "cbsd68", base.noise(25.0, channel_order="bgr"), center_crop_px=64
    )
  }
  config.checkpoint.every_steps = 600
  config.log.every_steps = 100
  return base.apply_variants(config, arg, {})
