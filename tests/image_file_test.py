"""Reading and writing image files: exact, or refused by name."""

import csv
import hashlib
import io
import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from semanir_jax.images import decoder, encoder, image_file
from semanir_jax.images.image_file import PixelOptions
from semanir_jax.machine.files import FileError
from tests import png_files


def _random(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
  rng = np.random.default_rng(0)
  return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _save(path: pathlib.Path, pixels: np.ndarray, **options) -> pathlib.Path:
  Image.fromarray(pixels).save(path, **options)
  return path


def test_pixels_equal_the_published_hashes(shared_data):
  with open(shared_data / "sources.tsv") as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
  for row in rows[::53]:
    pixels = image_file.read_image(shared_data / row["file"])
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    assert digest == row["pixel_sha256"], row["file"]
    info = image_file.probe_image(shared_data / row["file"])
    assert (info.height, info.width, info.channels) == pixels.shape
    assert info.bits == 8


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".bmp", ".webp"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 1), (33, 64, 3)])
def test_8_bits_round_trip(tmp_path, suffix, shape):
  image = _random(shape)
  image_file.write_image(tmp_path / f"a{suffix}", image)
  back = image_file.read_image(tmp_path / f"a{suffix}")
  assert back.dtype == np.uint8
  if suffix != ".webp":  # WebP has no gray: it comes back as RGB.
    assert back.shape == shape
  np.testing.assert_array_equal(*np.broadcast_arrays(back, image))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_colours_that_are_transparent_are_kept(tmp_path, suffix):
  image = _random((9, 8, 4))
  image[:5, :, 3] = 0
  image_file.write_image(tmp_path / f"a{suffix}", image)
  back = png_files.read_image_and_alpha(tmp_path / f"a{suffix}")
  np.testing.assert_array_equal(np.concatenate(back, axis=2), image)


def test_jpeg_is_written_close(tmp_path, shared_data):
  image = image_file.read_image(shared_data / "kodak24" / "kodim23.png")
  image_file.write_image(tmp_path / "a.jpg", image)
  back = image_file.read_image(tmp_path / "a.jpg")
  mse = np.mean((back.astype(float) - image) ** 2)
  assert 10 * np.log10(255**2 / mse) > 40


