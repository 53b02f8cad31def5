"""Records of one image or pair, whole or cut into overlapping sub-images."""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping

import numpy as np

from semanir_jax.data import records
from semanir_jax.data.pairing import cut_pair
from semanir_jax.images import encoder, image_file
from semanir_jax.machine import files

Files = Mapping[str, pathlib.Path]  # of "image", or of "input" and "target"


@dataclasses.dataclass(frozen=True)
class Cutter:
  """Makes records of images, whole or cut.

  Attributes:
    crop_size: side of a sub-image, px of the image, or of the target of a pair;
      None leaves images whole, and so are those with a smaller side.
    step: px from one sub-image to the next. The last ones lie flush with the
      bottom and right borders, so that no pixel is lost.
    scale: target side / input side of pairs; 1 for images.

  Source: BasicSR scripts/data_preparation/extract_subimages.py (480, 240),
  which leaves out a rest below a threshold; here the threshold is 0.
  """

  crop_size: int | None
  step: int | None
  scale: int

  def __post_init__(self) -> None:
    if self.crop_size is None or self.step is None:
      if self.crop_size != self.step:
        raise ValueError(
          "crop_size and step belong together, got"
          f" {(self.crop_size, self.step)}"
        )
      return
    if self.step < 1 or self.crop_size < self.step:
      raise ValueError(
        f"step={self.step} must be in [1, crop_size={self.crop_size}], or "
        "pixels between sub-images would be lost"
      )
    if self.crop_size % self.scale or self.step % self.scale:
      raise ValueError(
        f"crop_size={self.crop_size} and step={self.step} must be multiples of "
        f"the scale of the pairs, {self.scale}"
      )

  def records(self, paths: Files) -> list[bytes]:
    """Reads the files of one image or pair; see `records.pack`.

    Args:
      paths: {"image": ...}, or {"input": ..., "target": ...}.

    Returns:
      One record, or one for each sub-image, row by row; names end in `_s000`
      and so on. Uncut images are stored with the bytes of their files.

    Raises:
      ImageError: a file that cannot be decoded.
    """
    data = {key: files.read_bytes(path) for key, path in paths.items()}
    pixels = {
      key: image_file.decode_image(data[key], str(path))
      for key, path in paths.items()
    }
    name = [*paths.values()][-1].stem
    if "input" in pixels:
      cut = cut_pair(pixels["input"], pixels["target"], self.scale)
      for key, image in zip(pixels, cut, strict=True):
        if image.shape != pixels[key].shape:
          data[key] = _png(image)
        pixels[key] = image
    height, width = [*pixels.values()][-1].shape[:2]
    size, step = self.crop_size, self.step
    if size is None or step is None or min(height, width) < size:
      return [records.pack(name, data)]
    corners = itertools.product(
      _starts(height, size, step), _starts(width, size, step)
    )
    scales = {"input": self.scale}
    return [
      records.pack(
        f"{name}_s{number:03d}",
        {
          key: _png(_cut(image, top, left, size, scales.get(key, 1)))
          for key, image in pixels.items()
        },
      )
      for number, (top, left) in enumerate(corners)
    ]


def _starts(side: int, size: int, step: int) -> list[int]:
  """Returns where sub-images begin along a side, px."""
  last = side - size
  return sorted({*range(0, last, step), last})


def _cut(
  image: np.ndarray, top: int, left: int, size: int, scale: int
) -> np.ndarray:
  """Cuts a sub-image; all are px of the target, `scale` times the image's."""
  top, left, size = top // scale, left // scale, size // scale
  return image[top : top + size, left : left + size]


def _png(image: np.ndarray) -> bytes:
  return encoder.encode(image, ".png", "sub-image")
