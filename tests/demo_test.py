"""The web demo in a real browser."""

import importlib.util
import os
import pathlib
import urllib.request

import numpy as np
import pytest

import semanir_jax
from semanir_jax import degradations
from semanir_jax.evaluation import metrics
from semanir_jax.images.image_file import decode_image, read_image, write_image
from tests import small

pytestmark = pytest.mark.slow

SUPER_RESOLUTION = {
  "model__architecture": "columnar",
  "model__scale": 2,
  "model__depths": (1,),
  "model__max_keys": 12,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  """With two networks and a picture."""
  folder = tmp_path_factory.mktemp("demo")
  for name, changes in {"noise": {}, "x2": SUPER_RESOLUTION}.items():
    small.write_network(folder / f"{name}.safetensors", **changes)
  rng = np.random.default_rng(0)
  write_image(folder / "a.png", rng.integers(0, 255, (40, 64, 3), np.uint8))
  return folder


@pytest.fixture(scope="module")
def page(folder):
  """The demo in a browser; the gate does without it no more than users."""
  packages = [p for p in ("gradio", "selenium") if not _installed(p)]
  reason = f"requirements_demo.txt is not installed: {packages}"
  if not packages:
    from tests import browser

    reason = browser.missing()
  if reason is not None:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
  networks = [str(folder / f"{name}.safetensors") for name in ("noise", "x2")]
  environment = {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "8",  # as here, for equal sums
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
  }
  (folder / "browser").mkdir()
  with browser.open_page(
    [",".join(networks)], folder / "browser", environment=environment
  ) as page:
    yield page


def _installed(package: str) -> bool:
  return importlib.util.find_spec(package) is not None


def _fetched(address: str) -> np.ndarray:
  """Pixels of a picture that the page shows."""
  with urllib.request.urlopen(address) as response:
    return decode_image(response.read(), address)


def test_a_picture_is_restored_shown_and_downloaded(page, folder):
  page.use(str(folder / "noise.safetensors"), "the size of the picture")
  page.upload(folder / "a.png")
  report = page.restore()
  assert report.startswith("64x40 px, 8 bits, in ") and "PSNR" not in report
  pixels = read_image(folder / "a.png")
  expected = semanir_jax.load(str(folder / "noise.safetensors"))(pixels)
  before, after = page.images()
  np.testing.assert_array_equal(_fetched(before), pixels)
  np.testing.assert_array_equal(_fetched(after), expected)
  page.press("Download PNG")
  downloaded = folder / "browser" / "a_restored.png"
  page.until(downloaded.exists)
  np.testing.assert_array_equal(read_image(downloaded), expected)


def test_the_divider_follows_the_mouse(page, folder):
  from selenium.webdriver import ActionChains

  if not page.images():
    page.upload(folder / "a.png")
    page.restore()
  divider = page.find("[data-testid=slider]")
  after = page.find("img[data-testid=imageslider-image].fixed")
  place, shown = divider.rect["x"], after.value_of_css_property("clip-path")
  assert "50%" in shown
  chain = ActionChains(page.driver)
  chain.drag_and_drop_by_offset(divider, -150, 0).perform()
  page.until(lambda: abs(divider.rect["x"] - place + 150) < 3)
  assert after.value_of_css_property("clip-path") != shown


def test_a_damaged_file_is_told_in_the_page(page, folder):
  damaged = folder / "damaged.png"
  damaged.write_bytes((folder / "a.png").read_bytes()[:200])
  page.upload(damaged)
  page.press("Restore")
  message = page.find(".toast-body")
  assert "damaged.png: " in message.text
  assert "replace or remove the file" in message.text
  assert "/" not in message.text  # no folder of the server
  page.find(".toast-close").click()
  page.until(
    lambda: not page.driver.find_elements("css selector", ".toast-body")
  )


def test_a_picture_degraded_first_is_compared_with_the_clean_one(page, folder):
  page.use(str(folder / "noise.safetensors"), "the size of the picture")
  page.upload(folder / "a.png")
  page.choose("Degrade the picture first?", "add noise")
  slider = page.find("input[aria-label^='number input for Sigma']")
  assert slider.get_property("value") == "25"  # of 0 to 50
  report = page.restore()
  clean = read_image(folder / "a.png")
  noise = degradations.make("noise", sigma_255=25)
  lq, _ = noise(np.random.RandomState(0), clean)
  before, after = map(_fetched, page.images())
  np.testing.assert_array_equal(before, metrics.to_uint8(lq))
  decibel = [metrics.psnr(image, clean) for image in (before, after)]
  assert "PSNR {:.2f} dB before, {:.2f} dB after".format(*decibel) in report


def test_another_network_brings_its_own_choices(page, folder):
  page.use(str(folder / "x2.safetensors"), "2 times as wide and high")
  k = page.find("input[type=range][aria-label^='range slider for k']")
  page.until(lambda: k.get_attribute("max") == "12")


def test_the_page_asks_no_other_host(page):
  # Of this page since it was opened, by whatever the tests before did.
  assert page.hosts() == {page.address.split("/")[2]}
