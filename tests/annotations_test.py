"""What people wrote into their files: kept where a format holds it, or told."""

import io
import pathlib
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from semanir_jax.images import annotations, encoder, geotiff, xmp
from semanir_jax.images.annotations import Annotations
from semanir_jax.images.image_file import read_image, write_image
from semanir_jax.images.metadata import NO_METADATA, Metadata, read_metadata
from semanir_jax.restoration.restore import restore_files
from tests import png_files
from tests.restoration_cases import random_pixels

pytestmark = pytest.mark.usefixtures("quick_networks")

IPTC = b"\x1c\x02\x19\x00\x07holiday"
PACKET = (
  '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta'
  ' xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description dc:creator="Jörg"'
  " tiff:Orientation=\"6\" exif:PixelXDimension='7'><dc:title>Spaß</dc:title>"
  "<tiff:ImageWidth>7</tiff:ImageWidth></rdf:Description></rdf:RDF>"
  '</x:xmpmeta><?xpacket end="w"?>'
).encode()
KEPT_PACKET = (
  '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta'
  ' xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description dc:creator="Jörg">'
  "<dc:title>Spaß</dc:title></rdf:Description></rdf:RDF>"
  '</x:xmpmeta><?xpacket end="w"?>'
).encode()
AREA, POINT = (
  (1, 1, 0, 2, 1025, 0, 1, kind, 3072, 0, 1, 32633) for kind in (1, 2)
)


def _restored(
  source: pathlib.Path, output_format: str | None = None, scale: int = 1
) -> pathlib.Path:
  output = source.parent / f"out_{source.stem}_{output_format}_{scale}"
  restore_files(
    str(scale), str(source), str(output), output_format=output_format
  )
  (result,) = output.iterdir()
  return result


def _annotations(path: pathlib.Path) -> Annotations:
  return read_metadata(path.read_bytes()).annotations


def _segment(marker: int, body: bytes) -> bytes:
  return struct.pack(">HH", marker, len(body) + 2) + body


def _resource(code: int, body: bytes) -> bytes:
  head = struct.pack(">4sHHI", b"8BIM", code, 0, len(body))
  return head + body + b"\0" * (len(body) % 2)


def _write_jpeg(path: pathlib.Path, *segments: bytes, **options: Any) -> None:
  Image.fromarray(random_pixels(5, 7, 3)).save(
    path, extra=b"".join(segments), **options
  )


def _told(caplog: pytest.LogCaptureFixture) -> str:
  """What is told to be lost, of the last result."""
  lines = [line for line in caplog.messages if "is without: " in line]
  caplog.clear()
  return lines[-1].partition("is without: ")[2] if lines else ""


LOST_OF_JPEG = {
  "png": "IPTC",
  "tiff": "the comment",
  "jpeg": "",
  "webp": "IPTC, the comment",
  "bmp": "XMP, IPTC, the comment",
}


@pytest.mark.parametrize("output_format", LOST_OF_JPEG)
def test_what_a_jpeg_says_is_kept_or_told(tmp_path, caplog, output_format):
  photoshop = _segment(
    0xFFED,
    b"Photoshop 3.0\0" + _resource(0x03ED, bytes(16)) + _resource(0x0404, IPTC),
  )
  source = tmp_path / "a.jpg"
  _write_jpeg(source, photoshop, xmp=PACKET, comment="Grüße")
  result = _restored(source, output_format)
  lost = LOST_OF_JPEG[output_format]
  assert _told(caplog) == lost
  found = _annotations(result)
  assert found.xmp == (None if "XMP" in lost else KEPT_PACKET)
  assert found.iptc == (None if "IPTC" in lost else IPTC)
  with Image.open(result) as image:
    image.load()
    assert image.size == (5, 7)  # turned once: the orientation is XMP's alone
    if output_format == "png":
      assert image.text["Comment"] == "Grüße"
    if output_format == "jpeg":
      assert image.info["comment"].decode() == "Grüße"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bits_carry_them_too(tmp_path, caplog, kind, dtype):
  metadata = Metadata(annotations=Annotations(xmp=KEPT_PACKET, iptc=IPTC))
  name = {"png": "a.png", "tiff": "a.tif"}[kind]
  pixels = random_pixels(5, 6, 3, dtype=dtype)
  data = encoder.encode(pixels, name[1:], name, metadata=metadata)
  (tmp_path / name).write_bytes(data)
  for output_format in ("png", "tiff"):
    result = _restored(tmp_path / name, output_format)
    assert read_image(result).dtype == dtype
    assert _annotations(result).xmp == KEPT_PACKET
    kept = kind == output_format == "tiff"
    assert _annotations(result).iptc == (IPTC if kept else None)


