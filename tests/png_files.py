"""Image files as they are read, and PNG files as other programs write them."""

import pathlib
import struct
import zlib

import numpy as np
from PIL import Image

from semanir_jax.images import decoder

_HEADER = 33  # bytes: signature and IHDR
_LENGTH_OF_IEND = 12


def read_image_and_alpha(
  path: pathlib.Path,
) -> tuple[np.ndarray, np.ndarray | None]:
  """`([H, W, C], [H, W, 1] alpha or None)`."""
  return decoder.decode(path.read_bytes(), str(path))


def chunk(kind: bytes, body: bytes) -> bytes:
  """A chunk with its length and checksum."""
  checksum = struct.pack(">I", zlib.crc32(kind + body))
  return struct.pack(">I", len(body)) + kind + body + checksum


def add_early(path: pathlib.Path, chunks: dict[bytes, bytes]) -> None:
  """Adds chunks behind the header of a file."""
  data = path.read_bytes()
  early = b"".join(chunk(kind, body) for kind, body in chunks.items())
  path.write_bytes(data[:_HEADER] + early + data[_HEADER:])


def add_late_exif(path: pathlib.Path, tags: dict[int, int | str]) -> None:
  """Adds EXIF behind the pixels of a file, as exiftool does."""
  exif = Image.Exif()
  exif.update(tags)
  data, end = path.read_bytes(), -_LENGTH_OF_IEND
  late = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
  path.write_bytes(data[:end] + late + data[end:])
