"""Photographs as people have them: a sensor's noise in JPEG files, any colours.

No paper has this protocol. A chain of degradations is drawn for every patch
(`degradations.photo`). The tests are fixed forms of the chain, at three noise
levels each, on whole images of Kodak24 (768x512) and CBSD68, and on the middles
of `photos/val`:

  independent   noise in every value, clipped and rounded, as a PNG holds it
  jpeg90        the same, then JPEG of quality 90, 4:2:0
  jpeg75        the same, then JPEG of quality 75, 4:2:0
  shared        the same noise in R, G and B
  half_shared   half of its variance
  coarse        noise blurred by 0.7 px, scaled to the same standard deviation
  bayer         noise of an RGGB sensor's samples, interpolated

`clean` is the picture itself, which should come back unchanged. The target has
the sharpness of the input: the network does not learn to deblur.

  python train.py --config=configs/photo.py:U_light --workdir=runs/photo \
    --config.data.data_dir=data
  python eval.py --config=configs/photo.py:U_light --workdir=runs/photo \
    --data_dir=data
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import base

_SIZES = ("U", "U_light", "U_tiny")
_SIGMAS = (10, 25, 50)
_LEVELS = ("all", *(f"s{sigma}" for sigma in _SIGMAS))
_JPEG: Mapping[str, Any] = {"jpeg": 1.0, "subsampling": ("4:2:0",)}
# What each row of the tests adds to stored noise of a sigma.
FORMS: Mapping[str, Mapping[str, Any]] = {
  "independent": {},
  "jpeg90": _JPEG | {"quality": (90, 90)},
  "jpeg75": _JPEG | {"quality": (75, 75)},
  "shared": {"shared": (1.0, 1.0)},
  "half_shared": {"shared": (0.5, 0.5)},
  "coarse": {"coarse": 1.0, "coarse_px": (0.7, 0.7)},
  "bayer": {"bayer": 1.0},
}
# What a training patch goes through; fields of `Photo`.
TRAINING: Mapping[str, Any] = {
  "read_255": (1.0, 50.0),
  "shot_255": (1.0, 50.0),
  "shared": (0.0, 1.0),
  "bayer": 0.2,
  "coarse": 0.25,
  "coarse_px": (0.3, 0.8),
  "blur": 0.3,
  "blur_px": (0.0, 1.2),
  "deblur": False,
  "jpeg": 0.5,
  "quality": (30, 98),
  "subsampling": ("4:2:0", "4:2:2", "4:4:4"),
  "twice": 0.2,
  "gray": 0.1,
  "clean": 0.1,
}


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: U (default), U_light, U_tiny; all (default), s10, s25, s50 (tests of
  one sigma, and clean pictures); random_k; smoke.
  """
  level = base.choose(arg, *_LEVELS)
  config = base.get_config().unlock()
  config.model = base.model_options(base.choose(arg, *_SIZES))
  config.data.train = (*base.DFWB, "photos/train")
  config.data.dither = 1  # levels of photos/train are multiples of 3
  config.data.degradation = ConfigDict({"name": "photo"} | dict(TRAINING))
  config.data.patch_size = 128
  config.data.shrink = (1.0, 2.0)
  config.data.graphics = 0.05
  config.train.num_steps = 400_000
  config.schedule.milestones = (200_000, 300_000, 350_000, 375_000)
  config.eval.sets = {
    name: test_set
    for name, test_set in _test_sets().items()
    if level == "all" or name.endswith((f"_{level}", "_clean"))
  }
  variants = dict.fromkeys((*_SIZES, *_LEVELS), {})
  return base.apply_variants(config, arg, variants)


def stored_noise(sigma: float, form: str) -> ConfigDict:
  """Describes one of `FORMS` at a standard deviation of 0 to 255."""
  options = {"name": "photo", "read_255": (sigma, sigma)}
  return ConfigDict(options | dict(FORMS[form]))


def _test_sets() -> dict[str, ConfigDict]:
  """Describes every form on every test set."""
  rows = {"clean": stored_noise(0.0, "independent")}
  rows |= {
    f"{form}_s{sigma}": stored_noise(float(sigma), form)
    for form in FORMS
    for sigma in _SIGMAS
  }
  sets = {}
  for row, degradation in rows.items():
    for name in ("kodak24", "cbsd68"):
      sets[f"{name}_{row}"] = base.benchmark(name, degradation, validate=False)
    # Middles, so that validation while training takes its time from no step.
    sets[f"photos_{row}"] = base.test_set(
      "photos/val",
      degradation,
      num_images=24,
      center_crop_px=256,
      validate=row == "clean" or row.endswith("_s25"),
    )
  return sets
