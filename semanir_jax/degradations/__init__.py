"""Degradations: clean image -> (network input, target), whole or by patch.

A degradation is a frozen dataclass of its options. Called with a random
generator and a clean uint8 image, it returns what the network gets (lq) and
what it should return (hq), both float32 with nominal range [0, 1]; lq is never
clipped. Neither the image nor any global random state is changed.
"""

from semanir_jax.degradations.base import Degradation, modcrop
from semanir_jax.degradations.bicubic import Bicubic
from semanir_jax.degradations.chain import Chain
from semanir_jax.degradations.haze import Haze
from semanir_jax.degradations.jpeg import Jpeg
from semanir_jax.degradations.mixture import Mixture
from semanir_jax.degradations.mosaic import Demosaic
from semanir_jax.degradations.motion_blur import MotionBlur
from semanir_jax.degradations.noise import GaussianNoise
from semanir_jax.degradations.patch import degrade_patch
from semanir_jax.degradations.photo import Photo
from semanir_jax.degradations.rain import Rain
from semanir_jax.degradations.raindrop import Raindrop
from semanir_jax.degradations.registry import make
from semanir_jax.degradations.snow import Snow

__all__ = [
  "Bicubic",
  "Chain",
  "Degradation",
  "Demosaic",
  "GaussianNoise",
  "Haze",
  "Jpeg",
  "Mixture",
  "MotionBlur",
  "Photo",
  "Rain",
  "Raindrop",
  "Snow",
  "degrade_patch",
  "make",
  "modcrop",
]
