"""The four degradations: noise, bicubic shrinking, JPEG and a Bayer mosaic.

Each is a frozen dataclass of its options; `degradations` says what it promises
and how patches and configs use it.
"""

import dataclasses
import io
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from semanir_jax.data import demosaic
from semanir_jax.images import imresize
from semanir_jax.images.color import check_uint8, to_unit

Rng = np.random.Generator | np.random.RandomState
Pair = tuple[np.ndarray, np.ndarray]
Context = tuple[int, int, int, int]


def modcrop(image: np.ndarray, multiple: int) -> np.ndarray:
  """Crops bottom and right so that both sides are multiples of `multiple` px.

  Args:
    image: `[H, W, C]` uint8, gray or RGB.
    multiple: 1 or more.

  Returns:
    A view of the image.

  Raises:
    ValueError: not such an image, or a side is shorter than `multiple`.
  """
  check_uint8(image)
  height, width = (side - side % multiple for side in image.shape[:2])
  if not (height and width):
    raise ValueError(
      f"an image of shape {image.shape} is smaller than {multiple} px, the"
      " least this degradation can work on; skip the image"
    )
  return image[:height, :width]


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
  """Adds white Gaussian noise, which is not clipped by default.

  Attributes:
    sigma_255: standard deviation on the 0 to 255 scale; one number, or
      (low, high) to draw it uniformly for each image (blind denoising).
    channel_order: which colour gets the first of each pixel's three draws. The
      colour tests of SwinIR draw for BGR images, those of Restormer and KAIR
      for RGB; it matters only where a seed must give the same noise as theirs.
    stored: share of the images whose noise is clipped and rounded to 8 bits, as
      a file holds it. No published figures are of such noise.

  For the test form, pass one number and a fresh np.random.RandomState(0) per
  image: the first draws are then the noise, in float64, row by row.

  Source: protocols 3.2.
  """

  sigma_255: float | tuple[float, float]
  channel_order: Literal["rgb", "bgr"] = "rgb"
  stored: float = 0.0
  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 1

  def __post_init__(self) -> None:
    _interval("sigma_255", self.sigma_255, 0.0, 255.0)
    if self.channel_order not in ("rgb", "bgr"):
      raise ValueError(
        f"channel_order={self.channel_order!r} is neither 'rgb' nor 'bgr'"
      )
    _check_share("stored", self.stored, "images")

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    check_uint8(image)
    low, high = _interval("sigma_255", self.sigma_255, 0.0, 255.0)
    sigma = low if low == high else rng.uniform(low, high)
    noise = rng.normal(0.0, sigma / 255.0, image.shape)
    if self.channel_order == "bgr":
      noise = noise[:, :, ::-1]
    noisy = image / 255.0 + noise
    # Drawn behind the noise, so that a seed's noise is the same for any share.
    if self.stored and rng.random() < self.stored:
      noisy = np.rint(255.0 * np.clip(noisy, 0.0, 1.0)) / 255.0
    return noisy.astype(np.float32), to_unit(image)

  def context(self, rng: Rng) -> Context:
    del rng
    return 0, 0, 0, 0


@dataclasses.dataclass(frozen=True)
class Bicubic:
  """Shrinks the image with MATLAB's bicubic imresize, rounded to uint8.

  Attributes:
    scale: factor, 2 or more.
    rounding: "per_pass" gives the x2, x3 and x4 test files of SwinIR bit for
      bit, "once" its x8 files.

  Source: protocols 2 and 3.1; MANIFEST ("MATLAB bicubic").
  """

  scale: int
  rounding: Literal["per_pass", "once"] = "per_pass"

  def __post_init__(self) -> None:
    if not isinstance(self.scale, int) or self.scale < 2:
      raise ValueError(f"scale={self.scale!r} must be an integer, 2 or more")
    if self.rounding not in ("per_pass", "once"):
      raise ValueError(
        f"rounding={self.rounding!r} is neither 'per_pass' nor 'once'"
      )

  @property
  def multiple(self) -> int:
    return self.scale

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    del rng
    image = modcrop(image, self.multiple)
    small = imresize.imresize(image, 1 / self.scale, rounding=self.rounding)
    return to_unit(small), to_unit(image)

  def context(self, rng: Rng) -> Context:
    del rng
    side = 2 * self.scale  # half of the stretched kernel
    return side, side, side, side


