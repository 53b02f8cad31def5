"""The study of photographs: its table is that of direct measurements."""

import csv
import functools
import importlib
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

import semanir_jax
from configs import base, photo
from semanir_jax.degradations import make
from semanir_jax.evaluation import metrics
from semanir_jax.images.image_file import write_image
from semanir_jax.networks import build, checkpoint
from semanir_jax.networks.safetensors_file import write_weights
from studies import classical, measuring, photographs

_CROP = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A folder with a network, `net.safetensors`, and the set `photos/val`."""
  folder = tmp_path_factory.mktemp("photographs")
  (folder / "photos" / "val").mkdir(parents=True)
  rng = np.random.RandomState(0)
  for index in range(24):
    pixels = rng.randint(64, 192, (32, 40, 3)).astype(np.uint8)
    write_image(folder / "photos" / "val" / f"{index:02}.png", pixels)
  config = base.get_config("smoke")
  model = build.make_model(config.model)
  write_weights(
    folder / "net.safetensors",
    measuring.random_params(model),
    checkpoint.config_to_json(config),
  )
  return folder


def _halved(image: np.ndarray) -> np.ndarray:
  return image // 2


@pytest.fixture
def run(place, monkeypatch, tmp_path):
  """The study on two images, of the network and of a filter."""
  monkeypatch.setattr(
    classical, "FILTERS", {"halved": (_halved, "numpy", "numpy")}
  )
  monkeypatch.setattr(photographs, "_PICTURE_PX", _CROP)
  return functools.partial(
    photographs.study,
    tmp_path,
    data_dir=str(place),
    set_name="photos",
    rows=("clean", "shared_s25"),
    methods=(str(place / "net.safetensors"), "halved"),
    max_images=2,
    crop_px=_CROP,
  )


def test_the_table_has_the_means_of_direct_measurements(
  run, place, tmp_path
) -> None:
  table = run()
  network = semanir_jax.load(str(place / "net.safetensors"))
  for row, sigma, form in zip(
    table, (0.0, 25.0), ("independent", "shared"), strict=True
  ):
    degradation = make(**photo.stored_noise(sigma, form).to_dict())
    scores = []
    for name in ("00", "01"):
      path = place / "photos" / "val" / f"{name}.png"
      clean = np.asarray(Image.open(path))[4:28, 8:32]
      lq, _ = degradation(np.random.RandomState(0), clean)
      noisy = metrics.to_uint8(lq)
      results = noisy, network(noisy), noisy // 2
      scores.append([metrics.psnr(result, clean) for result in results])
    assert row["images"] == 2
    means = [row["input"], row["net"], row["halved"]]
    np.testing.assert_allclose(means, np.mean(scores, axis=0), atol=1e-6)
  assert [row["row"] for row in table] == ["clean", "shared_s25"]
  with open(tmp_path / "table.csv", newline="") as file:
    assert [line["row"] for line in csv.DictReader(file)] == [
      "clean",
      "shared_s25",
    ]
  lines = (tmp_path / "table.md").read_text().splitlines()
  assert lines[0] == "| row | images | input | net | halved |"
  assert lines[2].startswith("| clean | 2 | equal | ")
  assert "**" in lines[2] and "middles of 24 px" in lines[-1]
  with Image.open(tmp_path / "pictures.png") as picture:
    assert picture.size == (4 * _CROP, 2 * (_CROP + 14))


def test_what_is_measured_is_not_measured_again(run, monkeypatch) -> None:
  measured = []
  measure = photographs._measure

  def count(method, one):
    measured.append((method.name, one.name))
    if len(measured) == 3:
      raise KeyboardInterrupt
    return measure(method, one)

  monkeypatch.setattr(photographs, "_measure", count)
  with pytest.raises(KeyboardInterrupt):
    run()
  first = run()
  assert len(measured) == 3 + 8 - 2  # the third was lost
  assert run() == first and len(measured) == 9
  run(max_images=3)
  assert len(measured) == 9 + 4
  run(crop_px=16)
  assert len(measured) == 13 + 8


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"rows": ["shared"]}, "photos_shared: .* no such test; .* shared_s25"),
    ({"set_name": "set5"}, "set5_clean: .* kodak24, cbsd68 or photos"),
  ],
)
def test_unknown_tests_are_refused(run, options, message) -> None:
  with pytest.raises(ValueError, match=message) as refusal:
    run(**options)
  assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
  ("name", "module", "package"),
  [
    ("opencv_nlm", "cv2", "opencv-python-headless"),
    ("skimage_wavelet", "pywt", "PyWavelets"),
    ("skimage_nlm", "skimage.restoration", "scikit-image"),
    ("bm3d", "bm3d", "bm3d"),
  ],
)
def test_a_package_that_is_missing_is_named(
  monkeypatch, name: str, module: str, package: str
) -> None:
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(
    ValueError, match=f"{package} is not installed; pip install {package},"
  ):
    classical.open_filter(name)


@pytest.mark.parametrize("name", classical.FILTERS)
def test_the_filters_denoise_as_strongly_as_there_is_noise(name: str) -> None:
  for module in (classical.FILTERS[name][1], "pywt"):
    if importlib.util.find_spec(module.partition(".")[0]) is None:
      pytest.skip(f"{module} is not installed")
  run, made_by = classical.open_filter(name)
  assert made_by.rpartition(" ")[2][0].isdigit()
  y, x = np.mgrid[:48, :56]
  planes = [60 + 2 * y, np.where(x > 28, 180, 70), 60 + 2 * x]
  clean = np.stack(planes, axis=-1).astype(np.uint8)
  for sigma, gain in ((10.0, 1.0), (30.0, 4.0)):
    lq, _ = make("photo", read_255=sigma)(np.random.RandomState(0), clean)
    noisy = metrics.to_uint8(lq)
    before = noisy.copy()
    result = run(noisy)
    assert result.dtype == np.uint8 and result.shape == clean.shape
    np.testing.assert_array_equal(noisy, before)
    gained = metrics.psnr(result, clean) - metrics.psnr(noisy, clean)
    assert gained > gain
  # Hardly anything changes where there is no noise.
  assert metrics.psnr(run(clean), clean) > 35
