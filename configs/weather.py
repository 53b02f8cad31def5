"""Rain with fog, snow and raindrops removed by one network (All-Weather).

Published (SemanIR, U shape), PSNR: Test1 (Outdoor-Rain) 29.57, Snow100K-L
30.76, RainDrop test-a 30.82. The paper's table mixes conventions; ours is
WeatherDiffusion's, PSNR on Y of BT.601, and RGB in a second column (protocols
3.6). Test images are resized by the benchmark's rule: longer side at most
1024 px, then both sides up to multiples of 16.

Recipe: patch, learning rate and the 200 epochs of 18,069 images of TransWeather
(train.py); batch 16 instead of 18, to split over devices. Loss, optimizer and
cosine are ours: AdamW and Charbonnier, sqrt(d^2 + (1e-3)^2), as in the other
tasks, where TransWeather has Adam, smooth L1 and a VGG term.

`synthetic` needs no pairs: photographs get rain, snow, drops or haze while
training (semanir_jax/degradations), and the tests are fixed forms on
`photos/val` beside the few real pairs of `outdoor_rain_samples` (4),
`rain200l_samples` (3) and `raindrop_samples` (4). A seventh of the patches is
clean: without it, and without thin rain, a network took 8 dB from Rain200L.

  python train.py --config=configs/weather.py --config.data.data_dir=data \
    --workdir=runs/weather
  python eval.py --config=configs/weather.py --data_dir=data \
    --workdir=runs/weather
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import base

_SIZES = ("U", "U_light", "U_tiny")

_PUBLISHED = {"test1": 29.57, "snow100k_l": 30.76, "raindrop": 30.82}

_THIN: Mapping[str, Any] = {"name": "rain", "blur": 0.0, "veil": 0.0}
# What a training patch of `synthetic` goes through, and how often.
TRAINING: Mapping[str, tuple[Mapping[str, Any], float]] = {
  "rain_veil": ({"name": "rain"}, 2.0),
  "rain": ({"name": "rain", "veil": 0.0}, 1.0),
  "rain_thin": (
    _THIN
    | {
      "mean": (-2.4, -1.4),
      "zoom": (1.5, 4.0),
      "length_px": (15, 40),
      "angles": tuple(float(angle) for angle in range(60, 121, 5)),
      "strength": (0.5, 4.0),
    },
    1.0,
  ),
  "snow": ({"name": "snow"}, 1.5),
  "raindrop": ({"name": "raindrop"}, 1.5),
  "haze": ({"name": "haze"}, 1.0),
  "clean": ({"name": "noise", "sigma_255": (0.0, 0.0)}, 1.3),
}
_STREAKS: Mapping[str, Any] = {
  "name": "rain",
  "mean": (-0.9, -0.9),
  "variance": (0.85, 0.85),
  "zoom": (1.1, 1.1),
  "length_px": (40, 40),
  "angles": (80.0,),
}
_AIR: Mapping[str, Any] = {"beta": (3.6, 3.6), "air": (0.6, 0.6)}
# What the tests are.
FORMS: Mapping[str, Mapping[str, Any]] = {
  "rain_veil": _STREAKS | _AIR,
  "rain": _STREAKS | {"veil": 0.0},
  "rain_thin": _STREAKS
  | {"blur": 0.0, "veil": 0.0, "mean": (-1.9, -1.9), "zoom": (2.5, 2.5)}
  | {"length_px": (28, 28), "angles": (70.0,), "strength": (2.0, 2.0)},
  "snow": {"name": "snow", "coverage": (0.1, 0.1), "layers": (3, 3)}
  | {"angle": (75.0, 75.0), "white": (0.9, 0.9)},
  "raindrop": {"name": "raindrop", "drops": (200, 200)}
  | {"blur_px": (4.0, 4.0), "soft": (0.4, 0.4), "share": (0.5, 0.5)},
  "haze": {"name": "haze", "beta": (1.5, 1.5), "air": (0.75, 0.75)},
  "clean": TRAINING["clean"][0],
}
SAMPLES = ("outdoor_rain_samples", "rain200l_samples", "raindrop_samples")


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: U (default), U_light, U_tiny; synthetic; random_k; smoke.
  """
  size = base.choose(arg, *_SIZES)
  config = base.get_config().unlock()
  config.model = base.model_options(size)
  config.data.degradation = {}
  config.data.patch_size = 256
  config.data.train = ("allweather",)
  config.train.batch_size = 16
  config.train.num_steps = 226_000
  config.schedule.name = "cosine"
  config.eval.sets = {
    name: base.benchmark(name, {}, resize="all_weather", published=psnr)
    for name, psnr in _PUBLISHED.items()
  }
  if "synthetic" in arg.split(","):
    members, weights = zip(*TRAINING.values(), strict=True)
    config.data.degradation = ConfigDict(
      {
        "name": "mixture",
        "degradations": tuple(ConfigDict(member) for member in members),
        "weights": weights,
      }
    )
    base.train_on_photographs(config)
    config.eval.sets = {
      f"photos_{form}": base.photos_val(degradation)
      for form, degradation in FORMS.items()
    }
    for name in SAMPLES:
      config.eval.sets[name] = base.samples(name, resize="all_weather")
  config.eval.protocol.channel = "y"
  config.eval.protocol.also = ("psnr_rgb",)
  words = (*_SIZES, "synthetic")
  return base.apply_variants(config, arg, dict.fromkeys(words, {}))
