"""Bayer mosaic and its linear demosaicking by Malvar, He and Cutler (2004).

The colour filters are RGGB: red at (0, 0), green at (0, 1) and (1, 0), blue at
(1, 1). Sides may be odd; a crop must begin at even rows and columns.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_EVEN, _ODD = slice(0, None, 2), slice(1, None, 2)


def mosaic(image: np.ndarray) -> np.ndarray:
  """Keeps the sample that an RGGB sensor sees at each pixel, zeros the others.

  Args:
    image: `[H, W, 3]` RGB of any dtype.

  Returns:
    `[H, W, 3]`, same dtype; its sum over the channels is the sensor's image.

  Raises:
    ValueError: the image is not RGB.

  Source: protocols 3.4.
  """
  if image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(
      f"a mosaic is taken from an RGB image [H, W, 3], got {image.shape}; a"
      " gray image has no colours to demosaick"
    )
  samples = np.zeros_like(image)
  samples[_EVEN, _EVEN, 0] = image[_EVEN, _EVEN, 0]
  samples[_EVEN, _ODD, 1] = image[_EVEN, _ODD, 1]
  samples[_ODD, _EVEN, 1] = image[_ODD, _EVEN, 1]
  samples[_ODD, _ODD, 2] = image[_ODD, _ODD, 2]
  return samples


def malvar(sensor: np.ndarray) -> np.ndarray:
  """Fills in the colours of an RGGB sensor image with 5x5 linear filters.

  The border is reflected without its edge pixel, which keeps the colours of the
  filters in step. The result is neither clipped nor rounded.

  Args:
    sensor: `[H, W]` uint8, uint16 or float32, one sample per pixel.

  Returns:
    `[H, W, 3]` float32 on the scale of the input, beyond its range where a
    filter overshoots; exact for integers, as every value is a multiple of
    1 / 16.

  Source: protocols 3.4 ("MATLAB demosaic").
  """
  height, width = sensor.shape
  padded = np.pad(sensor.astype(np.float32), 2, mode="reflect")

  def shifted(down: int, right: int) -> np.ndarray:
    """Returns the sample `down` rows below and `right` columns right."""
    rows, columns = slice(2 + down, None), slice(2 + right, None)
    return padded[rows, columns][:height, :width]

  centre = shifted(0, 0)
  vertical = shifted(-1, 0) + shifted(1, 0)
  horizontal = shifted(0, -1) + shifted(0, 1)
  diagonal = shifted(-1, -1) + shifted(-1, 1) + shifted(1, -1) + shifted(1, 1)
  far_vertical = shifted(-2, 0) + shifted(2, 0)
  far_horizontal = shifted(0, -2) + shifted(0, 2)
  far = far_vertical + far_horizontal

  green = (4 * centre + 2 * (vertical + horizontal) - far) / 8
  in_row = 5 * centre + 4 * horizontal - diagonal - far_horizontal
  in_row = (in_row + far_vertical / 2) / 8  # red in a red row, blue in a blue
  in_column = 5 * centre + 4 * vertical - diagonal - far_vertical
  in_column = (in_column + far_horizontal / 2) / 8
  opposite = (6 * centre + 2 * diagonal - 1.5 * far) / 8  # red at blue and back

  image = np.empty((height, width, 3), np.float32)
  for channel, own, other in ((0, _EVEN, _ODD), (2, _ODD, _EVEN)):
    image[own, own, channel] = centre[own, own]
    image[own, other, channel] = in_row[own, other]
    image[other, own, channel] = in_column[other, own]
    image[other, other, channel] = opposite[other, other]
    image[own, own, 1] = green[own, own]
    image[own, other, 1] = centre[own, other]
  return image


def fill_in(sensor: np.ndarray) -> np.ndarray:
  """Makes of an RGGB sensor's image what a network for mosaics takes.

  Args:
    sensor: `[H, W]` uint8 or uint16, or float32 in [0, 1]; H and W even.

  Returns:
    `[H, W, 3]` float32 of `malvar`, nominally in [0, 1], not clipped.

  Raises:
    ValueError: a side is odd, so that it is no whole sensor's image.
  """
  height, width = sensor.shape
  if height % 2 or width % 2:
    raise ValueError(
      f"an RGGB mosaic has even sides, not {height}x{width} px; crop it, from"
      " an even row and column on, or give RGB that is filled in already"
    )
  filled = malvar(sensor)
  if sensor.dtype == np.float32:
    return filled
  return filled / np.float32(np.iinfo(sensor.dtype).max)


def is_mosaic(degradation: Mapping[str, Any]) -> bool:
  """Says whether what a network learned from, or a test set has, is mosaics.

  Args:
    degradation: options for `degradations.make`; empty for pairs. A mixture
      with mosaics in it is none: one channel may be a gray picture there.
  """
  return degradation.get("name") == "demosaic"
