"""Kinds of image files: told by their bytes, read whole, or refused by name."""

import io
import pathlib
import struct
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from semanir_jax.data import sources
from semanir_jax.images import claims, decoder, image_file, tiff_header
from semanir_jax.images.image_file import ImageError
from semanir_jax.images.metadata import read_metadata
from semanir_jax.restoration import pixel_formats, planning
from tests import image_fuzz, png_files

CASES = pathlib.Path(__file__).resolve().parents[2] / "shared" / "cases"


def _random(*shape: int, dtype: type = np.uint8) -> np.ndarray:
  rng = np.random.default_rng(0)
  return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _saved(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def _tiff(pixels: np.ndarray, **options) -> bytes:
  """Encodes `[H, W, C]` by tifffile."""
  import tifffile

  if options.get("planarconfig") == "separate":
    pixels = np.moveaxis(pixels, -1, 0)
  file = io.BytesIO()
  tifffile.imwrite(file, pixels, metadata=None, **options)
  return file.getvalue()


def _refusal(data: bytes, name: str = "a.tif") -> str:
  """What is said of a file, by its header alone as by its pixels."""
  lines = []
  for read in (
    lambda: decoder.inspect(io.BytesIO(data), name),
    lambda: image_file.decode_image(data, name),
  ):
    with pytest.raises(ImageError) as error:
      read()
    lines.append(str(error.value))
  assert lines[0] == lines[1]
  assert "\n" not in lines[0]
  return lines[0].removeprefix(f"{name}: ")


# Samples per pixel, what those beside the colours are, photometric.
_EXTRA = {
  "gray and one": (2, ("unspecified",), "minisblack"),
  "RGB and one": (4, ("unspecified",), "rgb"),
  "RGB and two": (5, ("unspecified", "unspecified"), "rgb"),
  "alpha and a spot colour": (5, ("unassalpha", "unspecified"), "rgb"),
  "gray, alpha and one": (3, ("unassalpha", "unspecified"), "minisblack"),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("packing", [None, "lzw"])
@pytest.mark.parametrize("case", _EXTRA)
def test_samples_beside_the_colours_are_never_dropped(
  case, packing, planes, dtype
):
  samples, kinds, photometric = _EXTRA[case]
  data = _tiff(
    _random(6, 7, samples, dtype=dtype),
    photometric=photometric,
    extrasamples=kinds,
    planarconfig=planes,
    compression=packing,
  )
  colours, num = ("RGB", 3) if photometric == "rgb" else ("gray", 1)
  assert _refusal(data) == (
    f"TIFF of {colours}+{samples - num} samples per pixel (near infrared, a"
    f" spot colour, ...), which would be lost: save a copy of the {colours}"
    " alone"
  )


def test_every_reader_refuses_samples_beside_the_colours(tmp_path):
  path = tmp_path / "in" / "a.tif"
  path.parent.mkdir()
  pixels = _random(6, 7, 4)
  path.write_bytes(
    _tiff(pixels, photometric="rgb", extrasamples=("unspecified",))
  )
  for read in (
    image_file.read_image,
    image_file.probe_image,
    pixel_formats.read_picture,
    lambda path: sources.ImageFolder(path.parent),
  ):
    with pytest.raises(ImageError, match=r"a.tif: TIFF of RGB\+1 samples"):
      read(path)


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("packing", [None, "lzw"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_all_that_is_read_of_8_bit_tiff_is_exact(channels, packing, planes):
  pixels = _random(6, 7, channels)
  if channels == 1:
    pixels = pixels[..., 0]
  options = {"planarconfig": planes} if channels > 2 else {}
  data = _tiff(
    pixels,
    photometric="rgb" if channels > 2 else "minisblack",
    extrasamples=("unassalpha",) if channels in (2, 4) else (),
    compression=packing,
    **options,
  )
  colours, alpha = decoder.decode(data, "a.tif")
  back = colours if alpha is None else np.concatenate([colours, alpha], axis=2)
  np.testing.assert_array_equal(back, pixels.reshape(6, 7, channels))


@pytest.mark.parametrize(
  ("dtype", "message"),
  [
    (np.int8, "TIFF of signed samples: save it with unsigned ones"),
    (np.int16, "TIFF of signed samples: save it with unsigned ones"),
    (np.float16, "TIFF of floating-point samples: save it with unsigned"),
    (np.float32, "TIFF of floating-point samples: save it with unsigned"),
    (np.uint32, "TIFF of 32 bits per sample: save it with 8 or 16"),
    (np.complex64, "TIFF of complex samples: save it with unsigned"),
  ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_other_samples_is_refused_by_name(channels, dtype, message):
  pixels = np.ones((4, 5, channels), dtype)
  if channels == 1:
    pixels = pixels[..., 0]
  photometric = "rgb" if channels == 3 else "minisblack"
  assert _refusal(_tiff(pixels, photometric=photometric)).startswith(message)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
  ("packing", "name"),
  [("webp", "WebP"), ("jpeg2000", "JPEG 2000"), ("jpegxl", "JPEG XL")],
)
def test_tiff_of_other_packings_is_refused_by_name(packing, name, dtype, capfd):
  if packing == "webp" and dtype == np.uint16:
    pytest.skip("WebP has 8 bits")
  pixels = np.zeros((16, 16, 3), dtype)
  data = _tiff(pixels, photometric="rgb", compression=packing)
  assert _refusal(data).startswith(f"TIFF packed by {name}, which is not read:")
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("packing", ["lzw", "zlib", "zstd", "lzma"])
def test_libraries_print_nothing_of_damaged_tiff(packing, dtype, capfd, caplog):
  pixels = _random(16, 16, 3, dtype=dtype)
  data = bytearray(_tiff(pixels, photometric="rgb", compression=packing))
  import tifffile

  with tifffile.TiffFile(io.BytesIO(data)) as file:
    place = file.pages[0].dataoffsets[0]
  data[place : place + 300] = b"\xff" * 300
  with pytest.raises(ImageError, match="a.tif: .*replace or remove"):
    image_file.decode_image(bytes(data), "a.tif")
  assert capfd.readouterr() == ("", "")
  assert not caplog.records


def _tiff_entry(data: bytes, tag: int) -> int:
  """Returns where the entry of a tag begins in a little-endian TIFF."""
  (start,) = struct.unpack_from("<I", data, 4)
  (count,) = struct.unpack_from("<H", data, start)
  places = range(start + 2, start + 2 + 12 * count, 12)
  return next(p for p in places if data[p : p + 2] == struct.pack("<H", tag))


def _with_tag(data: bytes, tag: int, value: int) -> bytes:
  """Changes the single value of a tag."""
  place = _tiff_entry(data, tag)
  entry = struct.pack("<HHII", tag, 4, 1, value)
  return data[:place] + entry + data[place + 12 :]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}])
@pytest.mark.parametrize("packing", [None, "zlib", "lzw", "packbits"])
def test_tiff_that_claims_more_than_it_holds_is_refused_at_once(
  packing, options, dtype
):
  pixels = _random(40, 33, 3, dtype=dtype)
  data = _tiff(pixels, photometric="rgb", compression=packing, **options)
  np.testing.assert_array_equal(image_file.decode_image(data, "a.tif"), pixels)
  tags = [(257, 8_388_656), (256, 8_388_656)]
  if options:
    tags += [(322, 2**31), (323, 2**20)]
  image_fuzz.forget_peak()
  for tag, value in tags:
    damaged = _with_tag(data, tag, value)
    before, start = image_fuzz.forget_peak(), time.process_time()
    assert _refusal(damaged).startswith("claims a larger picture than its")
    assert time.process_time() - start < 0.1
    assert image_fuzz.peak_bytes() - before < 20e6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("options", [{"rowsperstrip": 8}, {"tile": (16, 16)}])
@pytest.mark.parametrize("packing", [None, "zlib"])
def test_parts_of_tiff_that_are_missing_are_not_black(packing, options, dtype):
  pixels = _random(40, 33, 3, dtype=dtype)
  data = _tiff(pixels, photometric="rgb", compression=packing, **options)
  place = _tiff_entry(data, 324 if "tile" in options else 273)
  (count,) = struct.unpack_from("<I", data, place + 4)
  short = bytearray(data)
  struct.pack_into("<I", short, place + 4, count - 1)
  assert _refusal(bytes(short)).startswith("lacks parts of its pixels;")
  # As writers of maps leave out what is empty.
  for tag, kinds in ((324, {None, "zlib"}), (325, {"zlib"})):
    if packing in kinds:
      sparse = bytearray(data)
      entry = _tiff_entry(
        data, tag if "tile" in options else tag - (51, 46)[tag - 324]
      )
      code, _, place = struct.unpack_from("<HII", data, entry + 2)
      struct.pack_into({3: "<H", 4: "<I"}[code], sparse, place, 0)
      assert _refusal(bytes(sparse)).startswith("lacks parts of its pixels;")


def _png_of_size(width: int, height: int) -> bytes:
  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))))
  chunks = [png_files.chunk(*part) for part in (*parts, (b"IEND", b""))]
  return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _jpeg_of_size(width: int, height: int) -> bytes:
  data = bytearray(_saved(_random(16, 16, 3), "JPEG"))
  struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
  return bytes(data)


