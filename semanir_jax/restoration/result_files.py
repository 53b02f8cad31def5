"""Encodes what a network made of a picture, reads it again, writes it."""

import pathlib

import numpy as np
from absl import logging

from semanir_jax.images import color, decoder, encoder, image_file, kinds
from semanir_jax.images.imresize import imresize
from semanir_jax.machine import files
from semanir_jax.restoration import pixel_formats
from semanir_jax.restoration.pixel_formats import Picture


def encode(
  path: pathlib.Path,
  pixels: np.ndarray,
  source: Picture,
  *,
  quality: int | None = None,
) -> bytes:
  """Encodes a result with the alpha and metadata of its input.

  Args:
    path: of the result, for its format.
    pixels: `[H, W, 1 or 3]` uint8 or uint16.
    source: the input, after `pixel_formats.fit_to_format`.
    quality: see `images.encoder.encode`.

  Raises:
    ImageError: the format does not hold it.
  """
  suffix = path.suffix.lower()
  # Of formats without gray, the file holds RGB.
  channels = 3 if suffix == ".webp" else pixels.shape[2]
  scale = pixels.shape[0] // source.pixels.shape[0]
  metadata = source.metadata.for_channels(channels).enlarged(scale)
  lost = metadata.colours_of_png_alone()
  if lost and suffix != ".png":
    logging.warning(
      "%s: %s of its PNG is not held by %s: the result will be shown in other"
      " colours; use --format=png, or name the output .png",
      source.name,
      ", ".join(lost),
      suffix,
    )
  lost = metadata.lost_in(
    kinds.WRITTEN[suffix],
    deep_colour=pixels.dtype == np.uint16 and pixels.shape[2] > 1,
  )
  if lost:
    logging.warning(
      "%s: its result, %s, is without: %s",
      source.name,
      suffix,
      ", ".join(lost),
    )
  if source.alpha is not None:
    alpha = _scale_alpha(source.alpha, scale, pixels.dtype)
    pixels = np.concatenate([pixels, alpha], axis=2)
  return encoder.encode(
    pixels, suffix, str(path), quality=quality, metadata=metadata
  )


def decode(data: bytes, path: pathlib.Path, channels: int) -> np.ndarray:
  """Returns what readers of a result will see, after its format's losses.

  Args:
    data: of `encode`.
    path: for messages.
    channels: of the result, 1 or 3; WebP holds gray as colours.

  Returns:
    `[H, W, channels]` uint8 or uint16, without alpha.
  """
  pixels, _ = decoder.decode(data, str(path))
  if pixels.shape[2] == channels:
    return pixels
  return pixel_formats.to_levels(
    color.to_unit(pixels), channels=channels, dtype=pixels.dtype
  )


def write(path: pathlib.Path, data: bytes) -> None:
  """Writes a file atomically, and makes its folder.

  Raises:
    ImageError: the place cannot be written.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise image_file.ImageError(
      f"{path.parent}: cannot be created ({error.strerror}); choose another"
      " --output"
    ) from error
  files.write_bytes(path, data)


def _scale_alpha(alpha: np.ndarray, scale: int, dtype: np.dtype) -> np.ndarray:
  """Enlarges alpha `[H, W, 1]` `scale` times, in `dtype`."""
  if alpha.dtype == dtype and scale == 1:
    return alpha
  height, width = (scale * side for side in alpha.shape[:2])
  gain = np.iinfo(dtype).max / np.iinfo(alpha.dtype).max
  if alpha.min() == alpha.max():  # opaque, as a rule: no floats of its size
    return np.full((height, width, 1), round(alpha.flat[0] * gain), dtype)
  enlarged = imresize(alpha.astype(np.float64), scale, rounding="never") * gain
  return np.clip(np.floor(enlarged + 0.5), 0, np.iinfo(dtype).max).astype(dtype)
