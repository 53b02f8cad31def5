"""The chunks of a PNG file: PNG specification (third edition), 5.3 and 11.3."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

Chunk = tuple[bytes, bytes]  # kind, body

TEXT = (b"tEXt", b"zTXt", b"iTXt")
_MOST_TEXT = 1 << 26  # bytes, of one that was compressed


def png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
  """Yields kinds and lengths of chunks; the file stands before their bodies."""
  place = file.seek(8)  # behind the signature
  while len(head := file.read(8)) == 8:
    length = int.from_bytes(head[:4])
    yield head[4:], length
    place = file.seek(place + 12 + length)  # with head and checksum


def pack(chunks: Iterable[Chunk]) -> bytes:
  """Returns chunks with their lengths and checksums."""
  return b"".join(
    struct.pack(">I", len(body))
    + kind
    + body
    + struct.pack(">I", zlib.crc32(kind + body))
    for kind, body in chunks
  )


def keyword(body: bytes) -> bytes:
  """Returns the keyword of a chunk of `TEXT`."""
  return body.partition(b"\0")[0]


def read_international(body: bytes) -> bytes:
  """Returns the text of an iTXt chunk, UTF-8; ValueError for a damaged one."""
  flags, rest = body.partition(b"\0")[2][:2], body.partition(b"\0")[2][2:]
  text = rest.split(b"\0", 2)[2:]
  if len(flags) < 2 or not text:
    raise ValueError("an iTXt chunk is cut short")
  if not flags[0]:
    return text[0]
  decompressor = zlib.decompressobj()
  try:
    unpacked = decompressor.decompress(text[0], _MOST_TEXT)
  except zlib.error as error:
    raise ValueError(str(error)) from error
  if not decompressor.eof:
    raise ValueError("an iTXt chunk is too long, or cut short")
  return unpacked


def text_chunk(name: str, text: bytes) -> Chunk:
  """Makes a chunk of a text, which is UTF-8, or Latin-1 where it cannot be."""
  try:
    text.decode()
  except UnicodeDecodeError:
    return b"tEXt", name.encode() + b"\0" + text.replace(b"\0", b" ")
  return b"iTXt", name.encode() + b"\0\0\0\0\0" + text.replace(b"\0", b" ")
