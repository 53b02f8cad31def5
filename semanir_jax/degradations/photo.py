"""What a photograph has been through: blur, a sensor's noise, JPEG.

Noise that is independent in every value is what papers add. In a file of a
camera it grows with the light, was made one sample a pixel and interpolated, is
smoothed, is common to the channels (grain, black-and-white film), clipped,
rounded and compressed; a network that has seen none of this leaves all of it.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from semanir_jax.degradations import bayer
from semanir_jax.degradations.base import (
  Context,
  Pair,
  Rng,
  check_interval,
  check_log_interval,
  check_share,
  draw_integer,
  draw_uniform,
  ends,
  happens,
)
from semanir_jax.degradations.camera import (
  UNIT_PX,
  compress,
  draw_deviation,
  draw_phases,
  round_to_uint8,
)
from semanir_jax.degradations.filters import correlate, gaussian_kernel, radius
from semanir_jax.images.color import check_uint8, to_luma

_Interval = float | tuple[float, float]
_NEARLY_CLEAN_255 = 2.0
_SUBSAMPLINGS = ("4:2:0", "4:2:2", "4:4:4")


@dataclasses.dataclass(frozen=True)
class Photo:
  """Degrades a clean image as a camera and its files do.

  The order is blur, noise, clipping and rounding to 8 bits, JPEG. Noise is
  Gaussian with the variance of photons and electronics: of a value x in 0 to
  255, shot_255^2 x / 255 + read_255^2. Options that are off draw nothing, so
  that `Photo(25.0)` has the noise of `GaussianNoise(25.0, stored=1.0)` for a
  seed.

  Attributes:
    read_255: standard deviation of the noise that is the same everywhere, on
      the 0 to 255 scale; one number, or (low, high), low above 0, to draw its
      logarithm uniformly.
    shot_255: that of photons where a value is 255; as `read_255`.
    shared: share of the variance that is common to R, G and B, which is the
      correlation of their noise; one number, or (low, high) to draw the arc
      sine of its root uniformly, so that the ends are as frequent as all else.
    bayer: share of the images whose noise is that of an RGGB sensor's samples,
      interpolated by Malvar's filters; nothing of it is `shared`. The picture
      may begin with any of the four colours. Gray ones have no such noise.
    coarse: share of the images whose noise is blurred, then scaled so that
      white noise keeps its standard deviation.
    coarse_px: standard deviation of that blur; one number, or (low, high).
    blur: share of the images that are blurred before the noise, half of them
      differently along two axes of any direction.
    blur_px: standard deviation of that blur; one number, or (low, high).
    deblur: whether the target is the image before that blur; False for after
      it, so that a network keeps the sharpness of its input.
    jpeg: share of the images that are compressed.
    quality: of JPEG, 1 to 100; one integer, or (low, high), both included.
    subsampling: of chroma, one of which is drawn.
    twice: share of the compressed images that were compressed before, with
      another quality, subsampling and grid.
    gray: share of RGB images that are made gray, R = G = B in lq and in hq.
    clean: share of the images with nothing but the blur and rounding or, half
      of them, independent noise of up to 2 levels besides.

  Sources: real_degradations 1; Foi et al. 2008 (the variance); Malvar, He and
  Cutler 2004; BSRGAN and Real-ESRGAN (order, ranges, JPEG twice).
  """

  read_255: _Interval
  shot_255: _Interval = 0.0
  shared: _Interval = 0.0
  bayer: float = 0.0
  coarse: float = 0.0
  coarse_px: _Interval = 0.7
  blur: float = 0.0
  blur_px: _Interval = (0.0, 1.2)
  deblur: bool = True
  jpeg: float = 0.0
  quality: int | tuple[int, int] = (30, 98)
  subsampling: str | tuple[str, ...] = _SUBSAMPLINGS
  twice: float = 0.0
  gray: float = 0.0
  clean: float = 0.0
  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 1

  def __post_init__(self) -> None:
    for field in ("read_255", "shot_255"):
      check_log_interval(
        field,
        getattr(self, field),
        255.0,
        "set `clean`, the share without noise",
      )
    check_interval("shared", self.shared, 0.0, 1.0)
    check_interval("coarse_px", self.coarse_px, 0.0, 10.0)
    check_interval("blur_px", self.blur_px, 0.0, 10.0)
    check_interval("quality", self.quality, 1, 100)
    for field in ("bayer", "coarse", "blur", "jpeg", "twice", "gray", "clean"):
      check_share(field, getattr(self, field), "images")
    if not isinstance(self.deblur, bool):
      raise ValueError(f"deblur={self.deblur!r} is neither True nor False")
    known = set(_SUBSAMPLINGS)
    if not (self._subsamplings() and known.issuperset(self._subsamplings())):
      raise ValueError(
        f"subsampling={self.subsampling!r} must be one or several of"
        f" {', '.join(_SUBSAMPLINGS)}"
      )

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    check_uint8(image)
    channels = image.shape[2]
    if channels == 1 and self.bayer == 1:
      raise ValueError(
        "bayer=1 is the noise of a colour sensor, and a gray image has no"
        " colours to interpolate; give RGB images, or bayer=0"
      )
    target = image.astype(np.float32)
    if channels == 3 and happens(rng, self.gray):
      target = np.rint(to_luma(target))
    blurred = self._blurred(rng, target)
    if happens(rng, self.clean):
      sigma = _NEARLY_CLEAN_255 * rng.random() if rng.random() < 0.5 else 0.0
      stored = round_to_uint8(blurred + rng.normal(0.0, sigma, blurred.shape))
    else:
      stored = round_to_uint8(blurred + self._noise(rng, blurred))
      if happens(rng, self.jpeg):
        stored = self._compressed(rng, stored)
    target = target if self.deblur else blurred
    lq, hq = (pixels.astype(np.float32) / 255 for pixels in (stored, target))
    times = channels // lq.shape[2]  # gray is R = G = B
    return np.repeat(lq, times, axis=2), np.repeat(hq, times, axis=2)

  def context(self, rng: Rng) -> Context:
    """Returns the most that any draw needs, and draws the last grid's phase."""
    side = radius(self._most("blur_px")) if self.blur else 0
    side += radius(self._most("coarse_px")) if self.coarse else 0
    side += 2 if self.bayer else 0  # of Malvar's filters
    if not self.jpeg:
      return side, side, side, side
    # A whole unit for each compression, whose decoder smooths chroma.
    side += UNIT_PX * (2 if self.twice else 1)
    above, before = draw_phases(rng)
    return side + above, side, side + before, side

  def _most(self, field: str) -> float:
    return ends(getattr(self, field))[1]

  def _subsamplings(self) -> tuple[str, ...]:
    if isinstance(self.subsampling, str):
      return (self.subsampling,)
    return tuple(self.subsampling)

  def _blurred(self, rng: Rng, image: np.ndarray) -> np.ndarray:
    if not happens(rng, self.blur):
      return image
    sigmas, angle = (draw_uniform(rng, self.blur_px),) * 2, 0.0
    if rng.random() < 0.5:
      sigmas = sigmas[0], draw_uniform(rng, self.blur_px)
      angle = np.pi * rng.random()
    return correlate(image, gaussian_kernel(*sigmas, angle=angle))

  def _noise(self, rng: Rng, image: np.ndarray) -> np.ndarray:
    """Draws the noise of a float image in 0 to 255; float64, same shape."""
    sigma = draw_deviation(
      rng, image, read_255=self.read_255, shot_255=self.shot_255
    )
    if image.shape[2] == 3 and happens(rng, self.bayer):
      noise = _sensor_noise(rng, sigma)
    else:
      low, high = ends(self.shared)
      angles = np.arcsin(np.sqrt([low, high]))
      shared = low if low == high else np.sin(rng.uniform(*angles)) ** 2
      noise = sigma * _unit_noise(rng, image.shape, shared)
    if happens(rng, self.coarse):
      kernel = gaussian_kernel(*(draw_uniform(rng, self.coarse_px),) * 2)
      noise = correlate(noise, kernel / np.sqrt(np.sum(kernel**2)))
    return noise

  def _compressed(self, rng: Rng, image: np.ndarray) -> np.ndarray:
    if happens(rng, self.twice):
      # Of the first file, something has been cut off since.
      image = self._coded(rng, image, draw_phases(rng))
    return self._coded(rng, image, (0, 0))

  def _coded(
    self, rng: Rng, image: np.ndarray, phases: tuple[int, int]
  ) -> np.ndarray:
    """Compresses, with a grid that begins `phases` px above and before."""
    low, high = check_interval("quality", self.quality, 1, 100)
    quality = low if low == high else draw_integer(rng, low, high)
    known = self._subsamplings()
    last = len(known) - 1
    subsampling = known[draw_integer(rng, 0, last) if last else 0]
    above, before = phases
    image = np.pad(image, ((above, 0), (before, 0), (0, 0)), mode="edge")
    pixels = compress(image, quality, subsampling)
    return pixels[above:, before:]


def _unit_noise(rng: Rng, shape: tuple[int, ...], shared: float) -> np.ndarray:
  """Draws white noise of variance 1 whose channels correlate by `shared`."""
  own = rng.normal(0.0, 1.0, shape) if shared < 1 else np.zeros(shape)
  if not shared:
    return own
  common = rng.normal(0.0, 1.0, (*shape[:2], 1))
  noise = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
  return np.broadcast_to(noise, shape)


def _sensor_noise(rng: Rng, sigma: np.ndarray) -> np.ndarray:
  """Draws noise of an RGGB sensor's samples, and interpolates it.

  `sigma` has their standard deviations, `[H, W, 3]`; the first sample is any of
  the four colours.
  """
  above, before = draw_integer(rng, 0, 1), draw_integer(rng, 0, 1)
  sigma = np.pad(sigma, ((above, 0), (before, 0), (0, 0)), mode="edge")
  sigma = bayer.mosaic(sigma).sum(axis=2)
  return bayer.malvar(sigma * rng.normal(0.0, 1.0, sigma.shape))[
    above:, before:
  ]