def _bmp_of_size(width: int, height: int) -> bytes:
  data = bytearray(_saved(_random(16, 16, 3), "BMP"))
  struct.pack_into("<II", data, 18, width, height)
  return bytes(data)


def _webp_of_size(width: int, height: int) -> bytes:
  data = bytearray(_saved(np.zeros((16, 16, 3), np.uint8), "WEBP"))
  struct.pack_into("<HH", data, data.index(b"\x9d\x01\x2a") + 3, width, height)
  return bytes(data)


def _lossless_webp_of_size(width: int, height: int) -> bytes:
  data = bytearray(
    _saved(np.zeros((16, 16, 3), np.uint8), "WEBP", lossless=True)
  )
  place = data.index(b"VP8L") + 9
  struct.pack_into("<I", data, place, (width - 1) | (height - 1) << 14)
  return bytes(data)


@pytest.mark.parametrize(
  ("write", "side"),
  [
    (_png_of_size, 60_000),
    (_jpeg_of_size, 60_000),
    (_bmp_of_size, 30_000),
    (_webp_of_size, 16_383),
    (_lossless_webp_of_size, 16_384),
  ],
)
def test_what_claims_more_than_it_holds_is_refused_at_once(write, side):
  for height in (side, 16_000):
    before, start = image_fuzz.forget_peak(), time.process_time()
    message = _refusal(write(side, height), "a")
    assert (
      message.startswith("claims ")
      and " px" in message
      or (message.startswith("claims a larger picture"))
    )
    assert time.process_time() - start < 0.1
    assert image_fuzz.peak_bytes() - before < 20e6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP", "JPEG", "AVIF"])
