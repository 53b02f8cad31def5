"""Removal of JPEG artifacts: gray or colour, one quality or blind.

Published (SemanIR, U shape, trained on DFWB), PSNR at quality 10 / 20 / 30 /
40: gray Classic5 30.36 32.58 33.77 34.57, LIVE1 29.92 32.28 33.69 34.67,
Urban100 31.15 33.51 34.84 35.75; colour LIVE1 28.31 30.61 31.94 32.85, BSDS500
28.37 30.63 31.96 32.88. One blind network: Classic5 30.26 32.52 33.74 34.55,
colour LIVE1 28.19 30.53 31.89 32.81.

Recipe: batch, steps, schedule and moving average are SwinIR's at quality 40
(KAIR train_swinir_car_jpeg.json, 8 GPUs). AdamW and Charbonnier,
sqrt(d^2 + (1e-3)^2), are GRL's; SwinIR has Adam and sqrt(d^2 + 1e-9). The patch
is 128 px, one window of the lowest level of the U; SwinIR has 126. By default
every quality trains from scratch. `finetune` is how SwinIR and ART
(train_ART_CAR_q10.yml) train quality 10 to 30: from the network of quality 40,
in 800 k steps, with halved milestones and rate. The colour variant is measured
on the test images of BSDS500, so it leaves them out of DFWB.

  python eval.py --baseline --config=configs/jpeg.py:gray,q10 --data_dir=data \
    --workdir=/tmp/jpeg
  python train.py --config=configs/jpeg.py:gray,q10 \
    --config.data.data_dir=data --workdir=runs/jpeg
  python eval.py --config=configs/jpeg.py:gray,q10 --data_dir=data \
    --workdir=runs/jpeg
  python train.py --config=configs/jpeg.py:gray,q40 \
    --config.data.data_dir=data --workdir=runs/jpeg_q40
  python train.py --config=configs/jpeg.py:gray,q10,finetune \
    --config.init_from=runs/jpeg_q40 --config.data.data_dir=data \
    --workdir=runs/jpeg_q10
"""

from ml_collections import ConfigDict

from configs import base

# PSNR at quality 10, 20, 30, 40; 0 where the paper's tables have none.
_PUBLISHED = {
  "gray": {
    "classic5": (30.36, 32.58, 33.77, 34.57),
    "live1": (29.92, 32.28, 33.69, 34.67),
    "urban100": (31.15, 33.51, 34.84, 35.75),
  },
  "gray,blind": {
    "classic5": (30.26, 32.52, 33.74, 34.55),
    "live1": (0.0, 0.0, 0.0, 0.0),
    "urban100": (0.0, 0.0, 0.0, 0.0),
  },
  "color": {
    "live1": (28.31, 30.61, 31.94, 32.85),
    "bsds500": (28.37, 30.63, 31.96, 32.88),
  },
  "color,blind": {
    "live1": (28.19, 30.53, 31.89, 32.81),
    "bsds500": (0.0, 0.0, 0.0, 0.0),
  },
}
_COLORS = ("gray", "color")
_SIZES = ("U", "U_light", "U_tiny")
_QUALITIES = ("q10", "q20", "q30", "q40")


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: gray (default), color; blind (default: quality 10 to 40), q10,
  q20, q30, q40; U (default), U_light, U_tiny; finetune (from
  --config.init_from, runs/jpeg_q40 without it); random_k; smoke.
  """
  color = base.choose(arg, *_COLORS)
  level = base.choose(arg, "blind", *_QUALITIES)
  size = base.choose(arg, *_SIZES)
  config = base.get_config().unlock()
  config.model = base.model_options(size)
  ends = (10, 40) if level == "blind" else (int(level[1:]),) * 2
  config.data.degradation = base.jpeg(*ends)
  config.data.degradation.aligned = 0.0  # share of patches that begin a file
  config.data.patch_size = 128
  config.data.train = base.DFWB
  if color == "color":
    config.data.train = tuple(s for s in base.DFWB if s != "bsds500/test")
  config.train.num_steps = 1_600_000
  config.schedule.milestones = (800_000, 1_200_000, 1_400_000, 1_500_000)
  config.eval.sets = _test_sets(color, level)
  config.eval.protocol.psnr_b = True
  config.eval.protocol.also = ("ssim_zero_pad",)
  if color == "gray":
    config.update_from_flattened_dict(base.GRAY | {"data.gray": "y"})
  variants = dict.fromkeys((*_COLORS, "blind", *_QUALITIES, *_SIZES), {}) | {
    "finetune": base.finetune(config, "runs/jpeg_q40")
  }
  return base.apply_variants(config, arg, variants)


def _test_sets(color: str, level: str) -> dict[str, ConfigDict]:
  """Describes the paper's test sets; of a blind network at four qualities."""
  blind = level == "blind"
  sets = {}
  for index, quality in enumerate(_QUALITIES):
    if not blind and quality != level:
      continue
    for name, psnr in _PUBLISHED[f"{color},blind" if blind else color].items():
      sets[f"{name}_{quality}" if blind else name] = base.benchmark(
        name,
        base.jpeg(*(int(quality[1:]),) * 2),
        channels=3 if color == "color" else 1,
        gray="y" if color == "gray" else "",
        published=psnr[index],
      )
  return sets