def test_iptc_that_photoshop_wrote_as_integers_is_read(tmp_path):
  words = struct.unpack("<4I", IPTC.ljust(16, b"\0"))
  for name, value in (("a", words), ("b", words[:1])):
    path = tmp_path / f"{name}.tif"
    tag = (33723, 4, len(value), value, True)
    tifffile.imwrite(path, random_pixels(5, 6, 3), extratags=[tag])
    expected = struct.pack(f"<{len(value)}I", *value)
    assert _annotations(path).iptc == expected
    assert _annotations(_restored(path)).iptc == expected


TEXTS = [
  (b"tEXt", b"Title\0a walk"),
  (b"iTXt", b"Author\0\1\0de\0Autor\0" + zlib.compress("Jörg".encode())),
  (b"zTXt", b"Description\0\0" + zlib.compress(b"in the woods")),
]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("late", [False, True])
def test_the_text_of_a_png_is_kept_or_told(tmp_path, caplog, dtype, late):
  source = tmp_path / "a.png"
  write_image(source, random_pixels(5, 7, 3, dtype=dtype))
  stale = (b"tEXt", b"Raw profile type exif\0\nexif\n 2\n0000\n")
  chunks = b"".join(png_files.chunk(*text) for text in [*TEXTS, stale])
  data = source.read_bytes()
  place = data.rindex(b"IEND") - 4 if late else data.index(b"IDAT") - 4
  source.write_bytes(data[:place] + chunks + data[place:])
  result = _restored(source).read_bytes()
  assert not _told(caplog)
  for kind, body in TEXTS:
    assert result.count(png_files.chunk(kind, body)) == 1
  assert b"Raw profile" not in result
  with Image.open(io.BytesIO(result)) as image:
    image.load()
    assert image.text == {
      "Title": "a walk",
      "Author": "Jörg",
      "Description": "in the woods",
    }
  _restored(source, "tiff")
  assert _told(caplog) == "the text of its PNG"


@pytest.mark.parametrize("packed", [False, True])
def test_xmp_of_a_png_is_read(tmp_path, packed):
  info = PngImagePlugin.PngInfo()
  info.add_itxt("XML:com.adobe.xmp", PACKET.decode(), zip=packed)
  source = tmp_path / "a.png"
  Image.fromarray(random_pixels(5, 7, 3)).save(source, pnginfo=info)
  for output_format in ("png", "jpeg", "webp", "tiff"):
    result = _restored(source, output_format)
    assert _annotations(result).xmp == KEPT_PACKET
    # Pixels of a PNG are not turned for XMP, and no other reader may do so.
    assert read_image(result).shape == (5, 7, 3)


def _map(tags: tuple[geotiff.Tag, ...], column: float, row: float) -> Any:
  """Where on Earth a corner of a pixel lies, by the specification."""
  values = {tag.number: tag.value for tag in tags}
  centre = 0.5 if values[geotiff.KEYS][7] == 2 else 0
  raster = np.array([column - centre, row - centre, 0, 1])
  if geotiff.MATRIX in values:
    return (np.reshape(values[geotiff.MATRIX], (4, 4)) @ raster)[:2]
  gain = np.array(values[geotiff.SCALE][:2]) * [1, -1]
  point = np.array(values[geotiff.TIEPOINTS])
  return point[3:5] + (raster[:2] - point[:2]) * gain


SCALE_AND_POINT = [
  (33550, 12, 3, (0.5, 0.25, 0.0), True),
  (33922, 12, 6, (2.0, 3.0, 0.0, 440_720.0, 3_751_320.0, 7.0), True),
]
TURNED = [
  *(0.4, -0.3, 0.0, 440_720.0),
  *(-0.3, -0.4, 0.0, 3_751_320.0),
  *(0.0, 0.0, 1.0, 5.0),
  *(0.0, 0.0, 0.0, 1.0),
]
OTHERS = [
  (34736, 12, 2, (6378137.0, 298.25), True),
  (34737, 2, 0, "WGS 84|", True),
  (
    42112,
    2,
    0,
    "<GDALMetadata>\xc3\xbc</GDALMetadata>".encode("latin-1"),
    True,
  ),
  (42113, 2, 0, "-9999", True),
]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("keys", [AREA, POINT], ids=["area", "point"])
@pytest.mark.parametrize(
  "places",
  [SCALE_AND_POINT, [(34264, 12, 16, TURNED, True)]],
  ids=["scale", "matrix"],
)
def test_a_geotiff_stays_where_it_lies(
  tmp_path, caplog, places, keys, scale, dtype
):
  tags = [*places, (34735, 3, len(keys), keys, True), *OTHERS]
  source = tmp_path / "a.tif"
  tifffile.imwrite(
    source,
    random_pixels(5, 7, 3, dtype=dtype),
    photometric="rgb",
    extratags=tags,
  )
  before = _annotations(source).places
  assert [tag.number for tag in before] == sorted(tag[0] for tag in tags)
  result = _restored(source, scale=scale)
  assert not _told(caplog)
  after = _annotations(result).places
  for column, row in ((0, 0), (7, 5), (2.5, 1)):
    np.testing.assert_allclose(
      _map(after, column * scale, row * scale), _map(before, column, row)
    )
  unchanged = [tag for tag in before if tag.number > 34264]
  assert [tag for tag in after if tag.number > 34264] == unchanged
  # As other programs see them: types and texts.
  with tifffile.TiffFile(source) as a, tifffile.TiffFile(result) as b:
    for number in (tag[0] for tag in tags):
      first, second = (file.pages[0].tags[number] for file in (a, b))
      assert (first.dtype, first.count) == (second.dtype, second.count)
      if number > 34264:
        assert first.value == second.value
  _restored(source, "png", scale)
  assert _told(caplog) == "GeoTIFF"


