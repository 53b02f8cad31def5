"""Damages image files at random and reads them.

Each must give an image or one line of an `ImageError`, in less than a second of
CPU and 500 MB, and print nothing. More than the tests do:

  python -m tests.image_fuzz --mutations=20000 --keep=/tmp/fuzz

keeps what does otherwise in a folder, and the file at work, should a codec end
the process.
"""

import argparse
import collections
import io
import json
import os
import pathlib
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from semanir_jax.images import decoder
from semanir_jax.images.metadata import read_metadata

_MOST_SECONDS, _MOST_BYTES = 1.0, 500e6
# Where signs, sums and products of sizes go wrong.
_EXTREMES = (
  0,
  1,
  2,
  3,
  16,
  255,
  2**15,
  2**16 - 1,
  2**23 + 48,
  2**24,
  2**31 - 1,
)
_EXTREMES += (2**31, 2**32 - 1, 2**63, 2**64 - 1)


def originals() -> dict[str, bytes]:
  """Makes small files of every kind that is read, by name."""
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (20, 28, 4), np.uint8)
  smooth = np.add.outer(np.arange(40), np.arange(56)).astype(np.uint8)
  smooth = np.stack([smooth, smooth * 2, 255 - smooth], axis=2)
  deep = rng.integers(0, 2**16, (20, 28, 3), np.uint16)
  return dict(_of_pillow(noise, smooth, deep)) | dict(_of_tifffile(noise, deep))