@dataclasses.dataclass(frozen=True)
class Jpeg:
  """Compresses with libjpeg: gray, or colour with 4:2:0 chroma.

  Attributes:
    quality: 1 to 100; one number, or (low, high), both included, to draw it
      uniformly for each image (blind).
    aligned: share of the training patches whose corner is a corner of the file,
      so that the 8x8 blocks lie in them as in a picture that nobody has cropped
      since; in the others they lie anywhere. KAIR's is 0.5, GRL's 0.

  Source: protocols 3.3 (Pillow decodes to the same pixels as OpenCV), 5.3.
  """

  quality: int | tuple[int, int]
  aligned: float = 0.0
  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 1

  def __post_init__(self) -> None:
    _interval("quality", self.quality, 1, 100)
    _check_share("aligned", self.aligned, "patches")

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    check_uint8(image)
    low, high = _interval("quality", self.quality, 1, 100)
    quality = low if low == high else _integer(rng, low, high)
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as decoded:
      pixels = np.asarray(decoded)
    return to_unit(pixels.reshape(image.shape)), to_unit(image)

  def context(self, rng: Rng) -> Context:
    # Nothing is drawn for 0: the seeds of such trainings keep their batches.
    if self.aligned and rng.random() < self.aligned:
      return 0, 16, 0, 16
    # A random phase of the 16x16 coding units (4:2:0), and one whole unit more
    # on every side, since the decoder smooths chroma across units.
    phases = _integer(rng, 0, 15), _integer(rng, 0, 15)
    return 16 + phases[0], 16, 16 + phases[1], 16


@dataclasses.dataclass(frozen=True)
class Demosaic:
  """RGGB mosaic, filled in by Malvar's filters; neither clipped nor rounded.

  The network gets a full-size RGB image, as GRL's does, and corrects it.

  Source: protocols 3.4.
  """

  scale: ClassVar[int] = 1
  multiple: ClassVar[int] = 2

  def __call__(self, rng: Rng, image: np.ndarray) -> Pair:
    del rng
    image = modcrop(image, self.multiple)
    sensor = demosaic.mosaic(image).sum(axis=2, dtype=np.uint8)
    return demosaic.fill_in(sensor), to_unit(image)

  def context(self, rng: Rng) -> Context:
    del rng
    return 2, 2, 2, 2  # radius of the filters, even: red stays at (0, 0)


def _check_share(field: str, share: float, of: str) -> None:
  if not isinstance(share, (int, float)) or not 0 <= share <= 1:
    raise ValueError(
      f"{field}={share!r} must be a share of the {of}, between 0 and 1"
    )


def _interval(
  field: str,
  value: float | Sequence[float],
  lowest: float,
  highest: float,
) -> tuple[float, float]:
  """(low, high) of an option that is one number or two, or a clear error.

  Integer limits ask for integers.
  """
  low_high = tuple(value) if isinstance(value, Sequence) else (value,)
  if len(low_high) == 1:  # as ml_collections makes of --config....=25
    low_high *= 2
  kinds = int if isinstance(lowest, int) else (int, float)
  numbers = [x for x in low_high if isinstance(x, kinds)]
  if len(numbers) != 2 or not lowest <= numbers[0] <= numbers[1] <= highest:
    kind = "integer" if kinds is int else "number"
    raise ValueError(
      f"{field}={value!r} must be one {kind} between {lowest} and {highest}, or"
      " two, (low, high)"
    )
  return numbers[0], numbers[1]


def _integer(rng: Rng, low: int, high: int) -> int:
  """Uniform in low ... high, both included, from either kind of generator."""
  return low + int(rng.random() * (high - low + 1))