def test_a_geotiff_that_exif_turns_is_told(tmp_path, caplog):
  tags = [*SCALE_AND_POINT, (34735, 3, len(AREA), AREA, True)]
  tags.append((274, 3, 1, 6, True))
  source = tmp_path / "a.tif"
  tifffile.imwrite(
    source, random_pixels(5, 7, 3), photometric="rgb", extratags=tags
  )
  result = _restored(source)
  assert _told(caplog) == "GeoTIFF, since the image was turned"
  assert not _annotations(result).places


def test_what_no_result_holds_is_told(tmp_path, caplog):
  base = Image.fromarray(random_pixels(5, 7, 3))
  base.save(
    tmp_path / "a.jpg", "MPO", save_all=True, append_images=[base.copy()]
  )
  _restored(tmp_path / "a.jpg")
  assert _told(caplog) == "the image behind it (a gain map, a preview, a view)"
  gain_map = b'<x:xmpmeta hdrgm:Version="1.0"></x:xmpmeta>'
  _write_jpeg(tmp_path / "b.jpg", xmp=gain_map)
  result = _restored(tmp_path / "b.jpg")
  assert _told(caplog) == "its HDR gain map"
  assert _annotations(result).xmp == b"<x:xmpmeta></x:xmpmeta>"
  _write_jpeg(tmp_path / "c.jpg", xmp=b'<x:xmpmeta GCamera:MotionPhoto="1"/>')
  _restored(tmp_path / "c.jpg")
  assert _told(caplog) == "the video behind it"
  _write_jpeg(
    tmp_path / "d.jpg",
    _segment(0xFFEB, b"JP\0\0jumb"),
    _segment(0xFFE1, b"http://ns.adobe.com/xmp/extension/\0rest"),
    _segment(0xFFED, b"Photoshop 3.0\0" + _resource(0x07D0, b"a path")),
  )
  _restored(tmp_path / "d.jpg")
  assert _told(caplog) == (
    "its APP11 segment, the second part of its XMP, Photoshop's resources"
  )
  tag = (50844, 12, 2, (1.0, 2.0), True)
  tifffile.imwrite(tmp_path / "e.tif", random_pixels(5, 7, 3), extratags=[tag])
  _restored(tmp_path / "e.tif")
  assert _told(caplog) == "its tags 50844"


def test_ordinary_files_lose_nothing(tmp_path, caplog):
  pixels = random_pixels(5, 7, 3)
  exif = Image.Exif()
  exif[271], exif[274] = "a camera", 6
  for name in ("a.png", "a.jpg", "a.webp", "a.bmp", "a.tif"):
    folder = tmp_path / name
    folder.mkdir()
    options = {} if name == "a.bmp" else {"exif": exif}
    Image.fromarray(pixels).save(folder / name, **options)
    assert _annotations(folder / name) == Annotations()
    _restored(folder / name)
  tifffile.imwrite(
    tmp_path / "b.tif", pixels, tile=(16, 16), compression="deflate"
  )
  _restored(tmp_path / "b.tif")
  write_image(tmp_path / "c.tif", random_pixels(5, 7, 3, dtype=np.uint16))
  _restored(tmp_path / "c.tif")
  assert not _told(caplog)


