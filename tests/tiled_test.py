"""Tiles: an image in parts is the image as a whole, without a seam."""

import itertools
import math
import pathlib

import numpy as np
import pytest

from semanir_jax.images import image_file
from semanir_jax.inference import restorer as restorer_lib
from semanir_jax.inference import tile_size, tiled
from semanir_jax.inference.restorer import Restorer
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.models.semanir import SemanIR
from semanir_jax.models.sizes import SIZES
from tests import small

pytestmark = pytest.mark.slow


def _restored(model: SemanIR, image: np.ndarray, **options) -> np.ndarray:
  restorer = TiledRestorer(small.network(model), **options)
  return np.concatenate([band.copy() for band in restorer.bands(image)])


def _random(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _db(a: np.ndarray, b: np.ndarray) -> float:
  return float(-10 * np.log10(np.mean((a.clip(0, 1) - b.clip(0, 1)) ** 2)))


# One size for all pictures, so that they share programs. Overlaps of 64 px are
# no wider than asked, and ones of 8 px would be found out.
HEIGHT, WIDTH = 140, 245


def _picture(name: str, shared_data: pathlib.Path) -> np.ndarray:
  if name == "noise":
    return _random(HEIGHT, WIDTH, 3)
  if name == "photograph":
    image = image_file.read_image(shared_data / "kodak24" / "kodim23.png")
    return image[100:, 200:][:HEIGHT, :WIDTH]
  image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
  if name == "gradient":
    image += np.arange(WIDTH, dtype=np.uint8)[:, None] // 2
  return image


@pytest.mark.parametrize("model", [small.DEEP_USHAPE, small.COLUMNAR], ids="uc")
def test_a_single_tile_is_the_network_itself(model):
  image = _random(HEIGHT, WIDTH, 3)
  restore = Restorer(model, small.params(model))
  expected = restore(image[None] / np.float32(255))[0]
  np.testing.assert_array_equal(_restored(model, image), expected)


def _gray(dtype=np.uint8) -> np.ndarray:
  levels = _random(HEIGHT, WIDTH, 1).astype(dtype)
  return np.broadcast_to(levels, (HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_gray_stays_gray_in_rgb(dtype):
  """One tile: the mean of what the network makes of each channel."""
  model, image = small.DEEP_USHAPE, _gray(dtype)
  if dtype == np.float32:
    image = image / np.float32(255)
  restored = _restored(model, image)
  np.testing.assert_array_equal(restored, restored[:, :, :1].repeat(3, axis=2))
  unit = (
    image if dtype == np.float32 else image / np.float32(np.iinfo(dtype).max)
  )
  raw = Restorer(model, small.params(model))(unit[None].astype(np.float32))[0]
  assert np.ptp(raw, axis=2).max() > 0.01
  np.testing.assert_allclose(restored[:, :, 0], raw.mean(axis=2), atol=1e-6)


def test_the_whole_image_decides_whether_it_is_gray():
  model, gray = small.DEEP_USHAPE, _gray()
  options = {"tile": tile_size.smallest_tile_px(model)}
  restored = _restored(model, gray, **options)
  np.testing.assert_array_equal(restored, restored[:, :, :1].repeat(3, axis=2))
  colour = gray.copy()
  colour[-1, -1, 2] ^= 1  # in the last tile
  restored = _restored(model, colour, **options)
  assert np.all(np.ptp(restored, axis=2)[:40] > 0)


# Measured with the U, jax 0.12.0.1 and 0.10.2: noise 86 and 86 dB, photograph
# 129 and 114, flat and gradient 159 and more; the largest steps of the last
# three 0.02 and 0.13 levels of 255, 0.0002. A network of random weights finds
# many keys equally good, on noise above all, and then rounding decides.
@pytest.mark.parametrize(
  ("picture", "least_db", "most_step"),
  [
    ("noise", 80, 3.0),
    ("photograph", 100, 0.5),
    ("flat", 120, 0.1),
    ("gradient", 120, 0.1),
  ],
)
@pytest.mark.parametrize("model", [small.DEEP_USHAPE, small.COLUMNAR], ids="uc")
def test_tiles_equal_the_whole_image_and_leave_no_step(
  model, picture, least_db, most_step, shared_data
):
  image = _picture(picture, shared_data)
  whole = _restored(model, image)
  tiled = _restored(model, image, tile=128)
  assert tiled.shape == (HEIGHT * model.scale, WIDTH * model.scale, 3)
  assert _db(tiled, whole) > least_db
  assert (tiled != whole).any()  # else nothing was tiled
  for axis in (0, 1):
    steps = np.abs(np.diff(tiled - whole, axis=axis))
    assert 255 * steps.max() < most_step


def test_a_network_that_sees_only_its_tile_leaves_no_seam(monkeypatch):
  # Each tile gets another brightness: the worst that a network could do.
  def brightened(self, batch, **_):
    return batch + 0.2 * batch.mean(axis=(1, 2, 3), keepdims=True)

  monkeypatch.setattr(Restorer, "__call__", brightened)
  image = np.zeros((300, 400, 3), np.uint8)
  image += np.linspace(0, 255, 400).astype(np.uint8)[:, None]
  restored = _restored(small.DEEP_USHAPE, image, tile=128)
  added = restored - image / 255
  # Neighbours differ by up to 64 / 400 * 0.2, within the 32 px of the ramp.
  assert 0.1 < np.ptp(added) < 0.21
  assert np.abs(np.diff(added, axis=0)).max() < 1e-5
  assert np.abs(np.diff(added, axis=1)).max() < 1.1 * 64 / 400 * 0.2 / 32


@pytest.mark.parametrize("scale", [1, 2])
def test_what_is_not_changed_comes_back(monkeypatch, scale):
  monkeypatch.setattr(
    Restorer,
    "__call__",
    lambda self, x, **_: x.repeat(scale, axis=1).repeat(scale, axis=2),
  )
  model = small.COLUMNAR if scale == 2 else small.USHAPE
  for shape in ((1, 1, 3), (128, 129, 3), (197, 400, 3), (500, 90, 3)):
    image = _random(*shape)
    expected = image.repeat(scale, axis=0).repeat(scale, axis=1) / 255
    restored = _restored(model, image, tile=128)
    np.testing.assert_allclose(restored, expected, atol=2e-7)


def test_tiles_lie_on_the_grid_and_their_weights_sum_to_one():
  for size, tile, (overlap, grid), scale in itertools.product(
    (8, 64, 72, 128, 136, 1000),
    (64, 128),
    ((8, 8), (32, 8), (32, 32), (48, 8)),
    (1, 3),
  ):
    size = -(-size // grid) * grid
    axis = tiled._Axis(size, min(tile, size), overlap, grid, scale)
    assert axis.starts[0] == 0 and axis.starts[-1] + axis.tile == size
    gaps = np.diff(axis.starts)
    assert (gaps <= tile - overlap).all() and (gaps > 0).all()
    assert not any(start % grid for start in axis.starts)
    total = np.zeros(size * scale)
    for start in axis.starts:
      weight = axis.weights[start]
      total[start * scale :][: tile * scale] += weight
      # A tile says nothing about what lies close to its inner borders.
      assert start == 0 or weight[: scale * overlap // 4].max() == 0
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("most", [8, 16])
def test_images_of_many_sizes_share_one_program(most):
  network = TiledRestorer(small.network(small.USHAPE), tile=128)
  # 8 devices: 4 and 8 tiles in batches of 8; 12, 16 and 15 in ones of 16.
  network._memory = most * 128**2 * tile_size.bytes_per_px(small.USHAPE) // 4
  shapes = {
    8: ((129, 140, 3), (300, 130, 3)),
    16: ((200, 260, 3), (260, 300, 3), (200, 380, 3)),
  }[most]
  before = restorer_lib._run._cache_size()
  for shape in shapes:
    bands = [band.shape for band in network.bands(_random(*shape))]
    assert sum(height for height, _, _ in bands) == shape[0]
    assert {width for _, width, _ in bands} == {shape[1]}
  assert restorer_lib._run._cache_size() - before == 1


@pytest.mark.parametrize(
  "size",
  [(2160, 3840), (1080, 1920), (1500, 2000), (3000, 4000), (6000, 8000)],
)
@pytest.mark.parametrize("most", [512, 1024, 2048])
def test_tiles_have_hardly_more_pixels_than_the_image(size, most):
  model = small.USHAPE
  restorer = TiledRestorer(small.network(model, {}))
  restorer._memory = int(2.1 * most**2 * tile_size.bytes_per_px(model))
  assert tile_size.largest_tile_px(model, restorer._memory) == most
  height, width, count = restorer.tile_px(*size)
  assert max(height, width) <= most
  overlap = tile_size.overlap_px(model)
  ideal = math.prod(
    side + (-(-(side - overlap) // (most - overlap)) - 1) * overlap
    for side in size
  )
  assert math.prod(size) <= height * width * count <= 1.4 * ideal


def test_images_of_many_sizes_have_few_tile_sizes():
  sides = range(1024, 8192, 8)
  model = small.USHAPE
  found = {tile_size.even_tile_px(model, side, 1024) for side in sides}
  assert found == {640, 768, 896, 1024}


def test_devices_share_the_tiles_of_an_image(monkeypatch):
  seen = []

  def recorded(self, batch, **_):
    seen.append((self._mesh.size if self._mesh else 1, len(batch)))
    return batch

  monkeypatch.setattr(Restorer, "__call__", recorded)
  _restored(small.USHAPE, _random(300, 130, 3), tile=128)
  _restored(small.USHAPE, _random(30, 130, 3))
  assert seen == [(8, 8), (1, 1)]


def test_bands_come_before_the_whole_is_restored(monkeypatch):
  calls = []

  def counted(self, batch, **_):
    calls.append(len(batch))
    return batch

  monkeypatch.setattr(Restorer, "__call__", counted)
  monkeypatch.setattr(
    tiled.jax, "local_devices", lambda: [tiled.jax.devices()[0]]
  )
  restorer = TiledRestorer(small.network(small.USHAPE, {}), tile=128)
  restorer._memory = 0
  done = 0
  for band in restorer.bands(_random(1280, 128, 3)):
    done += len(band)
    assert len(band) <= 128
    assert sum(calls) * 64 <= done + 64
  assert done == 1280 and set(calls) == {1}


@pytest.mark.parametrize(
  ("count", "devices", "fit", "expected"),
  [
    (1, 8, 9, 1),
    (2, 8, 9, 8),
    (9, 1, 99, 1),
    (12, 1, 99, 4),
    (64, 1, 99, 8),
    (64, 1, 3, 2),
    (64, 1, 0, 1),
    (64, 8, 99, 64),
    (40, 4, 99, 8),
  ],
)
def test_batches_leave_few_places_empty(
  monkeypatch, count, devices, fit, expected
):
  restorer = TiledRestorer(small.network(small.USHAPE, {}))
  monkeypatch.setattr(tiled.jax, "local_devices", lambda: [0] * devices)
  monkeypatch.setattr(tile_size, "px_that_fit", lambda *_: fit * 64 * 64)
  assert restorer._batch_size(count, 64, 64) == expected


def test_little_memory_makes_tiles():
  model = small.DEEP_USHAPE
  restorer = TiledRestorer(small.network(model, {}))
  assert restorer.tile_px(400, 500) == (400, 504, 1)
  restorer._memory = 256 * 256 * tile_size.bytes_per_px(model) * 3
  assert restorer.tile_px(400, 500) == (256, 224, 6)
  assert restorer.tile_px(200, 300) == (200, 304, 1)
  restorer._memory = 0
  assert restorer.tile_px(400, 500)[:2] == (128, 128)


def test_tiles_fit_the_memory_they_were_chosen_for():
  for name, scale in (("tiny", 4), ("S", 1), ("S", 8), ("U", 1)):
    model = SemanIR(**SIZES[name] | {"scale": scale})
    for memory in (2**28, 2**34, 2**37):
      side = tile_size.largest_tile_px(model, memory)
      least = tile_size.smallest_tile_px(model)
      assert side % model.size_multiple == 0
      used = side**2 * tile_size.bytes_per_px(model)
      assert used <= memory / 2 or side == least
      assert 4 * used > memory / 2


@pytest.mark.parametrize("tile", [0, 64, 130])
def test_a_tile_off_the_grid_is_refused(tile):
  with pytest.raises(ValueError) as error:
    TiledRestorer(small.network(small.USHAPE, {}), tile=tile)
  assert str(error.value) == (
    f"tile={tile} must be a multiple of 4, this network's window grid, and at"
    " least 128; try 128"
  )


def test_the_self_ensemble_is_the_mean_of_eight():
  image = _random(20, 12, 3)  # on the grid: nothing is padded
  restore = Restorer(small.USHAPE, small.params(small.USHAPE))
  expected = []
  for turns, mirrored in itertools.product(range(4), (False, True)):
    turned = np.rot90(image / np.float32(255), turns)
    turned = np.fliplr(turned) if mirrored else turned
    restored = restore(turned[None])[0]
    restored = np.fliplr(restored) if mirrored else restored
    expected.append(np.rot90(restored, -turns))
  mean = _restored(small.USHAPE, image, self_ensemble=True)
  np.testing.assert_allclose(mean, np.mean(expected, axis=0), atol=1e-5)
  for turned in (image[::-1], image.transpose(1, 0, 2)):
    again = _restored(small.USHAPE, turned, self_ensemble=True)
    back = again[::-1] if turned.shape == image.shape else again.swapaxes(0, 1)
    np.testing.assert_allclose(back, mean, atol=1e-4)
