"""Motion deblurring: trained on GoPro, measured on GoPro and HIDE.

Published (SemanIR, U shape), PSNR / SSIM: GoPro 33.44 / 0.964, HIDE 31.05 /
0.941, the latter without training on it. SSIM is MATLAB's of an RGB array, a
3-D window.

Recipe: optimizer, clipping, loss and 300 k steps of Restormer (Deblurring_
Restormer.yml, 8 GPUs). Its patch grows from 128 to 384 px; here it stays at its
fourth stage, 256 px and batch 16. Its learning rate is held for 92 k steps
before the cosine; here it falls from the start, and a moving average is kept.

  python train.py --config=configs/deblur.py --workdir=runs/deblur
  python eval.py --config=configs/deblur.py --data_dir=data \
    --workdir=runs/deblur
"""

from ml_collections import ConfigDict

from configs import base

_SIZES = ("U", "U_light", "U_tiny")
_SETS = ("gopro", "realblur_j", "realblur_r")


def get_config(arg: str = "") -> ConfigDict:
  """Variants: U (default), U_light, U_tiny; gopro (default), realblur_j,
  realblur_r (train and measure on RealBlur; without the alignment of its
  authors' metric, so comparable among runs of this project only); random_k;
  smoke.
  """
  size = base.choose(arg, *_SIZES)
  kind = base.choose(arg, *_SETS)
  config = base.get_config().unlock()
  config.model = base.model_options(size)
  config.data.degradation = {}
  config.data.patch_size = 256
  config.data.train = (f"{kind}/train",)
  config.train.batch_size = 16
  config.train.num_steps = 300_000
  config.loss.name = "l1"
  config.optimizer.grad_clip_norm = 0.01
  config.schedule.name = "cosine"
  config.schedule.peak = 3e-4
  if kind == "gopro":
    gopro = base.benchmark("gopro", {}, published=33.44, published_ssim=0.964)
    hide = base.benchmark("hide", {}, published=31.05, published_ssim=0.941)
    config.eval.sets = {"gopro": gopro, "hide": hide}
  else:
    config.eval.sets = {kind: base.benchmark(kind, {})}
  config.eval.protocol.ssim = "3d"
  return base.apply_variants(config, arg, dict.fromkeys(_SIZES + _SETS, {}))
