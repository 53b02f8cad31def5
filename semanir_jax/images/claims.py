"""Compares what a file claims with what so many bytes can hold.

Codecs believe a header and allocate; so this comes before them.
"""

from semanir_jax.images.kinds import UnsupportedError

MOST_PX = 1 << 30
DEFLATE = 1032  # bytes of one: a run of 258 takes two bits
# Pixels of one byte. JPEG: 64 of a bit, where all but the first scan is left
# out. BMP: a run of 255 of two. The others are more than their encoders make of
# 4096x4096 px of one colour: 23,764 (WebP, lossless), 20,560 (AVIF) and 3877
# (HEIC).
_PX_PER_BYTE = {
  "JPEG": 1024,
  "BMP": 1024,
  "WEBP": 1 << 15,
  "AVIF": 1 << 17,
  "HEIC": 1 << 17,
}


def check_size(width: int, height: int) -> None:
  """Raises `UnsupportedError` for more pixels than are read."""
  if width * height > MOST_PX:
    raise UnsupportedError(
      f"claims {width}x{height} px, and at most {MOST_PX:,} px are read: cut it"
      " into parts"
    )


def check_bytes(claimed: int, per_byte: int, num_bytes: int) -> None:
  """Raises ValueError where a file claims more than it can hold.

  Args:
    claimed: pixels, or bytes of pixels.
    per_byte: the most of them that a byte of the file can become.
    num_bytes: of the file.
  """
  if claimed > per_byte * num_bytes:
    raise ValueError(
      f"claims a larger picture than its {num_bytes} bytes can hold"
    )


def check(
  kind: str, width: int, height: int, bits: int, num_bytes: int
) -> None:
  """Checks a header; TIFF is checked by `tiff_header`.

  Args:
    kind: of `kinds.kind_of`.
    width: px.
    height: px.
    bits: of all samples of a pixel of PNG; others ignore it.
    num_bytes: of the file.

  Raises:
    ValueError: more pixels than are read, or than so many bytes can hold.
  """
  check_size(width, height)
  if kind == "PNG":
    check_bytes(width * height * bits // 8, DEFLATE, num_bytes)
  elif kind in _PX_PER_BYTE:
    check_bytes(width * height, _PX_PER_BYTE[kind], num_bytes)
