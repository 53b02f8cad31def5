"""Black and white levels: of numbers, and of files of 10, 12 and 14 bits."""

import pathlib

import jax
import numpy as np
import pytest

import semanir_jax
from semanir_jax.degradations import bayer
from semanir_jax.evaluation import metrics
from semanir_jax.images import color
from semanir_jax.images.image_file import read_image, write_image
from semanir_jax.images.level_range import (
  FULL_RANGE,
  LevelRange,
  unsaid_white_level,
)
from semanir_jax.inference.restorer import Restorer
from semanir_jax.restoration import restore
from semanir_jax.restoration.restore import restore_files
from tests import restoration_cases as cases
from tests import small

CASES = pathlib.Path(__file__).resolve().parents[2] / "shared" / "cases"


def _integers(low: int, high: int, *shape: int, dtype=np.uint16) -> np.ndarray:
  rng = np.random.default_rng(0)
  pixels = rng.integers(low, high, shape, dtype, endpoint=True)
  pixels.flat[:2] = low, high
  return pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_without_levels_integers_are_mapped_as_ever(dtype):
  pixels = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
  unit = FULL_RANGE.to_unit(pixels)
  np.testing.assert_array_equal(unit, color.to_unit(pixels))
  np.testing.assert_array_equal(FULL_RANGE.from_unit(unit, dtype), pixels)
  wide = np.linspace(-1, 2, 1001, dtype=np.float32)
  expected = np.rint(np.clip(wide, 0, 1) * np.float32(np.iinfo(dtype).max))
  np.testing.assert_array_equal(FULL_RANGE.from_unit(wide, dtype), expected)


@pytest.mark.parametrize(
  ("black", "white"), [(0, 1023), (64, 1023), (512, 15_300), (None, 4095)]
)
def test_levels_go_to_0_and_1_and_back(black, white):
  given = LevelRange(black, white)
  pixels = np.arange(white + 1, dtype=np.uint16)
  exact = (pixels.astype(float) - (black or 0)) / (white - (black or 0))
  np.testing.assert_allclose(given.to_unit(pixels), exact, atol=1e-6)
  span = given.span(pixels)
  assert span == (0, white)  # what lies below black stays there
  back = given.from_unit(given.to_unit(pixels), np.uint16, span)
  np.testing.assert_array_equal(back, pixels)
  clipped = given.from_unit(np.float32([-9, 9]), np.uint16)
  assert clipped.tolist() == [black or 0, white]
  rounded = np.floor(exact.clip(0, 1) * 255 + 0.5)
  assert np.abs(given.to_8_bits(pixels) - rounded).max() <= 1
  assert (given.to_8_bits(pixels) != rounded).mean() < 0.01  # halves


def test_a_result_goes_as_far_beyond_the_levels_as_its_input():
  given = LevelRange(64, 1000)
  assert given.span(np.uint16([100, 900])) == (64, 1000)
  assert given.span(np.uint16([30, 1023])) == (30, 1023)
  assert FULL_RANGE.span(np.uint16([30, 1023])) == (0, 65535)


@pytest.mark.parametrize(
  ("levels", "message"),
  [
    ((5, 5), "^black_level=5 is not below white_level=5; give the"),
    ((None, 0), "^black_level=0 is not below white_level=0; give the"),
    ((65_535, None), "is not below white_level=65535"),
    ((0, 65_536), "^white_level=65536: give a whole number from 0 to 65535"),
    ((-1, 100), "^black_level=-1: give a whole number"),
    ((None, 0.5), "^white_level=0.5: give a whole number"),
  ],
)
def test_levels_that_are_none_are_refused(levels, message):
  with pytest.raises(ValueError, match=message):
    LevelRange(*levels)


@pytest.mark.parametrize(
  ("levels", "pixels", "message"),
  [
    ((0, 1023), np.uint8([0, 255]), "white_level=1023 is above 255, the most"),
    ((255, None), np.uint8([0, 255]), "black_level=255 is not below white_l"),
    ((0, 1023), np.uint16([0, 4095]), "has the value 4095, far from black_"),
    ((900, 1023), np.uint16([0, 1000]), "has the value 0, far from black_lev"),
  ],
)
def test_levels_that_a_file_contradicts_are_refused(levels, pixels, message):
  with pytest.raises(ValueError, match=message):
    LevelRange(*levels).check(pixels)
  LevelRange(0, 200).check(np.uint8([0, 255]))


@pytest.mark.parametrize(
  ("largest", "white"),
  [
    (0, None),
    (255, 255),
    (256, 1023),
    (1023, 1023),
    (1024, 4095),
    (16_383, 16_383),
    (16_384, None),
    (65_535, None),
  ],
)
def test_bits_that_are_not_used_are_seen(largest, white):
  assert unsaid_white_level(np.uint16([0, largest])) == white
  assert unsaid_white_level(np.uint8([0, largest % 256])) is None