@pytest.mark.parametrize(
  ("suffix", "channels"), [(".png", 1), (".tif", 1), (".png", 3)]
)
@pytest.mark.parametrize("side", [1, 2, 31])
def test_16_bits_round_trip(tmp_path, suffix, channels, side):
  image = _random((side, side + 3, channels), np.uint16)
  path = tmp_path / f"a{suffix}"
  image_file.write_image(path, image)
  back = image_file.read_image(path)
  assert back.dtype == np.uint16
  np.testing.assert_array_equal(back, image)
  info = image_file.probe_image(path)
  assert (info.bits, info.channels) == (16, channels)
  assert (info.height, info.width) == (side, side + 3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_dark_16_bit_image_stays_16_bits(tmp_path, suffix):
  """Depth is the file's, not guessed from the largest value."""
  path = tmp_path / f"a{suffix}"
  image = _random((5, 7, 1), np.uint16) % 200
  image_file.write_image(path, image)
  back = image_file.read_image(path)
  assert back.dtype == np.uint16
  np.testing.assert_array_equal(back, image)


_SAMPLES = {2: 3, 4: 2, 6: 4}  # of 16-bit PNG, by its colour type
# Adam7: first row and column, and steps, of each pass.
_PASSES = (
  *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
  *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("colour_type", _SAMPLES)
@pytest.mark.parametrize("shape", [(1, 1), (10, 6), (9, 17)])
def test_16_bit_png_undoes_all_five_filters(shape, colour_type, interlaced):
  image = _random((*shape, _SAMPLES[colour_type]), np.uint16)
  data = _filtered_png(image, colour_type, interlaced=interlaced)
  np.testing.assert_array_equal(_decode_joined(data), image)


def test_what_is_beside_the_pixels_of_16_bit_png_changes_none(capfd, caplog):
  image = _random((5, 6, 3), np.uint16)
  data = _filtered_png(image, 2)
  body = data[33:-12]
  for place, kind, what in (
    (33, b"gAMA", struct.pack(">I", 10_000)),
    (33, b"sBIT", bytes([12, 12, 12])),
    (33, b"NEWs", b"of a later version"),
    (-12, b"tRNS", struct.pack(">3H", *image[0, 0].tolist())),  # too late
    (-12, b"cHRM", b"short"),
    (-12, b"iCCP", b"no profile"),
  ):
    other = data[:place] + png_files.chunk(kind, what) + data[place:]
    np.testing.assert_array_equal(_decode_joined(other), image)
  # The stream of the pixels may come in several pieces, and be too long.
  rows = zlib.decompress(body[8:-4])
  packed = zlib.compress(rows + b"more")
  pieces = [
    png_files.chunk(b"IDAT", piece) for piece in (packed[:20], packed[20:])
  ]
  other = data[:33] + b"".join(pieces) + data[-12:]
  np.testing.assert_array_equal(_decode_joined(other), image)
  assert capfd.readouterr() == ("", "")
  assert not caplog.records


def _decode_joined(data: bytes) -> np.ndarray:
  """Decodes a file to `[H, W, C]` with alpha last where there is one."""
  parts = decoder.decode(data, "a.png")
  return np.concatenate([part for part in parts if part is not None], axis=2)


def _filtered_png(
  image: np.ndarray, colour_type: int, *, interlaced: bool = False
) -> bytes:
  """Encodes sample by sample, as the PNG specification words the filters."""
  height, width, _ = image.shape
  passes = [image]
  if interlaced:
    passes = [image[y::dy, x::dx] for y, x, dy, dx in _PASSES]
  raw = b"".join(_filtered_rows(part) for part in passes if part.size)
  header = struct.pack(
    ">IIBBBBB", width, height, 16, colour_type, 0, 0, interlaced
  )
  return _png(header, zlib.compress(raw))


def _filtered_rows(image: np.ndarray) -> bytes:
  """Filters one picture, each row by the next of the five filters."""
  height, width, samples = image.shape
  rows, step = (
    image.astype(">u2").reshape(height, -1).view(np.uint8),
    2 * samples,
  )
  raw = bytearray()
  for y in range(height):
    raw.append(y % 5)
    for x, value in enumerate(rows[y].tolist()):
      a = int(rows[y, x - step]) if x >= step else 0
      b = int(rows[y - 1, x]) if y else 0
      c = int(rows[y - 1, x - step]) if y and x >= step else 0
      paeth = min((a, b, c), key=lambda v: abs(a + b - c - v))
      guess = (0, a, b, (a + b) // 2, paeth)[y % 5]
      raw.append((value - guess) % 256)
  return bytes(raw)


def _png(header: bytes, data: bytes, *others: tuple[bytes, bytes]) -> bytes:
  """Puts a file together; `others` are chunks before the pixels."""
  png = b"\x89PNG\r\n\x1a\n"
  for kind, body in (
    (b"IHDR", header),
    *others,
    (b"IDAT", data),
    (b"IEND", b""),
  ):
    png += png_files.chunk(kind, body)
  return png


def _header(width: int, height: int) -> bytes:
  """The header of a 16-bit RGB PNG."""
  return struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)


_ROWS = zlib.compress(bytes(4 * 31))  # black, 5x4 px
_KEY = b"tRNS", bytes(6)
_DAMAGED = {
  "Not enough image data": _png(
    _header(5, 4), zlib.compress(bytes(4 * 31 - 1))
  ),
  "incorrect header check": _png(_header(5, 4), b"no pixels of any kind"),
  "IDAT: CRC error": _png(_header(5, 4), _ROWS).replace(
    struct.pack(">I", zlib.crc32(b"IDAT" + _ROWS)), b"zero"
  ),
  "adaptive filter": _png(_header(5, 4), zlib.compress(b"\t" + bytes(123))),
  "before its IEND": _png(_header(5, 4), _ROWS)[:-12],
  "a side of 2000000 px": _png(
    _header(2_000_000, 1), zlib.compress(bytes(1 + 6 * 2_000_000))
  ),
  "a larger picture than its": _png(_header(2_000, 2_000), _ROWS),
  "colour key": _png(_header(5, 4), _ROWS, _KEY),
}


@pytest.mark.parametrize("reason", _DAMAGED)
def test_16_bit_png_that_is_damaged_or_short_is_refused(reason, capfd):
  with pytest.raises(image_file.ImageError, match=f"a.png: .*{reason}") as e:
    image_file.decode_image(_DAMAGED[reason], "a.png")
  assert "\n" not in str(e.value)
  assert capfd.readouterr() == ("", "")


def test_16_bit_png_of_a_claimed_size_takes_no_memory(monkeypatch):
  """Its few bytes cannot become so many: nothing asks for them."""
  codec = decoder.import_codec("imagecodecs")
  monkeypatch.setattr(codec, "png_decode", None)  # where they are asked for
  for side in (10_000, 100_000):
    data = _png(_header(side, side), _ROWS)
    with pytest.raises(image_file.ImageError, match="a.png: claims "):
      image_file.decode_image(data, "a.png")


@pytest.mark.parametrize("shape", [(7, 5), (64, 33)])
@pytest.mark.parametrize("samples", _SAMPLES.values())
def test_16_bit_png_that_changes_everywhere_stays_as_it_was(shape, samples):
  image = _random((*shape, samples), np.uint16)
  for kind in (image, image % 200, np.zeros_like(image)):
    for pixels in (kind, kind[::-1, ::2]):
      data = encoder.encode(pixels, ".png", "a.png")
      np.testing.assert_array_equal(_decode_joined(data), pixels)


def test_16_bit_png_alpha_is_kept_or_refused(tmp_path):
  image = _random((4, 5, 4), np.uint16)
  path = tmp_path / "a.png"
  path.write_bytes(_filtered_png(image, 6))
  colour, alpha = png_files.read_image_and_alpha(path)
  np.testing.assert_array_equal(colour, image[..., :3])
  np.testing.assert_array_equal(alpha, image[..., 3:])
  with pytest.raises(image_file.ImageError, match="a.png: has transparent"):
    image_file.read_image(path)
  image[..., 3] = 65535
  path.write_bytes(_filtered_png(image, 6))
  np.testing.assert_array_equal(image_file.read_image(path), image[..., :3])
  path.write_bytes(_filtered_png(image[..., 2:], 4))
  np.testing.assert_array_equal(image_file.read_image(path), image[..., 2:3])
  assert image_file.probe_image(path).channels == 1


def test_16_bit_rgb_tiff_keeps_its_depth(tmp_path):
  tifffile = pytest.importorskip("tifffile")
  image = _random((6, 7, 3), np.uint16)
  for name, pixels, planar in (
    ("contiguous", image, "contig"),
    ("planes", np.moveaxis(image, -1, 0), "separate"),
  ):
    path = tmp_path / f"{name}.tif"
    turned = [(274, 3, 1, 6, False)]  # EXIF orientation: a quarter clockwise.
    tifffile.imwrite(
      path, pixels, photometric="rgb", planarconfig=planar, extratags=turned
    )
    upright = np.rot90(image, -1)
    np.testing.assert_array_equal(image_file.read_image(path), upright, name)
    info = image_file.probe_image(path)
    assert (info.bits, info.height, info.width) == (16, 7, 6)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "lzma"])