def test_more_pixels_than_are_read_are_refused(kind, monkeypatch):
  data = _saved(_random(16, 16, 3), kind)
  monkeypatch.setattr(claims, "MOST_PX", 255)
  message = _refusal(data, "a")
  assert (
    message == "claims 16x16 px, and at most 255 px are read: cut it into parts"
  )


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "JPEG", "TIFF"])
def test_large_pictures_of_one_colour_are_read(kind):
  options = {"lossless": True} if kind == "WEBP" else {}
  data = _saved(Image.new("RGB", (3000, 2000), (7, 7, 7)), kind, **options)
  assert image_file.decode_image(data, "a").shape == (2000, 3000, 3)


def test_tags_that_all_claim_the_whole_file_take_no_memory():
  """15,000 tags of EXIF, each of which is all of it: 2.7 GB for its readers."""
  count = 15_000
  size = 8 + 2 + 12 * count + 4
  entries = [struct.pack("<HHII", i, 7, size, 0) for i in range(count)]
  directory = struct.pack("<H", count) + b"".join(entries) + bytes(4)
  exif = b"II*\0" + struct.pack("<I", 8) + directory
  data = _saved(_random(8, 8, 3), "PNG")
  chunk = png_files.chunk(b"eXIf", exif)
  for place in (33, len(data) - 12):
    before = image_fuzz.forget_peak()
    hostile = data[:place] + chunk + data[place:]
    # Broken metadata does not hide a picture.
    assert image_file.decode_image(hostile, "a.png").shape == (8, 8, 3)
    assert read_metadata(hostile).exif is None
    assert image_fuzz.peak_bytes() - before < 50e6
  jpeg = _saved(_random(8, 8, 3), "JPEG")
  segments = b"".join(
    b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part
    for part in (exif[i : i + 60_000] for i in range(0, len(exif), 60_000))
  )
  for data in (exif, jpeg[:2] + segments + jpeg[2:]):
    before = image_fuzz.forget_peak()
    assert "has tags that claim more" in _refusal(data)
    assert image_fuzz.peak_bytes() - before < 50e6


_HEIC_START = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40)


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (_HEIC_START, "is HEIC, which is read with pillow-heif: pip install"),
    (b"GIF89a" + bytes(60), "is GIF, which is not read: save it as PNG"),
    (b"\xff\x0a" + bytes(60), "is JPEG XL, which is not read: save it as"),
    (b"8BPS" + bytes(60), "is a Photoshop document, which is not read"),
    (b"P6\n4 4\n255\n" + bytes(48), "is PNM, which is not read"),
    (b"\0\0\0\x18ftypmp42" + bytes(40), "is a video, which is not read: rest"),
    (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS"),
    (b"\xff\xd8" + b"\xff" * 10**6, "JPEG of more segments than any"),
    (b"words", "not an image (PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC), or its"),
  ],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.heic"])
def test_a_file_is_named_by_its_bytes(name, data, message, monkeypatch):
  monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
  assert _refusal(data, name).startswith(message)


