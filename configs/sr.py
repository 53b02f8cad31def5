"""Super-resolution x2, x3, x4 (and x8) of bicubic low-resolution images.

Published (SemanIR, columnar, trained on DF2K), PSNR on Y of Set5, Set14,
BSD100, Urban100, Manga109:
S (11.87 to 12.05 M parameters): x2 38.57 34.99 32.65 34.86 40.45; x3 34.99
31.23 29.53 30.71 35.52; x4 33.02 29.29 27.96 28.34 32.48.
B (19.90 to 20.08 M parameters): x2 38.61 35.08 32.69 34.99 40.59; x3 35.03
31.29 29.54 30.87 35.60; x4 33.08 29.34 27.98 28.51 32.56.
Their SSIM looks like that of zero padding, which goes with rounded Y. Compare
it with our column "SSIM (zero_pad_y_rounded)", and their PSNR with both columns
(docs/protocols.md).

Recipe: SwinIR and HAT (KAIR train_swinir_sr_classical.json; HAT_SRx2): input
patches of 64 px, batch 32, 500 k steps, L1, Adam, moving average; 8 GPUs.
`light` and `tiny`: SwinIR's lightweight recipe, batch 64, DIV2K alone.
By default every scale trains from scratch (BasicSR SRx4_scratch). `finetune` is
how SwinIR (KAIR docs/README_SwinIR.md) and HAT train x3, x4 and x8: from an x2
network, in 250 k steps, with halved milestones and rate. Layers that only the
new upsampler has start anew. HAT's last milestone is 240 k, here 237.5 k.

  python eval.py --baseline --config=configs/sr.py:x4 --data_dir=data \
    --workdir=/tmp/bicubic
  python train.py --config=configs/sr.py:x4,S --config.data.data_dir=data \
    --workdir=runs/sr_x4
  python eval.py --config=configs/sr.py:x4,S --data_dir=data \
    --workdir=runs/sr_x4
  python train.py --config=configs/sr.py:x2,S --config.data.data_dir=data \
    --workdir=runs/sr_x2
  python train.py --config=configs/sr.py:x4,S,finetune \
    --config.init_from=runs/sr_x2 --config.data.data_dir=data \
    --workdir=runs/sr_x4_finetuned
"""

from ml_collections import ConfigDict

from configs import base
from configs._smoke import SMOKE

_SETS = ("set5", "set14", "bsd100", "urban100", "manga109")
_SCALES = ("x2", "x3", "x4", "x8")
_SIZES = ("S", "B", "light", "tiny")
_PUBLISHED = {
  ("S", 2): (38.57, 34.99, 32.65, 34.86, 40.45),
  ("S", 3): (34.99, 31.23, 29.53, 30.71, 35.52),
  ("S", 4): (33.02, 29.29, 27.96, 28.34, 32.48),
  ("B", 2): (38.61, 35.08, 32.69, 34.99, 40.59),
  ("B", 3): (35.03, 31.29, 29.54, 30.87, 35.60),
  ("B", 4): (33.08, 29.34, 27.98, 28.51, 32.56),
}


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: x2 (default), x3, x4, x8; S (default), B, light, tiny; finetune
  (from --config.init_from, runs/sr_x2 without it); lr_files (low-resolution
  test images from disk, as set5/lr_bicubic/x4, instead of made from set5/hr);
  random_k; smoke.
  """
  scale_word = base.choose(arg, *_SCALES)
  size = base.choose(arg, *_SIZES)
  scale = int(scale_word[1:])
  config = base.get_config().unlock()
  config.model = base.model_options(size, scale=scale)
  config.data.degradation = _bicubic(scale)
  config.data.patch_size = 64 * scale
  config.data.train = ("div2k", "flickr2k")
  config.train.batch_size = 32
  if size in ("light", "tiny"):
    config.data.train = ("div2k",)
    config.train.batch_size = 64
  config.train.num_steps = 500_000
  config.loss.name = "l1"
  config.optimizer.weight_decay = 0.0
  config.schedule.milestones = (250_000, 400_000, 450_000, 475_000)
  published = _PUBLISHED.get((size, scale), (0.0,) * len(_SETS))
  config.eval.sets = {
    name: base.benchmark(name, _bicubic(scale), published=psnr)
    for name, psnr in zip(_SETS, published, strict=True)
  }
  if "lr_files" in arg.split(","):
    for name, options in config.eval.sets.items():
      options.source = f"{name}/lr_bicubic/{scale_word},{name}/hr"
      options.degradation = {}
  config.eval.protocol.channel = "y"
  config.eval.protocol.crop_px = scale
  config.eval.protocol.also = ("psnr_y_rounded", "ssim_zero_pad_y_rounded")
  variants = dict.fromkeys((*_SCALES, *_SIZES, "lr_files"), {}) | {
    "finetune": base.finetune(config, "runs/sr_x2"),
    "smoke": SMOKE | {"data.patch_size": 8 * scale},
  }
  return base.apply_variants(config, arg, variants)


def _bicubic(scale: int) -> ConfigDict:
  """Makes the published test files: those of x8 were rounded only once."""
  rounding = "once" if scale == 8 else "per_pass"
  return ConfigDict({"name": "bicubic", "scale": scale, "rounding": rounding})
