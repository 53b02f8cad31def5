"""Modes, alpha, profiles and orientation of people's pictures."""

import io
import pathlib
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from semanir_jax.images import decoder, encoder, image_file
from semanir_jax.images.imresize import imresize
from semanir_jax.images.metadata import NO_METADATA, Metadata, read_metadata
from semanir_jax.models.semanir import SemanIR
from semanir_jax.restoration import pixel_formats, result_files
from semanir_jax.restoration.restore import restore_files
from tests import png_files, small
from tests.restoration_cases import random_pixels

pytestmark = pytest.mark.usefixtures("quick_networks")

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _picture(
  pixels: np.ndarray, alpha: np.ndarray | None = None
) -> pixel_formats.Picture:
  return pixel_formats.Picture("a.png", pixels, alpha, NO_METADATA)


def _palette(*shape: int, transparent: bool) -> Image.Image:
  image = Image.frombytes(
    "P", shape[::-1], (random_pixels(*shape) % 3).tobytes()
  )
  image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
  if transparent:
    image.info["transparency"] = bytes([255, 100, 0])
  return image


def _save(path: pathlib.Path, mode: str, side: int) -> None:
  """Writes a picture of `side` x `side + 3` px."""
  shape = (side, side + 3)
  if mode in ("P", "P+alpha"):
    _palette(*shape, transparent=mode == "P+alpha").save(path)
  elif mode == "1":
    Image.fromarray(random_pixels(*shape) > 127).save(path)
  else:
    kind, _, bits = mode.partition(";")
    pixels = random_pixels(
      *shape, len(kind), dtype=np.uint16 if bits == "16" else np.uint8
    )
    image_file.write_image(path, pixels)


# Name of a mode, suffix; channels of the result, alpha.
MODES = [
  ("1", ".png", 1, False),
  ("L", ".png", 1, False),
  ("L;16", ".tif", 1, False),
  ("LA", ".png", 1, True),
  ("LA;16", ".png", 1, True),
  ("P", ".png", 3, False),
  ("P+alpha", ".png", 3, True),
  ("RGB", ".jpg", 3, False),
  ("RGB", ".webp", 3, False),
  ("RGB;16", ".tiff", 3, False),
  ("RGBA", ".tif", 3, True),
  ("RGBA", ".webp", 3, True),
  ("RGBA;16", ".png", 3, True),
]
SIDES = (1, 2, 3, 5, 7, 8, 9, 16, 17, 31, 33, 64, 65)


@pytest.mark.parametrize(
  ("mode", "side"), [*zip(MODES, SIDES, strict=True)], ids=str
)
@pytest.mark.parametrize("scale", [1, 2])
def test_every_mode_and_size_keeps_its_kind(tmp_path, scale, mode, side):
  kind, suffix, channels, has_alpha = mode
  source = tmp_path / f"a{suffix}"
  _save(source, kind, side)
  restore_files(str(scale), str(source), str(tmp_path / "out"))
  lossless = ".png" if suffix == ".jpg" else suffix
  result, alpha = png_files.read_image_and_alpha(tmp_path / f"out/a{lossless}")
  assert result.shape == (scale * side, scale * (side + 3), channels)
  assert result.dtype == (np.uint16 if "16" in kind else np.uint8)
  assert (alpha is not None) == has_alpha
  if alpha is not None:
    _, before = png_files.read_image_and_alpha(source)
    top = np.iinfo(before.dtype).max
    floats = before.astype(float)
    expected = imresize(floats, scale, rounding="never").clip(0, top)
    np.testing.assert_allclose(alpha, expected, atol=0.501)
    assert np.ptp(alpha) > 0


