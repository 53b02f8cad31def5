"""Says how large a tile fits the memory of a device.

A model of the memory of one forward pass, per input pixel: 12 float32 feature
maps of the full resolution, or 2 of the upsampler's 64 channels at the output
resolution where that is more; and copies of input and output around it. Source,
CPU and jax 0.12.0.1: XLA's sizes of the compiled program (`memory_analysis`,
sides 256 and 512) are 11.5 to 12.1 maps for tiny (x1, x4), light and S (x1, x2,
x4), 10.5 to 11.2 for U_tiny and U, and at most 67 MiB beside; bfloat16 needs no
more. With 0.55 GiB for the program, the process held at most 1.7 kB a pixel
(U_tiny, 1024 x 1024; the model says 1.7) and about 0.6 kB (a network of 8
channels, 4096 x 4096; 0.6). x8 and accelerators: not measured.
"""

from semanir_jax.models.resampling import UPSAMPLER_WIDTH
from semanir_jax.models.semanir import SemanIR

_FLOAT_BYTES = 4
_FEATURE_MAPS, _UPSAMPLED_MAPS = 12, 2
_COPIES_BYTES = 120  # of an input and of an output pixel
# Of what is free: the rest is for other programs, for the image itself, and for
# what the model does not know.
_SHARE = 0.5
_OVERLAP_PX = 64


def overlap_px(model: SemanIR) -> int:
  """Returns the least overlap of tiles: whole windows, of every level."""
  grid = model.size_multiple
  return -(-_OVERLAP_PX // grid) * grid


def smallest_tile_px(model: SemanIR) -> int:
  """Returns the smallest side of a tile: half is its own, and two windows.

  An axis of a single window is not shifted (`windows.shift_px`), so smaller
  tiles would run another network than the image does.
  """
  return 2 * overlap_px(model)


def bytes_per_px(model: SemanIR) -> int:
  """Returns the bytes that a forward pass takes per pixel of its input."""
  features = _FEATURE_MAPS * model.dim
  if model.scale > 1 and model.upsampler == "pixelshuffle":
    upsampled = _UPSAMPLED_MAPS * UPSAMPLER_WIDTH * model.scale**2
    features = max(features, upsampled)
  copies = _COPIES_BYTES * (1 + model.scale**2)
  return _FLOAT_BYTES * features + copies


def px_that_fit(model: SemanIR, memory: int) -> int:
  """Returns how many input pixels surely fit into `memory` free bytes."""
  return int(_SHARE * memory / bytes_per_px(model))


def largest_tile_px(model: SemanIR, memory: int) -> int:
  """Returns the side of the tiles for a memory.

  The smallest one times a power of two, so that a little more or less memory
  does not change the results.

  Args:
    model: the network.
    memory: free bytes of the device.

  Returns:
    The largest that is sure to fit; at least `smallest_tile_px`.
  """
  side = smallest_tile_px(model)
  while (2 * side) ** 2 <= px_that_fit(model, memory):
    side *= 2
  return side


def even_tile_px(model: SemanIR, side: int, most: int) -> int:
  """Returns the side of the fewest tiles, none above `most`, along an axis.

  They overlap as little as they may: without this the tiles of 3840 x 2160 px
  would have twice its pixels. In eighths of `most`, so that images of many
  sizes share a few programs.

  Args:
    model: the network.
    side: of the axis, a multiple of the network's.
    most: of `largest_tile_px`.
  """
  if side <= most:
    return side
  overlap, grid = overlap_px(model), model.size_multiple
  count = -(-(side - overlap) // (most - overlap))
  least = -(-(side - overlap) // count) + overlap
  step = -(-most // 8 // grid) * grid
  return min(most, max(smallest_tile_px(model), -(-least // step) * step))