def _as_saved(turned: np.ndarray, tolerance: float, data: bytes) -> None:
  image = image_file.decode_image(data, "a.jpg")
  info = decoder.inspect(io.BytesIO(data), "a.jpg")
  assert (info.height, info.width, info.channels, info.bits) == (
    *turned.shape,
    8,
  )
  assert np.abs(image.astype(float) - turned).mean() < tolerance


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
  from PIL import ImageOps

  exif = Image.Exif()
  exif[274] = orientation
  with Image.open(io.BytesIO(_saved(image, "PNG", exif=exif))) as file:
    return np.asarray(ImageOps.exif_transpose(file))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_avif_and_heic_are_read_upright(kind, orientation):
  if kind == "HEIF":
    pytest.importorskip("pillow_heif").register_heif_opener()
  image = np.zeros((48, 64, 3), np.uint8)
  image[:12, :20] = (250, 120, 30)
  exif = Image.Exif()
  exif[274], exif[271] = orientation, "camera"
  data = _saved(image, kind, quality=95, exif=exif.tobytes())
  _as_saved(_turned(image, orientation), 2.0, data)
  kept = Image.Exif()
  kept.load(read_metadata(data).exif)
  assert kept[271] == "camera"
  assert 274 not in kept or kept[274] == 1


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_avif_and_heic_of_more_than_8_bits_are_refused(kind):
  if kind == "HEIF":
    pytest.importorskip("pillow_heif").register_heif_opener()
    data = _saved(_random(64, 64, dtype=np.uint16), kind)
  else:
    pixels = _random(16, 16, 3, dtype=np.uint16) >> 6
    data = decoder.import_codec("imagecodecs").avif_encode(
      pixels, bitspersample=10
    )
  name = {"AVIF": "AVIF", "HEIF": "HEIC"}[kind]
  assert _refusal(data).startswith(f"{name} of more than 8 bits per sample: ")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_of_several_pictures_none_is_taken_in_silence(kind):
  frames = [Image.fromarray(_random(16, 16, 3) // k) for k in (1, 2)]
  data = _saved(frames[0], kind, save_all=True, append_images=frames[1:])
  said = "TIFF of several pages" if kind == "TIFF" else "holds 2 images"
  assert _refusal(data) == f"{said}: save each one alone"


@pytest.mark.parametrize(
  ("suffix", "kind"), [(".jfif", "JPEG"), (".JPE", "JPEG"), (".dib", "BMP")]
)
def test_other_suffixes_count_as_their_kinds(tmp_path, suffix, kind):
  image = _random(16, 24, 3)
  path = tmp_path / f"a{suffix}"
  image_file.write_image(path, image)
  with Image.open(path) as file:
    assert file.format == kind
  assert image_file.read_image(path).shape == image.shape
  assert len(sources.ImageFolder(tmp_path)) == 1
  (job,) = planning.plan(str(tmp_path), str(tmp_path / "out"))
  assert job.result.name == "a.png"  # JPEG would put back what was removed
  (job,) = planning.plan(str(path), str(tmp_path / f"b{suffix}"))
  if kind == "JPEG":
    planning.check_quality([job], 80)
  alpha = _random(16, 24, 1)
  picture = pixel_formats.Picture(
    "a.png", image, alpha, read_metadata(path.read_bytes())
  )
  with pytest.raises(ImageError, match="transparent pixels, which"):
    pixel_formats.fit_to_format(picture, suffix.lower(), 1)


def test_a_bitmap_without_the_header_of_its_file_is_read():
  image = _random(16, 24, 3)
  data = _saved(image, "BMP")
  np.testing.assert_array_equal(
    image_file.decode_image(data[14:], "a.dib"), image
  )


@pytest.mark.parametrize("suffix", [".avif", ".heic", ".gif"])
def test_a_result_of_a_kind_that_is_not_written_is_refused(tmp_path, suffix):
  image_file.write_image(tmp_path / "a.png", _random(8, 8, 3))
  with pytest.raises(ImageError, match=f"b{suffix}: {suffix} is not written"):
    planning.plan(str(tmp_path / "a.png"), str(tmp_path / f"b{suffix}"))


def test_the_header_of_a_plain_tiff_is_fine():
  data = _tiff(_random(4, 4, 3), photometric="rgb")
  tiff_header.check(io.BytesIO(data), len(data))


@pytest.mark.parametrize(
  ("name", "said"),
  [
    ("rgbn_unspec_8.tif", "TIFF of RGB+1 samples per pixel (near"),
    ("tiff_claims_8388656_rows.tif", "claims a larger picture than its 13405"),
    ("tiff_webpcomp.tif", "TIFF packed by WebP, which is not read: save it"),
  ],
)
def test_files_that_came_out_wrong(name, said, capfd):
  if not CASES.is_dir():
    pytest.skip(f"there is no {CASES}")
  start = time.process_time()
  assert _refusal((CASES / name).read_bytes(), name).startswith(said)
  assert time.process_time() - start < 0.1
  assert capfd.readouterr() == ("", "")
