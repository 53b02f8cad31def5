"""Records of one image or pair, whole or cut into overlapping sub-images."""

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from semanir_jax.data import records
from semanir_jax.data.pairing import cut_pair
from semanir_jax.images import encoder, image_file
from semanir_jax.machine import files

Files = dict[str, pathlib.Path]  # of "image", or of "input" and "target"


@dataclasses.dataclass(frozen=True)
class Cutter:
  """How images are cut.

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
    sides = (self.crop_size, self.step)
    if (None in sides) != (sides == (None, None)):
      raise ValueError(f"crop_size and step belong together, got {sides}")
    if self.crop_size is None:
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
    if self.crop_size is None or min(height, width) < self.crop_size:
      return [records.pack(name, data)]
    return [
      records.pack(
        f"{name}_s{number:03d}",
        {
          key: _png(self._cut(image, key, top, left))
          for key, image in pixels.items()
        },
      )
      for number, (top, left) in enumerate(self._corners(height, width))
    ]

  def _corners(self, height: int, width: int) -> Iterator[tuple[int, int]]:
    for top in self._starts(height):
      for left in self._starts(width):
        yield top, left

  def _starts(self, side: int) -> list[int]:
    last = side - self.crop_size
    return sorted({*range(0, last, self.step), last})

  def _cut(
    self, image: np.ndarray, key: str, top: int, left: int
  ) -> np.ndarray:
    """Cuts a sub-image; `top` and `left` are px of the image or target."""
    scale = self.scale if key == "input" else 1
    top, left, size = top // scale, left // scale, self.crop_size // scale
    return image[top : top + size, left : left + size]


def _png(image: np.ndarray) -> bytes:
  return encoder.encode(image, ".png", "sub-image")
