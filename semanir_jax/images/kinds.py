"""Tells what a file is: by its suffix, where it is listed, or its first bytes.

What a file holds is told by its first bytes alone, whatever it is called.
"""

# Formats by the suffixes of the files that are written.
WRITTEN = {
  ".png": "PNG",
  ".jpg": "JPEG",
  ".jpeg": "JPEG",
  ".jpe": "JPEG",
  ".jfif": "JPEG",
  ".webp": "WEBP",
  ".tif": "TIFF",
  ".tiff": "TIFF",
  ".bmp": "BMP",
  ".dib": "BMP",
}
READ = (*WRITTEN, ".avif", ".heic", ".heif", ".hif")
NUM_FIRST = 64  # bytes that `kind_of` looks at

_FIRST = {
  b"\x89PNG\r\n\x1a\n": "PNG",
  b"\xff\xd8\xff": "JPEG",
  b"BM": "BMP",
  # A bitmap without the header of its file: the sizes that its own may have.
  **{bytes([size, 0, 0, 0]): "DIB" for size in (12, 40, 52, 56, 108, 124)},
  # Also with swapped bytes, and BigTIFF (+).
  **dict.fromkeys((b"II*\0", b"MM\0*", b"II\0*", b"MM*\0"), "TIFF"),
  **dict.fromkeys((b"II+\0", b"MM\0+"), "TIFF"),
  # Not read.
  b"GIF8": "GIF",
  b"\xff\x0a": "JPEG XL",
  b"\0\0\0\x0cJXL ": "JPEG XL",
  b"\0\0\0\x0cjP  ": "JPEG 2000",
  b"\xff\x4f\xff\x51": "JPEG 2000",
  b"8BPS": "a Photoshop document",
  b"%PDF": "a PDF document",
  b"v/1\x01": "OpenEXR",
  b"#?RADIANCE": "Radiance HDR",
  b"qoif": "QOI",
  b"\0\0\1\0": "an icon",
  **{f"P{digit}".encode() + b"\n": "PNM" for digit in range(1, 8)},
  **dict.fromkeys(
    (b"FUJIFILMCCD-RAW", b"IIRO", b"IIU\0"), "a camera's raw data"
  ),
  b"version https://git-lfs": "a pointer of Git LFS",
}
# What to do with what is no picture yet; others are saved as PNG.
REMEDIES = {
  "a pointer of Git LFS": "get the file by `git lfs pull`",
  "a video": "restore.py takes it by the name of a film, as .mp4; else save its"
  " frames as PNG",
}
_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF = {b"mif1", b"msf1"}  # which holds one of them, or others


class UnsupportedError(ValueError):
  """Says what a file is that is not read, and what to do: no other remedy."""


def kind_of(first: bytes) -> str | None:
  """Names what begins with these `NUM_FIRST` bytes; None for what is unknown.

  Sources: the specifications of the formats; ISO/IEC 23008-12 and AVIF 1.1 for
  the brands of the last.
  """
  for start, kind in _FIRST.items():
    if first.startswith(start):
      return kind
  if first[:4] == b"RIFF" and first[8:12] == b"WEBP":
    return "WEBP"
  if first[4:8] != b"ftyp":
    return None
  end = min(int.from_bytes(first[:4]), len(first))
  brands = {first[8:12], *(first[i : i + 4] for i in range(16, end - 3, 4))}
  if brands & _AVIF:
    return "AVIF"
  if brands & (_HEIC | _HEIF):
    return "HEIC"
  return "a camera's raw data" if b"crx " in brands else "a video"