def _of_pillow(
  noise: np.ndarray, smooth: np.ndarray, deep: np.ndarray
) -> Iterator[tuple[str, bytes]]:
  def saved(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image = pixels
    if isinstance(pixels, np.ndarray):
      image = Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()

  exif = Image.Exif()
  exif[274], exif[270] = 6, "a" * 40
  palette = Image.fromarray(smooth).quantize(16)
  one_bit = Image.fromarray(noise[..., 0] > 127)
  yield "rgba.png", saved(noise, "PNG", exif=exif)
  yield "smooth.png", saved(smooth, "PNG", dpi=(72, 72))
  yield "palette.png", saved(palette, "PNG", transparency=3)
  yield "one_bit.png", saved(one_bit, "PNG")
  yield "gray_16.png", saved(deep[..., 0], "PNG")
  for channels in (2, 3, 4):
    pixels = np.concatenate([deep, deep], axis=2)[..., :channels]
    name = f"deep_{channels}.png"
    image_bytes = decoder.import_codec("imagecodecs").png_encode(
      np.ascontiguousarray(pixels)
    )
    yield name, image_bytes
  yield "baseline.jpg", saved(smooth, "JPEG", exif=exif)
  yield "progressive.jpg", saved(smooth, "JPEG", progressive=True)
  yield "gray.jpg", saved(smooth[..., 0], "JPEG")
  yield "lossy.webp", saved(smooth, "WEBP", exif=exif)
  yield "lossless.webp", saved(noise, "WEBP", lossless=True)
  yield "rgb.bmp", saved(smooth, "BMP")
  yield "palette.bmp", saved(palette, "BMP")
  yield "one_bit.bmp", saved(one_bit, "BMP")
  yield "rgb.avif", saved(smooth, "AVIF", exif=exif)
  for packing in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
    options = {"compression": packing} if packing else {}
    yield f"pillow_{packing}.tif", saved(smooth, "TIFF", exif=exif, **options)
  yield "fax.tif", saved(one_bit, "TIFF", compression="group4")
  yield "palette.tif", saved(palette, "TIFF", compression="tiff_lzw")
  try:
    import pillow_heif
  except ImportError:
    return
  pillow_heif.register_heif_opener()
  yield "rgb.heic", saved(smooth, "HEIF", exif=exif.tobytes())


def _of_tifffile(
  noise: np.ndarray, deep: np.ndarray
) -> Iterator[tuple[str, bytes]]:
  import tifffile

  rgb = np.ascontiguousarray(noise[..., :3])
  for pixels in (rgb, deep):
    for packing in (None, "lzw", "zlib", "zstd", "lzma", "packbits"):
      for options in (
        {},
        {"tile": (16, 16)},
        {"planarconfig": "separate"},
        {"predictor": True, "rowsperstrip": 7},
      ):
        if packing in (None, "packbits") and "predictor" in options:
          continue
        file = io.BytesIO()
        planar = "planarconfig" in options
        tifffile.imwrite(
          file,
          np.moveaxis(pixels, -1, 0) if planar else pixels,
          photometric="rgb",
          compression=packing,
          **options,
        )
        what = "_".join(map(str, (pixels.dtype, packing, *options)))
        yield f"{what}.tif", file.getvalue()


def mutate(rng: np.random.Generator, name: str, data: bytes) -> bytes:
  """Damages a file in one way, or in two."""
  ways = [_flip, _overwrite, _cut, _repeat]
  if name.endswith(".tif"):
    ways += [_change_entry] * 3
  if name.endswith(".png"):
    ways += [_change_header] * 2
  damaged = bytearray(data)
  for _ in range(1 + int(rng.random() < 0.3)):
    if len(damaged) > 8:
      damaged = ways[rng.integers(len(ways))](rng, damaged)
  if name.endswith(".png") and rng.random() < 0.7:
    damaged = _with_checksums(damaged)
  return bytes(damaged)


def _place(rng: np.random.Generator, data: bytearray) -> int:
  """Draws a place, half of the time in what is a header as a rule."""
  most = min(len(data), 400) if rng.random() < 0.5 else len(data)
  return int(rng.integers(most))


def _flip(rng: np.random.Generator, data: bytearray) -> bytearray:
  for _ in range(rng.integers(1, 9)):
    data[_place(rng, data)] ^= int(rng.integers(1, 256))
  return data


def _extreme(rng: np.random.Generator, length: int) -> bytes:
  value = _EXTREMES[rng.integers(len(_EXTREMES))] % 256**length
  return value.to_bytes(length, "little" if rng.random() < 0.5 else "big")


def _overwrite(rng: np.random.Generator, data: bytearray) -> bytearray:
  length = int(rng.choice([1, 2, 4, 8]))
  place = _place(rng, data)
  data[place : place + length] = _extreme(rng, length)
  return data


def _cut(rng: np.random.Generator, data: bytearray) -> bytearray:
  start, length = _place(rng, data), int(rng.integers(1, len(data)))
  if rng.random() < 0.5:
    return data[:start]
  return data[:start] + data[start + length // 8 :]


def _repeat(rng: np.random.Generator, data: bytearray) -> bytearray:
  start, place = _place(rng, data), _place(rng, data)
  part = data[start : start + int(rng.integers(1, 200))]
  return data[:place] + part + data[place:]


def _change_entry(rng: np.random.Generator, data: bytearray) -> bytearray:
  """Changes the tag, type, number or value of an entry of a TIFF directory."""
  order = "<" if data[:2] == b"II" else ">"
  (start,) = struct.unpack_from(order + "I", data, 4)
  if start + 2 > len(data):
    return data
  (count,) = struct.unpack_from(order + "H", data, start)
  entry = start + 2 + 12 * int(rng.integers(max(count, 1)))
  if entry + 12 > len(data):
    return data
  offset, length = ((0, 2), (2, 2), (4, 4), (8, 2), (8, 4), (8, 4))[
    rng.integers(6)
  ]
  place = entry + offset
  if rng.random() < 0.5:
    data[place : place + length] = _extreme(rng, length)
  else:
    data[place + rng.integers(length)] = int(rng.integers(256))
  return data


def _change_header(rng: np.random.Generator, data: bytearray) -> bytearray:
  """Changes a field of IHDR: sizes, depth, colour type, methods, interlace."""
  place, length = ((16, 4), (20, 4), (24, 1), (25, 1), (28, 1))[rng.integers(5)]
  data[place : place + length] = _extreme(rng, length)
  return data


def _with_checksums(data: bytearray) -> bytearray:
  """Makes the checksums of a PNG right, so that what is damaged is read."""
  place = 8
  while place + 12 <= len(data):
    end = place + 8 + int.from_bytes(data[place : place + 4])
    if end + 4 > len(data):
      break
    data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
    place = end + 4
  return data


def peak_bytes() -> int:
  """Returns the most memory that the process had since `forget_peak`.

  Linux tells it; elsewhere it is not measured: 0.
  """
  if sys.platform != "linux":
    return 0
  status = pathlib.Path("/proc/self/status").read_text()
  return 1024 * int(status.split("VmHWM:")[1].split()[0])


def forget_peak() -> int:
  """Returns the memory that the process has now."""
  if sys.platform == "linux":
    pathlib.Path("/proc/self/clear_refs").write_text("5")
  return peak_bytes()


def read(data: bytes, name: str) -> str | None:
  """Reads a file; None for an image, else the one line of why not.

  Raises:
    Exception: anything else is a fault of ours.
  """
  try:
    decoder.inspect(io.BytesIO(data), name)
    decoder.decode(data, name)
  except decoder.ImageError as error:
    line = str(error)
    if "\n" in line or not line.startswith(f"{name}: "):
      raise AssertionError(
        f"no line with the name of the file: {line}"
      ) from error
    return line
  read_metadata(data)
  return None


class _Printed:
  """Takes what the process prints, C libraries too; `close` ends it."""

  def __init__(self) -> None:
    self._file = tempfile.TemporaryFile()
    self._read = 0
    self._kept = [(fd, os.dup(fd)) for fd in (1, 2)]
    for fd, _ in self._kept:
      os.dup2(self._file.fileno(), fd)

  def new(self) -> str:
    """Returns what was printed since the last call."""
    sys.stdout.flush()
    sys.stderr.flush()
    size = os.fstat(self._file.fileno()).st_size
    text = os.pread(self._file.fileno(), size - self._read, self._read)
    self._read = size
    return text.decode(errors="replace")

  def close(self) -> None:
    for fd, kept in self._kept:
      os.dup2(kept, fd)


def _fault(data: bytes, name: str, printed: _Printed) -> tuple[str | None, str]:
  """Reads a file; returns what is wrong with how, and what came of it."""
  before, start = forget_peak(), time.process_time()
  try:
    line = read(data, name)
  except Exception as error:
    return f"{type(error).__name__}: {error}", "fault"
  seconds, grown = time.process_time() - start, peak_bytes() - before
  text = printed.new()
  outcome = "image" if line is None else "refused"
  if text:
    return f"printed {text[:200]!r}", outcome
  if seconds > _MOST_SECONDS:
    return f"took {seconds:.1f} s of CPU", outcome
  if grown > _MOST_BYTES:
    return f"took {grown / 1e6:.0f} MB", outcome
  return None, outcome


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--mutations", type=int, default=20_000)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--keep", type=pathlib.Path, required=True)
  args = parser.parse_args()
  args.keep.mkdir(parents=True, exist_ok=True)
  files = originals()
  for name, data in files.items():
    line = read(data, name)  # also loads the codecs
    assert line is None, line
  by_kind: dict[str, list[str]] = {}
  for name in files:
    by_kind.setdefault(pathlib.Path(name).suffix, []).append(name)
  kinds, rng = list(by_kind.values()), np.random.default_rng(args.seed)
  counts: collections.Counter[str] = collections.Counter()
  faults = []
  printed = _Printed()
  try:
    for i in range(args.mutations):
      kind = kinds[i % len(kinds)]  # as many of each
      name = kind[rng.integers(len(kind))]
      data = mutate(rng, name, files[name])
      current = args.keep / f"current{pathlib.Path(name).suffix}"
      current.write_bytes(data)
      fault, outcome = _fault(data, name, printed)
      counts[outcome] += 1
      if fault:
        (args.keep / f"{i}_{name}").write_bytes(data)
        faults.append(f"{i}_{name}: {fault}")
      current.unlink()
  finally:
    printed.close()
  print(
    json.dumps({"originals": len(files), **counts, "faults": faults}, indent=1)
  )
  sys.exit(bool(faults))


if __name__ == "__main__":
  main()
