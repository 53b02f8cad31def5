"""What a network says of pictures that it never saw the like of."""

import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from configs import all_in_one, photo
from semanir_jax.evaluation import metrics
from semanir_jax.images.image_file import read_image, write_image
from semanir_jax.images.lossy import lossy_coding
from semanir_jax.images.metadata import NO_METADATA
from semanir_jax.inference.restorer import Restorer
from semanir_jax.networks import learned, load
from semanir_jax.networks.learned import BUNDLED, Learned
from semanir_jax.restoration import hints, restore
from semanir_jax.restoration.pixel_formats import Picture
from semanir_jax.restoration.restore import restore_files
from tests import restoration_cases as cases
from tests import small

GRAY = small.USHAPE.clone(in_channels=1, out_channels=1)
NOISE = {"name": "noise", "sigma_255": [0, 50]}
FILES = NOISE | {"stored": 1.0}
JPEG = {"name": "jpeg", "quality": [10, 40]}
PHOTO = {"name": "photo"} | dict(photo.TRAINING)


@pytest.fixture
def _all_are_there(monkeypatch, tmp_path):
  """`photo_light` too, which may not be bundled yet."""
  folder = tmp_path / "pretrained"
  folder.mkdir()
  for name in BUNDLED:
    (folder / f"{name}.safetensors").touch()
  monkeypatch.setattr(load, "PRETRAINED", folder)


@pytest.mark.parametrize(
  ("degradation", "model", "expected"),
  [
    ({}, small.USHAPE, None),
    (NOISE, small.USHAPE, Learned(colour=True, noise=True)),
    (NOISE, GRAY, Learned(gray=True, noise=True)),
    (FILES, small.USHAPE, Learned(colour=True, noise=True, files=True)),
    (JPEG, small.USHAPE, Learned(colour=True, jpeg=True)),
    (PHOTO, small.USHAPE, BUNDLED["photo_light"]),
    (
      {"name": "photo", "read_255": 5.0},
      small.USHAPE,
      Learned(colour=True, noise=True, files=True),
    ),
    (
      {"name": "chain", "degradations": [NOISE, JPEG]},
      small.USHAPE,
      Learned(colour=True, noise=True, jpeg=True),
    ),
    (
      all_in_one.get_config().data.degradation.to_dict(),
      small.USHAPE,
      Learned(colour=True, noise=True, jpeg=True, mosaics=True),
    ),
    ({"name": "bicubic"}, small.COLUMNAR, Learned(colour=True, scale=2)),
  ],
)
def test_what_a_network_learned_from_is_in_its_config(
  degradation, model, expected
):
  network = small.network(model, {}, degradation=degradation)
  assert learned.learned_by(network) == expected


@pytest.mark.parametrize(
  "name", sorted(path.stem for path in load.PRETRAINED.glob("*.safetensors"))
)
def test_the_table_says_what_the_bundled_networks_learned_from(name):
  assert learned.learned_by(load.load_network(name)) == BUNDLED[name]


def test_only_a_network_that_is_there_is_named(monkeypatch, tmp_path):
  monkeypatch.setattr(load, "PRETRAINED", tmp_path)
  assert learned.find_bundled(jpeg=True) is None
  (tmp_path / "jpeg_color_light.safetensors").touch()
  assert learned.find_bundled(jpeg=True) == "jpeg_color_light"
  assert learned.find_bundled(jpeg=True, gray=True) is None
  (tmp_path / "photo_light.safetensors").touch()
  assert learned.find_bundled(jpeg=True) == "photo_light"


# Pictures: channels (1, "RGB" or "R=G=B"), lossy coding.
@pytest.mark.parametrize(
  ("degradation", "model", "kind", "lossy", "said"),
  [
    (FILES, small.USHAPE, "RGB", "", None),
    (FILES, small.USHAPE, "RGB", "JPEG", "photo_light learned from such"),
    (FILES, small.USHAPE, "R=G=B", "lossy WebP", "photo_light learned from"),
    (FILES, small.USHAPE, "R=G=B", "", "photo_light learned from gray"),
    (NOISE, small.USHAPE, "RGB", "", "denoise_files_light learned from that"),
    (NOISE, small.USHAPE, "gray", "", "photo_light learned from gray"),
    (NOISE, GRAY, "gray", "JPEG", "photo_light learned from such"),
    (NOISE, GRAY, "R=G=B", "", None),
    (JPEG, small.USHAPE, "RGB", "JPEG", None),
    (JPEG, small.USHAPE, "RGB", "", "denoise_files_light is for its noise"),
    (JPEG, small.USHAPE, "gray", "JPEG", "photo_light learned from gray"),
    (PHOTO, small.USHAPE, "RGB", "", None),
    (PHOTO, small.USHAPE, "RGB", "JPEG", None),
    (PHOTO, small.USHAPE, "gray", "JPEG", None),
    ({}, small.USHAPE, "gray", "JPEG", None),
    ({"name": "demosaic"}, small.USHAPE, "gray", "", None),
    ({"name": "demosaic"}, small.USHAPE, "R=G=B", "", "with one channel"),
    ({"name": "bicubic"}, small.COLUMNAR, "RGB", "", None),
    ({"name": "bicubic"}, small.COLUMNAR, "RGB", "JPEG", "photo_light first"),
  ],
)
def test_what_a_network_never_saw_is_said(
  _all_are_there, degradation, model, kind, lossy, said
):
  rng = np.random.default_rng(0)
  channels = 3 if kind == "RGB" else 1
  pixels = rng.integers(0, 255, (4, 4, channels), np.uint8)
  if kind == "R=G=B":
    pixels = np.repeat(pixels, 3, axis=2)
  picture = Picture("a", pixels, None, NO_METADATA, lossy=lossy)
  network = small.network(model, {}, degradation=degradation)
  hint = hints.find_hint(picture, network)
  assert (hint is None) == (said is None)
  if hint is not None:
    assert said in hint.text and "\n" not in hint.text