def test_alpha_is_enlarged_as_8_bit_images_are():
  alpha = random_pixels(5, 7, 1)
  enlarged = result_files._scale_alpha(alpha, 3, np.dtype(np.uint8))
  np.testing.assert_array_equal(enlarged, imresize(alpha, 3, rounding="once"))
  for level, expected in ((65535, 255), (30000, 117)):
    flat = np.full((5, 7, 1), level, np.uint16)
    enlarged = result_files._scale_alpha(flat, 2, np.dtype(np.uint8))
    assert enlarged.shape == (10, 14, 1) and (enlarged == expected).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path, orientation):
  exif = Image.Exif()
  exif[274], exif[271] = orientation, "a camera"
  exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0xA002: 12}
  source = tmp_path / "a.png"
  Image.fromarray(random_pixels(4, 7, 3) // 2).save(source, exif=exif)
  restore_files("1", str(source), str(tmp_path / "out"))
  with (
    Image.open(source) as before,
    Image.open(tmp_path / "out/a.png") as after,
  ):
    upright = np.asarray(ImageOps.exif_transpose(before)).astype(int)
    assert np.abs(np.asarray(after) - upright).max() <= 3
    kept = after.getexif()
  assert 274 not in kept and kept[271] == "a camera"
  assert dict(kept.get_ifd(0x8769)) == {0x9003: "2020:01:02 03:04:05"}


@pytest.mark.parametrize(
  ("name", "output_format"),
  [
    ("a.png", None),
    ("a.png", "jpeg"),
    ("a.jpg", "tiff"),
    ("a.webp", None),
    ("a.tif", "webp"),
  ],
)
def test_profile_and_exif_are_carried(tmp_path, name, output_format):
  exif = Image.Exif()
  exif[274], exif[271] = 6, "a camera"
  source = tmp_path / name
  Image.fromarray(random_pixels(4, 7, 3)).save(
    source, icc_profile=PROFILE, exif=exif
  )
  restore_files(
    "1", str(source), str(tmp_path / "out"), output_format=output_format
  )
  (result,) = (tmp_path / "out").iterdir()
  with Image.open(result) as image:
    assert image.format.lower() == (output_format or source.suffix[1:])
    assert image.size == (4, 7)
    assert image.info["icc_profile"] == PROFILE
    assert image.getexif()[271] == "a camera"
    assert image.getexif().get(274, 1) == 1


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_16_bit_colour_png_carries_them_too(samples):
  exif = Image.Exif()
  exif[271] = "a camera"
  metadata = Metadata(PROFILE, exif.tobytes())
  image = random_pixels(5, 6, samples, dtype=np.uint16)
  data = encoder.encode(image, ".png", "a.png", metadata=metadata)
  parts = decoder.decode(data, "a.png")
  parts = [part for part in parts if part is not None]
  np.testing.assert_array_equal(np.concatenate(parts, axis=2), image)
  with Image.open(io.BytesIO(data)) as read:
    assert read.info["icc_profile"] == PROFILE
    assert read.getexif()[271] == "a camera"


def test_exif_behind_the_pixels_of_a_png_is_carried(tmp_path):
  source = tmp_path / "a.png"
  image_file.write_image(source, random_pixels(4, 7, 3))
  png_files.add_late_exif(source, {271: "a camera", 274: 6})
  restore_files("1", str(source), str(tmp_path / "out"))
  with Image.open(tmp_path / "out/a.png") as image:
    assert image.size == (4, 7)
    assert dict(image.getexif()) == {271: "a camera"}


SIZED = [
  '{"shape": [5, 7, 3]}',
  "ImageJ=1.54f\nimages=1\nunit=micron",
  '<?xml version="1.0"?><OME><Pixels SizeX="7" SizeY="5"/></OME>',
]


@pytest.mark.parametrize("text", [*SIZED, "a walk"])
def test_what_exif_says_of_size_is_dropped_or_enlarged(tmp_path, text):
  exif = Image.Exif()
  exif[270], exif[282], exif[283], exif[296] = text, 100.5, 50.25, 3
  exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0x9214: (3, 2)}
  source = tmp_path / "a.tif"
  Image.fromarray(random_pixels(5, 7, 3)).save(source, exif=exif.tobytes())
  for scale, kept in ((1, text), (2, None if text in SIZED else text)):
    output = tmp_path / f"x{scale}"
    restore_files(str(scale), str(source), str(output), output_format="webp")
    with Image.open(output / "a.webp") as image:
      found = image.getexif()
    assert found.get(270) == kept
    resolution = [float(found[tag]) for tag in (282, 283, 296)]
    assert resolution == [scale * 100.5, scale * 50.25, 3]
    # The place of the subject is in pixels too.
    assert dict(found.get_ifd(0x8769)) == {0x9003: "2020:01:02 03:04:05"}


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("output_format", ["png", "jpeg", "tiff", "bmp"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif"])
def test_the_resolution_of_a_scan_is_kept_or_enlarged(
  tmp_path, name, output_format, scale
):
  Image.fromarray(random_pixels(5, 7, 3)).save(tmp_path / name, dpi=(300, 150))
  result = _restored(tmp_path / name, scale, output_format)
  with Image.open(result) as image:
    dpi = image.info["dpi"]
  assert dpi == pytest.approx((300 * scale, 150 * scale), abs=0.04)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_the_resolution_is_turned_with_the_image(tmp_path, name):
  exif = Image.Exif()
  exif[274], exif[282], exif[283], exif[296] = 6, 300.0, 150.0, 2
  image = Image.fromarray(random_pixels(5, 7, 3))
  image.save(tmp_path / name, exif=exif, dpi=(300, 150))
  result = _restored(tmp_path / name, 1, "jpeg")
  with Image.open(result) as image:
    assert image.size == (5, 7)
    assert image.info["dpi"] == (150, 300)
    found = image.getexif()
  assert [float(found[tag]) for tag in (282, 283)] == [150, 300]


@pytest.mark.parametrize("output_format", ["png", "tiff"])
def test_the_resolution_of_a_scan_of_16_bits_is_enlarged(
  tmp_path, output_format
):
  image = random_pixels(5, 7, 3, dtype=np.uint16)
  metadata = Metadata(dpi=(300.0, 150.0))
  data = encoder.encode(image, ".png", "a.png", metadata=metadata)
  (tmp_path / "a.png").write_bytes(data)
  result = _restored(tmp_path / "a.png", 2, output_format)
  assert image_file.probe_image(result).bits == 16
  with Image.open(result) as image:
    assert image.info["dpi"] == pytest.approx((600, 300), abs=0.04)


def test_a_resolution_that_is_not_told_is_not_made_up(tmp_path):
  exif = Image.Exif()
  exif[271] = "a camera"
  for name, dpi in (("a.jpg", (0, 0)), ("b.tif", (1e-9, 1e-9))):
    image = Image.fromarray(random_pixels(5, 7, 3))
    image.save(tmp_path / name, exif=exif, dpi=dpi)
    assert read_metadata((tmp_path / name).read_bytes()).dpi is None
  image.save(tmp_path / "c.tif")
  assert read_metadata((tmp_path / "c.tif").read_bytes()).dpi is None
  assert Metadata(dpi=(40_000, 9_600)).enlarged(2).dpi is None


def _restored(
  source: pathlib.Path, scale: int, output_format: str
) -> pathlib.Path:
  output = source.parent / "out"
  restore_files(
    str(scale), str(source), str(output), output_format=output_format
  )
  (result,) = output.iterdir()
  return result


def test_a_resolution_too_fine_to_enlarge_is_left_out():
  exif = Image.Exif()
  exif[271], exif[282] = "a camera", 2**31
  enlarged = Metadata(exif=exif.tobytes()).enlarged(2)
  exif.load(enlarged.exif)
  assert dict(exif) == {271: "a camera"}


GAMMA, SRGB_GAMMA = ({b"gAMA": struct.pack(">I", g)} for g in (100_000, 45_000))
SRGB_CORNERS = [31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000]
CORNERS, WIDE_CORNERS = (
  {b"cHRM": struct.pack(">8I", *corners)}
  for corners in (SRGB_CORNERS, [*SRGB_CORNERS[:4], 21000, 71000, 15000, 6000])
)
SRGB = {b"sRGB": b"\0"}
HDR, CODED_SRGB = {b"cICP": bytes([9, 16, 0, 1])}, {b"cICP": b"\1\x0d\0\1"}


@pytest.mark.parametrize(
  ("chunks", "lost"),
  [
    (GAMMA, "gAMA"),
    (SRGB_GAMMA | CORNERS, ""),
    (SRGB_GAMMA | WIDE_CORNERS, "cHRM"),
    (GAMMA | WIDE_CORNERS, "gAMA, cHRM"),
    (GAMMA | SRGB, ""),
    ({b"cICP": bytes([1, 13, 0, 0])}, "cICP"),  # not the full range
    (GAMMA | HDR, "cICP"),
    (GAMMA | CODED_SRGB, ""),
    ({}, ""),
  ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_a_png_says_of_its_colours_is_kept_or_said_to_be_lost(
  tmp_path, caplog, chunks, lost, dtype
):
  source = tmp_path / "a.png"
  image_file.write_image(source, random_pixels(5, 7, 3, dtype=dtype))
  png_files.add_early(source, chunks)
  restore_files("1", str(source), str(tmp_path / "png"))
  data = (tmp_path / "png/a.png").read_bytes()
  before_pixels = data[: data.index(b"IDAT")]
  for kind, body in chunks.items():
    assert before_pixels.count(png_files.chunk(kind, body)) == 1
  assert "other colours" not in caplog.text
  restore_files("1", str(source), str(tmp_path / "o"), output_format="tiff")
  warning = f"a.png: {lost} of its PNG is not held by .tiff: the result will be"
  assert (warning in caplog.text) == bool(lost)
  assert ("other colours" in caplog.text) == bool(lost)


def test_a_colour_profile_stands_above_gamma_and_srgb():
  metadata = Metadata(PROFILE, png_colours=(*GAMMA.items(), *SRGB.items()))
  assert not metadata.colours_of_png_alone()
  for dtype in (np.uint8, np.uint16):
    pixels = random_pixels(5, 7, 3, dtype=dtype)
    data = encoder.encode(pixels, ".png", "a.png", metadata=metadata)
    assert b"gAMA" in data and b"iCCP" in data and b"sRGB\0" not in data


def test_a_profile_of_other_channels_is_left_out():
  gray = Metadata(PROFILE[:16] + b"GRAY" + PROFILE[20:])
  assert gray.for_channels(1) == gray
  assert gray.for_channels(3) == NO_METADATA
  assert Metadata(PROFILE).for_channels(3).icc_profile == PROFILE


def test_broken_exif_does_not_hide_a_picture(tmp_path):
  source = tmp_path / "a.jpg"
  # A negative resolution, which Pillow reads but cannot write.
  entry = struct.pack("<HHHIII", 1, 282, 10, 1, 26, 0)
  broken = b"Exif\0\0II*\0\x08\0\0\0" + entry + struct.pack("<ii", -1, 1)
  Image.fromarray(random_pixels(4, 7, 3)).save(source, exif=broken)
  assert read_metadata(source.read_bytes()) == NO_METADATA
  restore_files("1", str(source), str(tmp_path / "out"))
  assert image_file.read_image(tmp_path / "out/a.png").shape == (4, 7, 3)


def test_quality_is_that_of_the_file(tmp_path):
  source = tmp_path / "a.png"
  image_file.write_image(source, random_pixels(40, 40, 3))
  sizes = []
  for output_format, quality in (
    ("jpeg", 10),
    ("jpeg", None),
    ("jpeg", 100),
    ("webp", 10),
    ("webp", None),
  ):
    restore_files(
      "1",
      str(source),
      str(tmp_path / "out"),
      output_format=output_format,
      quality=quality,
      overwrite=True,
    )
    name = {"jpeg": "a.jpg", "webp": "a.webp"}[output_format]
    sizes.append((tmp_path / "out" / name).stat().st_size)
  assert sizes[0] < sizes[1] < sizes[2] and sizes[3] < sizes[4]


def test_16_bits_become_8_where_a_format_has_no_more(tmp_path):
  source = tmp_path / "a.png"
  image_file.write_image(source, random_pixels(6, 5, 4, dtype=np.uint16))
  restore_files("1", str(source), str(tmp_path / "out"), output_format="webp")
  colour, alpha = png_files.read_image_and_alpha(tmp_path / "out/a.webp")
  _, before = png_files.read_image_and_alpha(source)
  assert colour.dtype == np.uint8
  np.testing.assert_allclose(alpha, before / 257, atol=0.501)


@pytest.mark.parametrize(
  ("pixels", "alpha", "suffix", "scale", "message"),
  [
    (
      random_pixels(2, 2, 3),
      random_pixels(2, 2, 1),
      ".jpg",
      1,
      "a.png: has transparent",
    ),
    (
      random_pixels(2, 2, 1),
      random_pixels(2, 2, 1),
      ".bmp",
      1,
      "which .bmp does not hold",
    ),
    (
      random_pixels(2, 2, 3, dtype=np.uint16),
      random_pixels(2, 2, 1, dtype=np.uint16),
      ".tif",
      1,
      "16-bit TIFF with alpha is not written; use --format=png",
    ),
    (
      random_pixels(1, 5000, 3),
      None,
      ".webp",
      4,
      "4x20000 px is too large for",
    ),
  ],
)
def test_what_a_format_cannot_hold_is_refused(
  pixels, alpha, suffix, scale, message
):
  with pytest.raises(image_file.ImageError) as error:
    pixel_formats.fit_to_format(_picture(pixels, alpha), suffix, scale)
  assert message in str(error.value)


def test_opaque_alpha_is_dropped_only_where_it_must():
  picture = _picture(random_pixels(2, 2, 3), np.full((2, 2, 1), 255, np.uint8))
  assert pixel_formats.fit_to_format(picture, ".jpg", 1).alpha is None
  assert pixel_formats.fit_to_format(picture, ".png", 1) is picture


def test_channels_of_networks_that_add_colour_are_the_networks():
  gray = _picture(random_pixels(4, 6, 1))
  for ins, outs, channels in ((1, 1, 1), (3, 3, 1), (1, 3, 3)):
    model = SemanIR(in_channels=ins, out_channels=outs, scale=2)
    network = small.network(model, {})
    assert pixel_formats.result_shape(gray, network) == (8, 12, channels)