@pytest.fixture
def _quick_networks(monkeypatch):
  """Checkpoints "rgb" and "mosaic", that darken a little."""
  degradation = {"rgb": {}, "mosaic": {"name": "demosaic"}}
  monkeypatch.setattr(
    restore,
    "load_network",
    lambda name: small.network(small.USHAPE, degradation=degradation[name]),
  )
  monkeypatch.setattr(
    Restorer, "__call__", lambda self, batch, **_: batch * 0.75 - 0.01
  )


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("network", ["rgb", "mosaic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_results_have_the_levels_of_their_input(
  _quick_networks, tmp_path, caplog, network, channels, suffix
):
  pixels = _integers(40, 1023, 8, 12, channels)
  source = tmp_path / f"a{suffix}"
  write_image(source, pixels)
  given = LevelRange(64, 1023)
  restore_files(network, str(source), str(tmp_path / "out"), level_range=given)
  unit = (pixels.astype(float) - 64) / (1023 - 64)
  if network == "mosaic" and channels == 1:
    unit = bayer.malvar(unit[..., 0].astype(np.float32))
  expected = np.clip((unit * 0.75 - 0.01) * (1023 - 64) + 64, 40, 1023)
  result = read_image(tmp_path / "out" / source.name)
  assert result.dtype == np.uint16 and result.shape == expected.shape
  assert np.abs(result - expected).max() <= 0.51
  assert "bits" not in caplog.text


def test_8_bits_that_are_made_of_10_go_from_0_to_255(
  _quick_networks, tmp_path, caplog
):
  pixels = _integers(0, 1023, 8, 12, 3)
  write_image(tmp_path / "a.png", pixels)
  restore_files(
    "rgb",
    str(tmp_path / "a.png"),
    str(tmp_path / "a.webp"),
    level_range=LevelRange(white=1023),
  )
  expected = np.clip(pixels / 1023 * 0.75 - 0.01, 0, 1) * 255
  assert np.abs(read_image(tmp_path / "a.webp") - expected).max() <= 0.51
  assert "of its 16 bits .webp keeps 8, 0 to 1023 as 0 to 255;" in caplog.text


def test_a_file_whose_bits_are_not_used_is_told(
  _quick_networks, tmp_path, caplog
):
  (tmp_path / "in").mkdir()
  for name, high in {"a": 1023, "b": 4095, "c": 65_535, "d": 4000}.items():
    write_image(tmp_path / "in" / f"{name}.png", _integers(0, high, 4, 4, 3))
  restore_files("rgb", str(tmp_path / "in"), str(tmp_path / "out"))
  told = [line for line in caplog.messages if "--white_level" in line]
  assert [line.partition(": ")[0][-5:] for line in told] == [
    "a.png",
    "b.png",
    "d.png",
  ]
  assert told[0].endswith(
    "a.png: no value of its 16 bits needs more than 10 bits (the largest is"
    " 1023); if its white is 1023, give --white_level=1023"
  )
  assert told[2].endswith("give --white_level=4095")


def test_a_comparison_is_of_the_levels(_quick_networks, tmp_path, caplog):
  caplog.set_level("INFO")
  clean = _integers(0, 255, 16, 16, 3, dtype=np.uint8)
  tenths = np.rint(clean / 255.0 * 1023).astype(np.uint16)
  write_image(tmp_path / "a.png", tenths)
  write_image(tmp_path / "clean_8.png", clean)
  write_image(tmp_path / "clean_10.png", tenths)
  figures = set()
  for name in ("clean_8", "clean_10"):
    restore_files(
      "rgb",
      str(tmp_path / "a.png"),
      str(tmp_path / name),
      reference=str(tmp_path / f"{name}.png"),
      level_range=LevelRange(white=1023),
    )
    figures.add(caplog.messages[-3])
  (line,) = figures
  after = metrics.to_uint8(clean / np.float32(255) * 0.75 - 0.01)
  found = float(line.partition("PSNR ")[2].split()[0])
  assert found == pytest.approx(metrics.psnr(after, clean), abs=0.1)
  assert "(input inf)" in line


def test_a_file_that_contradicts_the_levels_is_refused(
  _quick_networks, tmp_path
):
  cases.write_random(tmp_path / "a.png", 4, 4, 3)
  given = LevelRange(white=1023)
  message = cases.refused({"color": "rgb"}, tmp_path, level_range=given)
  assert message.startswith(f"{tmp_path / 'a.png'}: white_level=1023 is above")


def test_arrays_have_levels_too(tmp_path):
  path = small.write_network(tmp_path / "net.safetensors")
  network = semanir_jax.load(path)
  floats = np.random.default_rng(0).random((8, 8, 3), np.float32)
  expected = network(floats)
  tenths = np.rint(64 + floats * 900).astype(np.uint16)
  result = network(tenths, black_level=64, white_level=964)
  np.testing.assert_allclose((result - 64.0) / 900, expected, atol=4e-3)
  with pytest.warns(UserWarning, match="10 bits .* give white_level=1023"):
    network(tenths)
  with pytest.raises(ValueError, match="levels are of integers; of floats"):
    network(floats, white_level=1)
  with pytest.raises(ValueError, match="white_level=964 is above 255"):
    network(np.zeros((8, 8, 3), np.uint8), white_level=964)


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason=f"needs the files of {CASES}")
@pytest.mark.parametrize(
  ("name", "network", "crop_px", "at_16_bits"),
  [
    ("mosaic_10bit_in_16.png", "demosaic_light", 10, 41.37),
    ("rgb_noise25_10bit_in_16.png", "denoise_files_light", 0, 33.00),
  ],
)
def test_10_bits_are_restored_as_16_are(
  tmp_path, name, network, crop_px, at_16_bits
):
  jax.config.update("jax_disable_most_optimizations", False)
  try:
    source = str(CASES / name)
    given = LevelRange(white=1023)
    restore_files(network, source, str(tmp_path), level_range=given)
  finally:
    jax.config.update("jax_disable_most_optimizations", True)
  result = read_image(tmp_path / name)
  assert result.max() <= 1023
  clean = read_image(CASES / "photo_noise25_clean.png")
  found = metrics.to_uint8(result / np.float32(1023))
  decibel = metrics.psnr(found, clean, crop_px=crop_px)
  assert decibel == pytest.approx(at_16_bits, abs=0.05)
