"""Restores an image of any size in bounded memory, tile by tile.

Tiles lie on the grid of the network's windows, so that inside a tile every
window holds the tokens it holds in the whole image. Only what crosses a tile's
border differs; so neighbours overlap, and over the overlap the weight goes
linearly from one to the other, and is zero close to the border. Weights of a
pixel sum to one. All tiles of an image have one shape: one compiled program.
"""

import functools
import itertools
import math
from collections.abc import Iterator

import jax
import numpy as np

from semanir_jax.images.color import is_gray
from semanir_jax.images.level_range import FULL_RANGE, LevelRange
from semanir_jax.inference import ensemble, tile_size
from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine import memory, sharding
from semanir_jax.models.windows import reflected_positions
from semanir_jax.networks.loaded_network import LoadedNetwork
from semanir_jax.ops.whole_numbers import whole_number

_TILES_PER_DEVICE = (1, 2, 4, 8)  # at a time


class TiledRestorer:
  """A network with its parameters, for images of any size."""

  def __init__(
    self,
    network: LoadedNetwork,
    *,
    num_keys: int | None = None,
    tile: int | None = None,
    self_ensemble: bool = False,
  ) -> None:
    """Prepares a network.

    Args:
      network: what restores.
      num_keys: k; None for the network's own.
      tile: side of the tiles, px of the input; None for the largest that fits
        the memory, which may be the whole image.
      self_ensemble: mean over the 8 flips and turns of the image (of each
        tile), which costs 8 times as much.

    Raises:
      ValueError: k or the tile does not fit the network, or what it restores
        cannot be turned.
    """
    if self_ensemble:
      ensemble.check_turnable(network.degradation)
    self.network, self.model = network, network.model
    self._alone = Restorer(network.model, network.params)
    self._num_keys = self._alone.check_num_keys(num_keys)
    self._self_ensemble = self_ensemble
    # Asked once: all images of a run get tiles of one size.
    self._memory = memory.free_memory()
    self._tile = None
    if tile is not None:
      side = whole_number(tile, "tile")
      assert isinstance(side, int)  # nothing is traced out here
      self._tile = side
    grid = self.model.size_multiple
    least = tile_size.smallest_tile_px(self.model)
    if tile is not None and (tile < least or tile % grid):
      near = max(round(tile / grid) * grid, least)
      raise ValueError(
        f"tile={tile} must be a multiple of {grid}, this network's window grid,"
        f" and at least {least}; try {near}"
      )

  @functools.cached_property
  def _shared(self) -> Restorer:
    """Restores with all devices of this process, which share a batch."""
    if len(jax.local_devices()) == 1:
      return self._alone
    mesh = sharding.make_local_mesh()
    return Restorer(self.model, self.network.params, mesh=mesh)

  def bands(
    self, image: np.ndarray, level_range: LevelRange = FULL_RANGE
  ) -> Iterator[np.ndarray]:
    """Restores an image, and hands out what is finished from top to bottom.

    A gray picture stored as RGB stays gray: where all three channels of the
    image are equal, those of the result are their mean. The whole image decides
    it, so that tiles without colour in a colour picture are as the others.

    Args:
      image: `[H, W, C]` uint8 or uint16, or float32 in [0, 1]; H and W >= 1.
      level_range: which integers are black and white.

    Yields:
      `[h, W * S, C']` float32, nominally in [0, 1], not clipped; all h sum to
      H * S. To be used before the next one is asked for.

    Raises:
      ValueError: C does not fit the network, or it returns NaN or infinity.
    """
    height, width, channels = image.shape
    gray = channels == self.model.out_channels == 3 and is_gray(image)
    rows, columns = self._axes(height, width)
    places = list(itertools.product(rows.starts, columns.starts))
    batch = self._batch_size(len(places), rows.tile, columns.tile)
    scale, top = self.model.scale, 0
    # Of the output rows from `top` down to the last that a tile has reached.
    sums = np.zeros(
      (0, columns.size * scale, self.model.out_channels), np.float32
    )
    for first in range(0, len(places), batch):
      group = places[first : first + batch]
      reached = (group[-1][0] + rows.tile - top) * scale
      sums = np.pad(sums, ((0, reached - len(sums)), (0, 0), (0, 0)))
      restored = self._restore(
        [
          level_range.to_unit(_cut(image, rows, columns, place))
          for place in group
        ],
        batch,
      )
      for (row, column), tile in zip(group, restored, strict=True):
        weight = rows.weights[row][:, None] * columns.weights[column]
        down, right = (row - top) * scale, column * scale
        place = sums[down:, right:][: tile.shape[0], : tile.shape[1]]
        place += tile * weight[..., None]
      following = places[first + batch :]
      bottom = following[0][0] if following else rows.size
      done = (bottom - top) * scale
      if done:
        band = sums[:done][: (height - top) * scale, : width * scale]
        if not np.isfinite(band).all():
          raise ValueError(
            "the network returned NaN or infinity; use another checkpoint"
          )
        if gray:
          band[...] = band.mean(axis=2, keepdims=True)
        yield band
      sums, top = sums[done:], bottom

  def tile_px(self, height: int, width: int) -> tuple[int, int, int]:
    """Returns height, width and number of an image's tiles, for the log."""
    rows, columns = self._axes(height, width)
    return rows.tile, columns.tile, len(rows.starts) * len(columns.starts)

  def _axes(self, height: int, width: int) -> tuple["_Axis", "_Axis"]:
    """Lays the tiles of an image, along both axes."""
    model, memory = self.model, self._memory
    grid, overlap = model.size_multiple, tile_size.overlap_px(model)
    sides = [-(-side // grid) * grid for side in (height, width)]
    if self._tile is not None:
      tiles = [min(self._tile, side) for side in sides]
    elif math.prod(sides) <= tile_size.px_that_fit(model, memory):
      tiles = sides
    else:
      most = tile_size.largest_tile_px(model, memory)
      tiles = [tile_size.even_tile_px(model, side, most) for side in sides]
    rows, columns = (
      _Axis(side, tile, overlap, grid, model.scale)
      for side, tile in zip(sides, tiles, strict=True)
    )
    return rows, columns

  def _batch_size(self, count: int, height: int, width: int) -> int:
    """Says how many of `count` tiles are restored at a time.

    Powers of two for each device, the one that leaves the fewest places empty
    (of equal ones the largest), so that images of many sizes need few programs.
    """
    if count == 1:
      return 1
    devices = len(jax.local_devices())
    fit = tile_size.px_that_fit(self.model, self._memory) // (height * width)
    sizes = [devices * n for n in _TILES_PER_DEVICE if n <= max(fit, 1)]
    return min(sizes, key=lambda size: (-count % size, -size))

  def _restore(self, tiles: list[np.ndarray], batch: int) -> np.ndarray:
    """Restores up to `batch` tiles; the devices' own padding fills it up."""
    restorer = self._alone if batch == 1 else self._shared
    return restorer(
      np.stack(tiles),
      num_keys=self._num_keys,
      self_ensemble=self._self_ensemble,
    )


class _Axis:
  """Where tiles lie along one axis, and their weights.

  Attributes:
    size: px of the axis, padded to the grid.
    tile: side of a tile.
    starts: first px of every tile, ascending.
    weights: by start, `[tile * scale]` float32.
  """

  def __init__(
    self, size: int, tile: int, overlap: int, grid: int, scale: int
  ) -> None:
    """Spreads as few tiles as overlap by `overlap` or more, evenly.

    All are multiples of `grid`, but the scale of the network.
    """
    self.size, self.tile = size, tile
    count = -(-(size - overlap) // (tile - overlap)) if size > tile else 1
    self.starts = [
      (size - tile) * i // max(count - 1, 1) // grid * grid
      for i in range(count)
    ]
    raw = [self._ramps(i, scale) for i in range(count)]
    total = np.zeros(size * scale)
    for start, weight in zip(self.starts, raw, strict=True):
      total[start * scale :][: tile * scale] += weight
    self.weights = {
      start: (weight / total[start * scale :][: tile * scale]).astype(
        np.float32
      )
      for start, weight in zip(self.starts, raw, strict=True)
    }

  def _ramps(self, index: int, scale: int) -> np.ndarray:
    """Weighs by 1, going to 0 over the middle half of overlaps."""
    start = self.starts[index]
    position = (np.arange(self.tile * scale) + 0.5) / scale
    weight = np.ones_like(position)
    if index > 0:
      overlap = self.starts[index - 1] + self.tile - start
      weight *= np.clip((position - overlap / 4) / (overlap / 2), 0, 1)
    if index < len(self.starts) - 1:
      overlap = start + self.tile - self.starts[index + 1]
      left = self.tile - position
      weight *= np.clip((left - overlap / 4) / (overlap / 2), 0, 1)
    return weight


def _cut(
  image: np.ndarray, rows: _Axis, columns: _Axis, place: tuple[int, int]
) -> np.ndarray:
  """Cuts a tile; beyond the image it is reflected."""
  taken = [
    reflected_positions(side, axis.size)[start : start + axis.tile]
    for side, axis, start in zip(
      image.shape[:2], (rows, columns), place, strict=True
    )
  ]
  return image[np.ix_(*taken)]