@pytest.mark.parametrize("predictor", [False, True])
def test_16_bit_rgb_tiff_may_be_packed(tmp_path, compression, predictor):
  import tifffile

  image = _random((6, 7, 3), np.uint16)
  path = tmp_path / "a.tif"
  tifffile.imwrite(
    path,
    image,
    photometric="rgb",
    compression=compression,
    predictor=predictor,
  )
  np.testing.assert_array_equal(image_file.read_image(path), image)
  assert image_file.probe_image(path).bits == 16


def test_palette_and_one_bit_are_expanded(tmp_path):
  image = Image.fromarray(_random((9, 9, 3))).quantize(16)
  image.save(tmp_path / "p.png")
  expected = np.asarray(image.convert("RGB"))
  np.testing.assert_array_equal(
    image_file.read_image(tmp_path / "p.png"), expected
  )
  bits = _random((9, 9)) > 127
  Image.fromarray(bits).save(tmp_path / "b.png")
  np.testing.assert_array_equal(
    image_file.read_image(tmp_path / "b.png"), 255 * bits[..., None]
  )


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L", "RGB"])
def test_alpha_is_dropped_only_where_opaque(tmp_path, mode):
  path = tmp_path / "a.png"
  pixels = _random((8, 8, len(mode) if mode.endswith("A") else 3))
  pixels[..., -1] = 7
  image = Image.fromarray(pixels)
  if mode in "P":
    image.quantize(4).save(path, transparency=bytes([255, 255, 9, 255]))
  elif mode == "L":
    image.convert("L").save(
      path, transparency=int(np.asarray(image.convert("L"))[0, 0])
    )
  elif mode == "RGB":
    image.save(path, transparency=tuple(pixels[0, 0].tolist()))
  else:
    image.save(path)
  with pytest.raises(
    image_file.ImageError, match=r"a\.png: .*transparent.*flatten"
  ):
    image_file.read_image(path)
  colour, alpha = png_files.read_image_and_alpha(path)
  assert colour.shape == (8, 8, 1 if "L" in mode else 3)
  assert alpha.shape == (8, 8, 1)
  assert alpha.min() < 255
  if mode.endswith("A"):
    pixels[..., -1] = 255
    _save(path, pixels)
    np.testing.assert_array_equal(image_file.read_image(path), pixels[..., :-1])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_level_of_any_depth_is_found(bits):
  top = 2**bits - 1
  samples = np.arange(8) % (top + 1)
  packed = "".join(f"{sample:0{bits}b}" for sample in samples)
  row = b"\0" + int(packed, 2).to_bytes(bits)
  header = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
  for level in {0, 1, top}:
    transparent = b"tRNS", struct.pack(">H", level)
    data = _png(header, zlib.compress(row), transparent)
    gray, alpha = decoder.decode(data, "a.png")
    assert gray[0, :, 0].tolist() == (samples * (255 // top)).tolist()
    expected = np.where(samples == level, 0, 255)
    assert alpha[0, :, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_orientation_equals_pillows(tmp_path, orientation, suffix):
  from PIL import ImageOps

  path = tmp_path / f"a{suffix}"
  exif = Image.Exif()
  exif[274] = orientation
  _save(path, _random((16, 24, 3)), exif=exif)
  with Image.open(path) as image:
    expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
  np.testing.assert_array_equal(image_file.read_image(path), expected)
  info = image_file.probe_image(path)
  assert (info.height, info.width) == expected.shape[:2]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_orientation_behind_the_pixels_of_a_png_is_applied(tmp_path, dtype):
  path, image = tmp_path / "a.png", _random((4, 6, 3), dtype)
  image_file.write_image(path, image)
  png_files.add_late_exif(path, {274: 6})  # a quarter clockwise
  np.testing.assert_array_equal(
    image_file.read_image(path), np.rot90(image, -1)
  )
  assert decoder.is_turned(path.read_bytes())
  # Its header alone does not say so.
  info = image_file.probe_image(path)
  assert (info.height, info.width) == (4, 6)


def test_an_orientation_that_is_none_turns_nothing(tmp_path):
  pixels, exif = _random((16, 24, 3)), Image.Exif()
  exif[274] = 9
  path = _save(tmp_path / "a.png", pixels, exif=exif)
  np.testing.assert_array_equal(image_file.read_image(path), pixels)


def test_a_stereo_jpeg_gives_its_first_picture(tmp_path):
  left, right = (Image.fromarray(_random((8, 8, 3)) // k) for k in (1, 2))
  left.save(tmp_path / "left.jpg")
  left.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[right])
  np.testing.assert_array_equal(
    image_file.read_image(tmp_path / "a.jpg"),
    image_file.read_image(tmp_path / "left.jpg"),
  )


def _animation(path):
  frames = [Image.fromarray(_random((4, 4, 3)) // k) for k in (1, 2)]
  frames[0].save(path, save_all=True, append_images=frames[1:])


def _tiff(path, bits, photometric):
  tifffile = pytest.importorskip("tifffile")
  tifffile.imwrite(
    path, _random((4, 4), np.uint16), photometric=photometric, metadata=None
  )


REFUSED = {
  "cmyk.jpg": lambda path: Image.new("CMYK", (4, 4)).save(path),
  "float.tif": lambda path: Image.new("F", (4, 4)).save(path),
  "int.tif": lambda path: Image.new("I", (4, 4)).save(path),
  "lab.tif": lambda path: Image.new("LAB", (4, 4)).save(path),
  "ycbcr.tif": lambda path: Image.new("YCbCr", (4, 4)).save(path),
  "inverted.tif": lambda path: _tiff(path, 16, "miniswhite"),
  "animation.png": _animation,
  "pages.tif": _animation,
  "animation.webp": _animation,
  "text.png": lambda path: path.write_text("not an image"),
  "empty.png": lambda path: path.write_bytes(b""),
  "gif.png": lambda path: Image.new("L", (4, 4)).save(path, "GIF"),
  "folder.png": lambda path: path.mkdir(),
  "missing.png": lambda path: None,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line_with_file_and_remedy(tmp_path, name):
  path = tmp_path / name
  REFUSED[name](path)
  remedy = "convert|save|replace|check"
  for read in (image_file.read_image, image_file.probe_image):
    with pytest.raises(FileError, match=f"(?s){name}: .*({remedy})") as e:
      read(path)
    assert "\n" not in str(e.value)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # what Pillow thinks
def test_tiff_of_other_kinds_is_not_called_damaged(tmp_path):
  import tifffile

  path = tmp_path / "a.tif"
  pixels = np.ones((4, 5), np.uint16)
  tifffile.imwrite(path, pixels, bigtiff=True, byteorder=">", metadata=None)
  message = "a.tif: a kind of TIFF that is not read.*: save it as PNG of 8 or"
  for read in (image_file.read_image, image_file.probe_image):
    with pytest.raises(image_file.ImageError, match=message) as error:
      read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_damaged_files_never_raise_anything_else(tmp_path, suffix):
  path = tmp_path / f"a{suffix}"
  _save(path, _random((24, 24, 3)))
  whole = path.read_bytes()
  rng = np.random.default_rng(1)
  refused = 0
  # The last 24 bytes may hold no pixel, only a checksum and an end mark.
  for length in np.linspace(1, len(whole) - 24, 40).astype(int):
    path.write_bytes(whole[:length])
    with pytest.raises(image_file.ImageError, match="replace or remove"):
      image_file.read_image(path)
  for _ in range(60):
    data = bytearray(whole)
    for place in rng.integers(0, len(data), 3):
      data[place] ^= int(rng.integers(1, 256))
    try:
      image_file.decode_image(bytes(data), path.name)
    except image_file.ImageError:
      refused += 1
  assert refused > 0 or suffix == ".bmp"


def test_truncated_16_bit_png_is_refused(tmp_path):
  path = tmp_path / "a.png"
  image_file.write_image(path, _random((24, 24, 3), np.uint16))
  whole = path.read_bytes()
  for length in np.linspace(1, len(whole) - 1, 40).astype(int):
    path.write_bytes(whole[:length])
    with pytest.raises(image_file.ImageError):
      image_file.read_image(path)


def test_channels():
  gray, colour = _random((4, 5, 1)), _random((4, 5, 3))
  three = image_file.convert_channels(gray, "a.png", PixelOptions(3))
  np.testing.assert_array_equal(three, np.concatenate([gray] * 3, axis=2))
  luma = PixelOptions(1, "y")
  assert image_file.convert_channels(gray, "a.png", luma) is gray
  with pytest.raises(image_file.ImageError, match="a.png: is a colour.*gray="):
    image_file.convert_channels(colour, "a.png", PixelOptions(1))
  with pytest.raises(image_file.ImageError, match="a.png: is 16-bit colour"):
    image_file.convert_channels(colour.astype(np.uint16), "a.png", luma)
  for options in ({"channels": 2}, {"channels": 3, "gray": "y"}):
    with pytest.raises(ValueError, match="channels="):
      PixelOptions(**options)
  with pytest.raises(ValueError, match="gray='luma'"):
    PixelOptions(channels=1, gray="luma")


def test_gray_y_gives_the_published_jpeg_baseline(shared_data):
  psnrs = []
  for path in sorted((shared_data / "live1").glob("*.png")):
    clean = image_file.read_image(path, PixelOptions(1, "y"))
    file = io.BytesIO()
    Image.fromarray(clean[..., 0]).save(file, "JPEG", quality=10)
    coded = image_file.decode_image(file.getvalue(), path.name)
    mse = np.mean((coded.astype(float) - clean) ** 2)
    psnrs.append(10 * np.log10(255**2 / mse))
  assert len(psnrs) == 29
  assert np.mean(psnrs) == pytest.approx(27.7698, abs=5e-4)


def test_write_replaces_whole_files_and_leaves_no_rubbish(
  tmp_path, monkeypatch
):
  path = tmp_path / "a.png"
  image_file.write_image(path, _random((8, 8, 3)))
  before = path.read_bytes()

  def interrupted(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, "replace", interrupted)
  with pytest.raises(KeyboardInterrupt):
    image_file.write_image(path, np.zeros((8, 8, 3), np.uint8))
  assert path.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_write_refuses(tmp_path):
  image = _random((4, 4, 3))
  for place in (tmp_path / "none" / "a.png", tmp_path):
    with pytest.raises(FileError, match=str(tmp_path)):
      image_file.write_image(place, image)
  (tmp_path / "b.png").mkdir()
  with pytest.raises(FileError, match="b.png: cannot be written"):
    image_file.write_image(tmp_path / "b.png", image)
  assert [p.name for p in tmp_path.iterdir()] == ["b.png"]
  for name, wrong, reason in (
    ("a.png", image / 255, "round floats"),
    ("a.png", image[..., 0], "H, W, C"),
    ("a.xyz", image, "not a suffix that is written"),
    ("a.avif", image, "not a suffix that is written"),
    ("a.jpg", _random((4, 4, 4)), "a.jpg: .*another format"),
    ("a.tif", _random((4, 4, 4), np.uint16), "16-bit"),
    ("a.jpg", image[..., :1].astype(np.uint16), "16-bit"),
  ):
    with pytest.raises(FileError, match=reason):
      image_file.write_image(tmp_path / name, wrong)


def test_a_png_with_megabytes_of_text_is_read(tmp_path):
  text = PngImagePlugin.PngInfo()
  text.add_itxt("XML:com.adobe.xmp", "a" * 2_000_000, zip=True)
  image = Image.new("RGB", (4, 4), (1, 2, 3))
  image.save(tmp_path / "a.png", pnginfo=text)
  assert (image_file.read_image(tmp_path / "a.png") == (1, 2, 3)).all()
