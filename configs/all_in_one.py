"""One colour network for noise, JPEG artifacts and mosaics.

The paper has no such network: its authors name one model for many degradations
as future work. So there is no published figure. Each example draws its
degradation: half of the examples have noise of sigma 0 to 50, a quarter JPEG of
quality 10 to 40, and a quarter an RGGB mosaic filled in by Malvar's filters.
Test sets are degraded as in the tasks' own configs. They are measured without a
border; configs/demosaic.py has a border of 10 px
(`--config.eval.protocol.crop_px=10` for that row).

`outdoor` adds the degradations, test forms and real pairs of
configs/deblur.py:synthetic and configs/weather.py:synthetic. A third of the
examples is as above, a sixth has motion blur, the rest has weather or is clean.
Patches are drawn from `photos/train` too.

The recipe is that of configs/denoise.py.

  python train.py --config=configs/all_in_one.py:U_light \
    --config.data.data_dir=data --workdir=runs/all
  python eval.py --config=configs/all_in_one.py:U_light --data_dir=data \
    --workdir=runs/all
"""

from typing import Any

from ml_collections import ConfigDict

from configs import base, deblur, weather

_SIZES = ("U", "U_light", "U_tiny")


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: U (default), U_light, U_tiny; outdoor; random_k; smoke.
  """
  size = base.choose(arg, *_SIZES)
  config = base.get_config().unlock()
  config.model = base.model_options(size)
  config.data.degradation = ConfigDict(
    {
      "name": "mixture",
      "degradations": (base.noise(0.0, 50.0), base.jpeg(10, 40), _malvar()),
      "weights": (2.0, 1.0, 1.0),
    }
  )
  config.data.patch_size = 128
  # Without BSDS500's test split, which colour JPEG is measured on.
  config.data.train = tuple(s for s in base.DFWB if s != "bsds500/test")
  config.train.num_steps = 1_600_000
  config.schedule.milestones = (800_000, 1_200_000, 1_400_000, 1_500_000)
  noise = base.noise(25.0, channel_order="bgr")
  config.eval.sets = {
    "cbsd68_s25": base.benchmark("cbsd68", noise),
    "live1_q10": base.benchmark("live1", base.jpeg(10, 10)),
    "mcmaster_mosaic": base.benchmark("mcmaster", _malvar(), crop_multiple=8),
  }
  if "outdoor" in arg.split(","):
    _add_outdoor(config)
  words = (*_SIZES, "outdoor")
  return base.apply_variants(config, arg, dict.fromkeys(words, {}))


def _add_outdoor(config: Any) -> None:
  """Adds motion blur and weather to what is learned and measured."""
  members, weights = zip(*weather.TRAINING.values(), strict=True)
  mixture = config.data.degradation
  # Before the others: of two with one name, the demo offers the last.
  mixture.degradations = (
    *(ConfigDict(member) for member in (deblur.TRAINING, *members)),
    *mixture.degradations,
  )
  # 2 of blur; 6 of weather; 4 of noise, JPEG and mosaics.
  parts = (6.0 * weight / sum(weights) for weight in weights)
  mixture.weights = (2.0, *parts, *mixture.weights)
  config.data.train += ("photos/train",)
  config.data.dither = 1  # levels of photos/train are multiples of 3
  for form, degradation in {**weather.FORMS, **deblur.FORMS}.items():
    config.eval.sets[f"photos_{form}"] = base.photos_val(degradation)
  for name in ("gopro_samples", "reds_samples"):
    config.eval.sets[name] = base.samples(name)
  for name in weather.SAMPLES:
    config.eval.sets[name] = base.samples(name, resize="all_weather")


def _malvar() -> ConfigDict:
  """Describes demosaicking of what Malvar's filters have filled in."""
  return ConfigDict({"name": "demosaic"})
