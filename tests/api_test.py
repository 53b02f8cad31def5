"""The package from Python."""

import pathlib
import sys

import numpy as np
import pytest

import semanir_jax
from semanir_jax import degradations
from semanir_jax.degradations import bayer
from semanir_jax.evaluation import metrics
from semanir_jax.inference.restorer import Restorer
from semanir_jax.networks import checkpoint, safetensors_file
from tests import small

GRAY = small.USHAPE.clone(in_channels=1, out_channels=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
  """Networks for RGB, gray and x2 as files."""
  root = tmp_path_factory.mktemp("files")
  shape = {"model__architecture": "columnar", "model__depths": (1,)}
  configs = {
    "rgb": (small.USHAPE, {}),
    "gray": (GRAY, {"model__in_channels": 1, "model__out_channels": 1}),
    "x2": (small.COLUMNAR, shape | {"model__scale": 2}),
  }
  paths = {}
  for name, (model, changes) in configs.items():
    config = checkpoint.config_to_json(small.config(**changes))
    path = root / f"{name}.safetensors"
    safetensors_file.write_weights(path, small.params(model), config)
    paths[name] = str(path)
  return paths


def _image(height: int, width: int, channels: int) -> np.ndarray:
  rng = np.random.RandomState(0)
  return rng.randint(0, 256, (height, width, channels), np.uint8)


def test_loading_is_all_that_the_package_exports(files):
  assert semanir_jax.load is sys.modules["semanir_jax.api"].load
  with pytest.raises(AttributeError, match="no attribute 'lod'"):
    semanir_jax.lod  # noqa: B018


def test_types_and_ranges_are_kept(files):
  network = semanir_jax.load(files["rgb"])
  assert (network.scale, network.channels) == (1, 3)
  image = _image(9, 13, 3)
  floats = image.astype(np.float32) / np.float32(255)
  expected = Restorer(small.USHAPE, network.params)(floats[None])[0]
  expected = np.clip(expected, 0, 1)
  assert ((0 < expected) & (expected < 1)).mean() > 0.1
  result = network(floats)
  assert result.dtype == np.float32
  np.testing.assert_allclose(result, expected, atol=2e-6)
  doubles = network(image / 255)
  assert doubles.dtype == np.float32
  np.testing.assert_allclose(doubles, expected, atol=2e-6)
  deep = image.astype(np.uint16) * 257
  for levels, top in ((image, 255), (deep, 65535)):
    result = network(levels)
    assert result.dtype == levels.dtype and result.shape == levels.shape
    assert np.abs(result - expected * top).max() <= 0.5 + 1e-5 * top


def test_the_order_of_bytes_does_not_matter(files):
  network = semanir_jax.load(files["rgb"])
  image = np.random.default_rng(0).integers(0, 2**16, (4, 4, 3), np.uint16)
  swapped = network(image.astype(">u2"))
  np.testing.assert_array_equal(swapped, network(image))


def test_gray_images_may_have_two_axes(files):
  network = semanir_jax.load(files["gray"])
  image = _image(8, 8, 1)
  result = network(image)
  assert result.shape == (8, 8, 1)
  np.testing.assert_array_equal(network(image[..., 0]), result[..., 0])


def test_a_gray_network_takes_gray_that_is_stored_as_rgb(files):
  network = semanir_jax.load(files["gray"])
  image = _image(8, 8, 1)
  stored = np.repeat(image, 3, axis=2)
  for given in (stored, stored / np.float32(255)):
    result = network(given)
    assert result.shape == (8, 8, 3) and result.dtype == given.dtype
    np.testing.assert_array_equal(
      result, np.repeat(network(given[..., :1]), 3, axis=2)
    )
  with pytest.raises(ValueError, match="1 channels; it has colours: take a co"):
    network(_image(8, 8, 3))


def test_a_sensors_image_becomes_rgb(tmp_path):
  path = small.write_network(
    tmp_path / "net.safetensors", degradation={"name": "demosaic"}
  )
  network = semanir_jax.load(str(path))
  clean = _image(6, 8, 3)
  filled, _ = degradations.Demosaic()(np.random.default_rng(0), clean)
  expected = Restorer(network.model, network.params)(filled[None])[0]
  sensor = bayer.mosaic(clean).sum(axis=2, dtype=np.uint8)
  for mosaic in (sensor, sensor[..., None]):
    np.testing.assert_array_equal(network(mosaic), metrics.to_uint8(expected))
  floats = network(sensor / np.float32(255))
  np.testing.assert_allclose(floats, np.clip(expected, 0, 1), atol=1e-5)
  np.testing.assert_allclose(
    network(sensor.astype(np.uint16) * 257) / 65535.0, floats, atol=2e-5
  )
  assert network(clean).shape == clean.shape  # filled in already
  with pytest.raises(ValueError, match="even sides, not 5x8 px; crop it"):
    network(sensor[1:])


def test_options_reach_the_network(files):
  image = _image(24, 9, 3)
  network = semanir_jax.load(pathlib.Path(files["x2"]))
  whole = network(image)
  assert whole.shape == (48, 18, 3)
  for option in ({"num_keys": 1}, {"self_ensemble": True}):
    assert (semanir_jax.load(files["x2"], **option)(image) != whole).any()
  assert repr(network).startswith("<Network: ")
  assert "scale 2, RGB to RGB, window 4, k = 8; sides" in repr(network)
  assert "k = 1;" in repr(semanir_jax.load(files["x2"], num_keys=1))
  with pytest.raises(ValueError, match="tile=7 must be a multiple of 4"):
    semanir_jax.load(files["x2"], tile=7)
  with pytest.raises(ValueError, match="tile=64.0: give a whole number"):
    semanir_jax.load(files["x2"], tile=64.0)


def test_noise_may_exceed_black_and_white(files):
  image = np.random.default_rng(0).normal(0.5, 0.4, (8, 8, 3))
  image = image.astype(np.float32)
  assert image.min() < 0 and image.max() > 1
  network = semanir_jax.load(files["rgb"])
  expected = Restorer(network.model, network.params)(image[None])[0]
  np.testing.assert_allclose(network(image), np.clip(expected, 0, 1), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_network_of_nan_is_refused(files, monkeypatch, dtype, bad):
  monkeypatch.setattr(
    Restorer, "__call__", lambda self, images, **_: images + bad
  )
  network = semanir_jax.load(files["rgb"])
  message = "^the network returned NaN or infinity; use another checkpoint$"
  with pytest.raises(ValueError, match=message):
    network(np.zeros((8, 8, 3), dtype))


@pytest.mark.parametrize(
  ("image", "message"),
  [
    (np.zeros((4, 4, 3), np.float16), "image of float16"),
    (np.zeros((1, 4, 4, 3), np.uint8), r"shape \(1, 4, 4, 3\): .* one image"),
    (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
    (np.full((4, 4, 3), 2.5, np.float32), "values from 2.5 to 2.5"),
    (np.full((4, 4, 3), np.nan, np.float32), "has NaN"),
    (np.zeros((8, 8, 4), np.uint8), r"leave out alpha: image\[..., :3\]"),
    (np.zeros((4, 4), np.uint8), r"np.repeat\(image\[..., None\], 3, axis=2\)"),
    (np.zeros((4, 4, 1), np.uint8), r"repeat a gray one: np.repeat\(image, 3"),
    (np.zeros((3, 4, 4), np.uint8), "takes 3 channels; channels are the last"),
  ],
)
def test_images_that_do_not_fit_are_refused(files, image, message):
  with pytest.raises(ValueError, match=message):
    semanir_jax.load(files["rgb"])(image)
