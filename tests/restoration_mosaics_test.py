"""A sensor's mosaics as image files, for networks that learned from mosaics."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from semanir_jax.degradations import bayer
from semanir_jax.evaluation import loop, metrics, test_sets
from semanir_jax.images.image_file import read_image, write_image
from semanir_jax.inference.restorer import Restorer
from semanir_jax.networks import load
from semanir_jax.restoration.restore import restore_files
from tests import png_files, small
from tests import restoration_cases as cases

pytestmark = pytest.mark.slow

MOSAICS = {"name": "demosaic"}


@pytest.fixture(scope="module")
def mosaic_network(tmp_path_factory) -> str:
  """A network of random weights that was trained on mosaics."""
  path = tmp_path_factory.mktemp("mosaics") / "net.safetensors"
  return str(small.write_network(path, degradation=MOSAICS))


def test_a_sensors_image_is_restored_as_the_evaluation_restores_it(
  mosaic_network, shared_data, tmp_path, caplog
):
  caplog.set_level("INFO")
  photograph = read_image(shared_data / "kodak24" / "kodim23.png")
  clean = photograph[200:216, 100:124]
  network = load.load_network(mosaic_network)
  model, params = network.model, network.params
  options = dict(base.test_set("kodak", ConfigDict(MOSAICS)))
  test_set = test_sets.TestSet("kodak", options, small.Images([clean]))
  examples = test_sets.examples(test_set, [0])
  protocol = base.get_config().eval.protocol
  (expected,) = loop.evaluate_set(
    Restorer(model, params), examples, protocol, batch_size=1
  )
  sensor = bayer.mosaic(clean).sum(axis=2, dtype=np.uint8)[..., None]
  write_image(tmp_path / "a.png", sensor)
  write_image(tmp_path / "deep.png", sensor.astype(np.uint16) * 257)
  write_image(tmp_path / "clean.png", clean)
  output = tmp_path / "out"
  for name in ("a.png", "deep.png"):
    restore_files(
      mosaic_network,
      str(tmp_path / name),
      str(output),
      reference=str(tmp_path / "clean.png"),
    )
  result = read_image(output / "a.png")
  np.testing.assert_array_equal(result, expected.after)
  deep = read_image(output / "deep.png")
  assert deep.dtype == np.uint16
  assert np.abs(deep / 257 - result).max() <= 0.51
  figures = metrics.psnr(result, clean), metrics.psnr(expected.before, clean)
  assert "a.png: PSNR {:.2f} dB (input {:.2f})".format(*figures) in caplog.text


def test_a_mosaic_that_is_filled_in_already_is_taken_as_it_is(
  mosaic_network, tmp_path
):
  pixels = cases.write_random(tmp_path / "a.png", 5, 7, 3)
  restore_files(mosaic_network, str(tmp_path / "a.png"), str(tmp_path / "out"))
  network = load.load_network(mosaic_network)
  model, params = network.model, network.params
  expected = Restorer(model, params)(pixels[None] / np.float32(255))[0]
  result = read_image(tmp_path / "out" / "a.png")
  np.testing.assert_array_equal(result, metrics.to_uint8(expected))


def test_a_mosaic_of_odd_sides_is_refused(mosaic_network, tmp_path):
  cases.write_random(tmp_path / "a.png", 6, 5, 1)
  message = cases.refused({"color": mosaic_network}, tmp_path)
  assert message.startswith(f"{tmp_path / 'a.png'}: an RGGB mosaic has even")


def test_a_mosaic_that_exif_turns_is_refused(mosaic_network, tmp_path):
  exif = Image.Exif()
  exif[274] = 3
  pixels = np.zeros((6, 8), np.uint8)
  Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
  message = cases.refused({"color": mosaic_network}, tmp_path)
  assert "a.png: is a mosaic with an EXIF orientation" in message


def test_a_mosaic_that_late_exif_turns_is_refused(mosaic_network, tmp_path):
  cases.write_random(tmp_path / "a.png", 6, 8, 1)
  png_files.add_late_exif(tmp_path / "a.png", {274: 3})
  message = cases.refused({"color": mosaic_network}, tmp_path)
  assert "a.png: is a mosaic with an EXIF orientation" in message


def test_a_turned_mosaic_is_refused(tmp_path):
  config = small.config().unlock()
  config.data.degradation = MOSAICS
  run = str(small.save_run(tmp_path / "run", config.lock()))
  cases.write_random(tmp_path / "a.png", 5, 5, 3)
  message = cases.refused(
    {"color": run}, tmp_path, self_ensemble=True, kind=ValueError
  )
  assert "leave out self_ensemble" in message
