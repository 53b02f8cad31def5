"""Demosaicking of RGGB mosaics that Malvar's filters have filled in.

Published (SemanIR, U shape, trained on DFWB), PSNR: Kodak 43.62, McMaster
40.68. The paper's "Matlab" rows (Malvar alone: Kodak 35.78, McMaster 34.43) are
met with a border of 10 px and, for Kodak, the images of 768x512 px.

Recipe: steps, learning rate, loss (Charbonnier, sqrt(d^2 + (1e-3)^2)) and AdamW
are GRL's (config/experiment/dm/grl.yaml, 4 GPUs). GRL's warm-up starts at 1e-5,
ours at 0. GRL takes 32 patches of 64 px a step. This config takes 8 of 128 px,
as many pixels, because the lowest level of the U needs a whole window. GRL
trains on ImageNet, without a moving average.

  python eval.py --baseline --config=configs/demosaic.py --data_dir=data \
    --workdir=/tmp/malvar
  python train.py --config=configs/demosaic.py --config.data.data_dir=data \
    --workdir=runs/demosaic
  python eval.py --config=configs/demosaic.py --data_dir=data \
    --workdir=runs/demosaic
"""

from typing import Any

from ml_collections import ConfigDict

from configs import base

_SIZES = ("U", "U_light", "U_tiny")


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: U (default), U_light, U_tiny; random_k; smoke.
  """
  size = base.choose(arg, *_SIZES)
  config = base.get_config().unlock()
  config.model = base.model_options(size)
  config.data.degradation = _MALVAR
  config.data.patch_size = 128
  config.data.train = base.DFWB
  config.train.num_steps = 1_000_000
  config.schedule.milestones = (400_000, 700_000, 850_000, 900_000, 950_000)
  config.schedule.warmup_steps = 50_000
  config.eval.sets = {
    "kodak24": _test_set("kodak24", sides_px=(512, 768), published=43.62),
    "mcmaster": _test_set("mcmaster", published=40.68),
    "cbsd68": _test_set("cbsd68"),
    "urban100": _test_set("urban100"),
  }
  config.eval.protocol.crop_px = 10  # DPIR's, and the paper's "Matlab" rows'
  return base.apply_variants(config, arg, dict.fromkeys(_SIZES, {}))


def _test_set(name: str, **options: Any) -> ConfigDict:
  """Describes GRL's test form: sides cropped to multiples of 8."""
  return base.benchmark(name, _MALVAR, crop_multiple=8, **options)


_MALVAR = {"name": "demosaic"}
