"""People's own photographs, through the network that `restore.py` takes."""

import pathlib

import jax
import numpy as np
import pytest
from absl import flags

from semanir_jax.commands import restore as _program  # noqa: F401, its flags
from semanir_jax.evaluation import metrics
from semanir_jax.images.image_file import read_image
from semanir_jax.restoration import restore

pytestmark = pytest.mark.slow

CASES = pathlib.Path(__file__).resolve().parents[2] / "shared" / "cases"


@pytest.fixture(scope="module", autouse=True)
def optimized():
  """These tests compute more than they compile, unlike others (conftest.py)."""
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", True)


def _restore(name, folder, network=""):
  """Restores a case, by default as the README does first: its path."""
  if not (CASES / name).is_file():
    pytest.skip(f"needs {CASES / name}")
  network = network or flags.FLAGS["checkpoint"].default
  restore.restore_files(network, str(CASES / name), str(folder))
  (result,) = folder.iterdir()
  return result


def test_a_noisy_jpeg_of_a_phone_comes_out_clean(tmp_path):
  result = _restore("photo_noise25_jpeg_q92_420.jpg", tmp_path / "restored")
  clean = read_image(CASES / "photo_noise25_clean.png")
  # Of 23.31 dB.
  assert metrics.psnr(read_image(result), clean) > 31.0


@pytest.mark.parametrize(
  "name", ["gray_noise25_L.png", "gray_noise25_stored_as_RGB.png"]
)
def test_a_gray_picture_stays_gray_and_comes_out_clean(tmp_path, name):
  result = read_image(_restore(name, tmp_path / "restored"))
  assert result.shape[2] == (1 if "_L" in name else 3)
  np.testing.assert_array_equal(result, result[..., :1] + 0 * result)
  clean = read_image(CASES / "gray_clean.png")
  # Of 21.04 dB.
  assert metrics.psnr(result[..., :1], clean) > 28.0


def test_a_clean_photograph_is_left_alone(tmp_path):
  name = "photo_noise25_clean.png"
  result = read_image(_restore(name, tmp_path / "restored"))
  assert metrics.psnr(result, read_image(CASES / name)) > 40.0


def test_flat_saturated_colours_of_a_jpeg_stay_what_they_were(tmp_path):
  name = "flat_saturated_chips_q30.jpg"
  path = _restore(name, tmp_path / "restored", "jpeg_color_light")
  clean = read_image(CASES / "flat_saturated_chips_clean.png")
  before = metrics.psnr(read_image(CASES / name), clean)
  # 22.36 dB, before graphics were among its training patches.
  assert metrics.psnr(read_image(path), clean) > before
