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

  python train.py --config=configs/weather.py --config.data.data_dir=data \
    --workdir=runs/weather
  python eval.py --config=configs/weather.py --data_dir=data \
    --workdir=runs/weather
"""

from ml_collections import ConfigDict

from configs import base

_SIZES = ("U", "U_light", "U_tiny")

_PUBLISHED = {"test1": 29.57, "snow100k_l": 30.76, "raindrop": 30.82}


def get_config(arg: str = "") -> ConfigDict:
  """Builds the config.

  Variants: U (default), U_light, U_tiny; random_k; smoke.
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
  config.eval.protocol.channel = "y"
  config.eval.protocol.also = ("psnr_rgb",)
  return base.apply_variants(config, arg, dict.fromkeys(_SIZES, {}))