def test_16_bits_are_no_noise_of_files(_all_are_there):
  pixels = np.arange(48, dtype=np.uint16).reshape(4, 4, 3)
  picture = Picture("a", pixels, None, NO_METADATA)
  network = small.network(small.USHAPE, {}, degradation=NOISE)
  assert hints.find_hint(picture, network) is None


@pytest.mark.parametrize(
  ("name", "options", "expected"),
  [
    ("a.jpg", {}, "JPEG"),
    ("a.webp", {}, "lossy WebP"),
    ("a.webp", {"icc_profile": bytes(131)}, "lossy WebP"),
    ("a.webp", {"lossless": True}, ""),
    ("a.webp", {"lossless": True, "icc_profile": bytes(131)}, ""),
    ("a.tif", {}, ""),
    ("a.tif", {"compression": "jpeg"}, "JPEG"),
    ("a.tif", {"compression": "tiff_lzw"}, ""),
    ("a.png", {}, ""),
    ("a.bmp", {}, ""),
  ],
)
def test_lossy_files_are_known(tmp_path, name, options, expected):
  pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
  Image.fromarray(pixels).save(tmp_path / name, **options)
  assert lossy_coding((tmp_path / name).read_bytes()) == expected


def test_other_lossy_files_are_known_by_their_start():
  for brand, name in ((b"heic", "HEIC"), (b"avif", "AVIF"), (b"mif1", "HEIC")):
    assert lossy_coding(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0") == name


@pytest.fixture
def _quick_networks(monkeypatch):
  """Checkpoints "files" and "gray", that darken a little."""
  networks = {
    "files": small.network(small.USHAPE, degradation=FILES),
    "gray": small.network(GRAY, degradation=NOISE),
  }
  monkeypatch.setattr(restore, "load_network", networks.get)
  monkeypatch.setattr(
    Restorer, "__call__", lambda self, batch, **_: batch * 0.75
  )


def test_a_folder_says_it_once_for_each_kind(
  _all_are_there, _quick_networks, tmp_path, caplog
):
  folder = tmp_path / "in"
  folder.mkdir()
  for i in range(4):
    pixels = np.random.default_rng(i).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{i}.jpg")
    write_image(folder / f"9{i}.png", pixels if i < 2 else pixels[..., :1])
  restore_files("files", str(folder), str(tmp_path / "out"))
  lines = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
  assert lines == [
    f"{folder / '0.jpg'}: is a JPEG, and this network never saw what"
    " compression leaves; --checkpoint=photo_light learned from such files",
    f"{folder / '92.png'}: is gray, and this network saw colours alone;"
    " --checkpoint=photo_light learned from gray pictures",
    "JPEG: 4 of 8 images; the line about the first says what to do",
    "gray: 2 of 8 images; the line about the first says what to do",
  ]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_gray_network_takes_gray_that_is_stored_as_rgb(
  _quick_networks, tmp_path, suffix, dtype
):
  pixels = cases.write_random(tmp_path / f"a{suffix}", 8, 10, 1, dtype=dtype)
  stored = tmp_path / f"b{suffix}"
  write_image(stored, np.repeat(pixels, 3, axis=2))
  for path in (tmp_path / f"a{suffix}", stored):
    restore_files("gray", str(path), str(tmp_path / "out"))
  gray, rgb = (
    read_image(tmp_path / "out" / f"{name}{suffix}") for name in "ab"
  )
  assert rgb.shape == (8, 10, 3) and rgb.dtype == dtype
  np.testing.assert_array_equal(rgb, np.repeat(gray, 3, axis=2))


@pytest.mark.parametrize(
  ("suffix", "name"), [(".png", "denoise_files_light"), (".jpg", "photo_light")]
)
def test_colours_are_refused_with_the_name_of_a_network(
  _all_are_there, _quick_networks, tmp_path, suffix, name
):
  source = tmp_path / f"a{suffix}"
  cases.write_random(source, 8, 10, 3)
  message = cases.refused({"color": "gray"}, tmp_path, source=source)
  assert message == (
    f"{source}: is a colour image, but the network is of gray images; convert"
    " it to gray first, or use the checkpoint of a colour network, as"
    f" --checkpoint={name}"
  )


CASES = pathlib.Path(__file__).resolve().parents[2] / "shared" / "cases"


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason=f"needs the files of {CASES}")
def test_gray_that_is_stored_as_rgb_is_restored_as_gray(tmp_path):
  name = "gray_noise25_stored_as_RGB.png"
  jax.config.update("jax_disable_most_optimizations", False)
  try:
    restore_files("denoise_gray_light", str(CASES / name), str(tmp_path))
  finally:
    jax.config.update("jax_disable_most_optimizations", True)
  result = read_image(tmp_path / name)
  assert result.shape == (128, 128, 3)
  clean = np.repeat(read_image(CASES / "gray_clean.png"), 3, axis=2)
  assert metrics.psnr(result, clean) >= 28