def test_text_of_exif_keeps_its_letters_in_every_format(tmp_path, caplog):
  source = tmp_path / "a.png"
  write_image(source, random_pixels(5, 7, 3, dtype=np.uint16))
  exif = Image.Exif()
  for tag in (270, 271, 305, 315, 33432):
    exif[tag] = f"Jörg {tag}".encode()
  exif[0x8769] = {0x9003: "2020:01:02 03:04:05"}
  body = exif.tobytes().removeprefix(b"Exif\0\0")
  png_files.add_early(source, {b"eXIf": body})
  for output_format in ("png", "tiff", "jpeg", "webp"):
    with Image.open(_restored(source, output_format)) as image:
      found = image.getexif()
      for tag in (270, 271, 305, 315, 33432):
        text = found[tag].encode("latin-1").decode()
        assert text == f"Jörg {tag}", output_format
      assert bool(found.get_ifd(0x8769)) == (output_format != "tiff")
    told = _told(caplog)
    expected = "what EXIF says of camera and place"
    assert told == (expected if output_format == "tiff" else "")


@pytest.mark.parametrize(
  "before",
  [
    b'<a tiff:Orientation="6"/>',
    b"<a><tiff:Orientation>6</tiff:Orientation></a>",
    b"<a><tiff:Orientation rdf:datatype='x'>6</tiff:Orientation ></a>",
    b'<a><hdrgm:Min rdf:parseType="Seq">\n<b/>\n</hdrgm:Min></a>',
    b'<a hdrgm:Version="1.0" hdrgm:GainMapMax="3"/>',
    b"<a><Container:Directory><rdf:Seq><rdf:li/></rdf:Seq>"
    b"</Container:Directory></a>",
    b'<a><xmpNote:HasExtendedXMP x="/">1</xmpNote:HasExtendedXMP></a>',
    b"<a><exif:PixelXDimension/><xmp:Thumbnails><b/></xmp:Thumbnails></a>",
  ],
)
def test_xmp_that_is_no_longer_true_is_left_out(before):
  cleaned = xmp.keep_what_is_true(before, turned=True)
  assert cleaned in (b"<a/>", b"<a></a>")


def test_other_xmp_stays_as_it_is():
  packet = (
    b'<a tiff:Make="x" tiff:Orientation2="6"><exif:Flash fired="1"/>'
    b"<mwg-rs:Regions><b/></mwg-rs:Regions></a>"
  )
  assert xmp.keep_what_is_true(packet, turned=False) == packet
  without = packet.replace(b"<mwg-rs:Regions><b/></mwg-rs:Regions>", b"")
  assert xmp.keep_what_is_true(packet, turned=True) == without


def test_what_a_jpeg_cannot_hold_for_its_length_is_told(tmp_path, caplog):
  packet = b"<x:xmpmeta>" + b" " * 65_500 + b"</x:xmpmeta>"
  long = Annotations(xmp=packet, iptc=bytes(65_530))
  data = encoder.encode(
    random_pixels(5, 6, 3), ".tif", "a", metadata=Metadata(annotations=long)
  )
  (tmp_path / "a.tif").write_bytes(data)
  assert _annotations(_restored(tmp_path / "a.tif")) == long
  _restored(tmp_path / "a.tif", "jpeg")
  assert _told(caplog) == "XMP, IPTC"


@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_annotations_hide_no_picture(tmp_path, caplog, monkeypatch):
  write_image(tmp_path / "a.png", random_pixels(5, 7, 3))
  png_files.add_early(
    tmp_path / "a.png", {b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0no deflate"}
  )
  _restored(tmp_path / "a.png")
  assert _told(caplog) == "XMP that is damaged"
  _write_jpeg(tmp_path / "b.jpg", _segment(0xFFE2, b"MPF\0MM\0*\0\0\xff\xff"))
  _restored(tmp_path / "b.jpg")
  assert not _told(caplog)
  tag = (33550, 12, 2, (1.0, 2.0), True)
  tifffile.imwrite(tmp_path / "c.tif", random_pixels(5, 7, 3), extratags=[tag])
  _restored(tmp_path / "c.tif")
  assert _told(caplog) == "GeoTIFF that is damaged"
  _write_jpeg(tmp_path / "d.jpg", xmp=PACKET.decode().encode("utf-16"))
  _restored(tmp_path / "d.jpg")
  assert _told(caplog) == "XMP that is no UTF-8"
  monkeypatch.setattr(annotations, "_number_of_images", lambda header: 1 / 0)
  _write_jpeg(tmp_path / "e.jpg")
  _restored(tmp_path / "e.jpg")
  assert _told(caplog) == "a part that is damaged"


def test_colours_that_bmp_does_not_hold_are_told(tmp_path, caplog):
  pixels = random_pixels(5, 7, 3)
  profile = bytes(16) + b"RGB " + bytes(108)
  Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile)
  _restored(tmp_path / "a.png", "bmp")
  assert _told(caplog) == "its colour profile"
  assert NO_METADATA.lost_in("BMP") == []
