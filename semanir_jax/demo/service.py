"""Does what the web demo does, without its page: from upload to result.

A picture is taken as `restore.py` takes it. Degraded first, it is treated as a
photograph of a test set: 8 bits, opaque, the noise always of one seed, and the
network gets what the degradation gives, neither clipped nor rounded.
"""

import functools
import io
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from semanir_jax import degradations
from semanir_jax.evaluation import measures, metrics
from semanir_jax.images import decoder, image_file
from semanir_jax.images.level_range import FULL_RANGE, LevelRange
from semanir_jax.inference.tiled import TiledRestorer
from semanir_jax.networks import load, safetensors_file
from semanir_jax.networks.loaded_network import LoadedNetwork
from semanir_jax.restoration import pixel_formats, result_files, runner
from semanir_jax.restoration.hints import find_hint
from semanir_jax.restoration.pixel_formats import Picture

_FIRST = "photo_light"  # the default of restore.py
_STEM_CHARACTERS = 100  # of a name: file systems take no 255 with what is added
MOST_PX = 24_000_000  # of input and result: what a browser shows with ease

load_network = functools.lru_cache(maxsize=4)(load.load_network)


class Strength(NamedTuple):
  """The option of a degradation that a visitor chooses.

  Attributes:
    option: its name, as `degradations.make` has it.
    label: for people.
    low: smallest value.
    high: largest.
    value: to start with; in the middle of what the network learned.
  """

  option: str
  label: str
  low: int
  high: int
  value: int


class Outcome(NamedTuple):
  """A restored picture.

  Attributes:
    before: file of what the network got, of the size of the result.
    after: file of the result, a PNG.
    shown: the same for the eye: 8 bits where the result has other levels.
    report: PSNR where the clean picture is known, sizes, and seconds.
  """

  before: pathlib.Path
  after: pathlib.Path
  shown: pathlib.Path
  report: str


def list_networks(checkpoints: Sequence[str]) -> list[str]:
  """Lists names for `load_network`: those given, then the bundled ones.

  A visitor starts with the first: of the bundled ones, `photo_light`.

  Raises:
    CheckpointError: one that was given is no network.
    ValueError: there is none at all.
  """
  for name in checkpoints:
    load_network(name)
  paths = load.PRETRAINED.glob(f"*{safetensors_file.SUFFIX}")
  bundled = sorted(
    (path.stem for path in paths), key=lambda n: (n != _FIRST, n)
  )
  names = list(dict.fromkeys([*checkpoints, *bundled]))
  if not names:
    raise ValueError(
      f"no network: {load.PRETRAINED} holds none; give one or more with"
      " --checkpoint, the --workdir of a training run or a"
      f" *{safetensors_file.SUFFIX} file"
    )
  return names


def known_degradations(network: LoadedNetwork) -> dict[str, Mapping]:
  """Lists the degradations that a network was trained against, by name.

  Returns:
    Options for `degradations.make`; empty for a network trained on pairs.
  """
  options = dict(network.degradation)
  if not options:
    return {}
  if options["name"] == "mixture":
    members = [dict(member) for member in options["degradations"]]
  else:
    members = [options]
  return {member["name"]: member for member in members}


def strength(options: Mapping[str, Any]) -> Strength | None:
  """Says what can be chosen of a degradation; None for nothing."""

  def middle(option: str) -> int:
    return round(float(np.mean(options[option])))

  match options["name"]:
    case "noise":
      label = "Sigma of the noise (of 255)"
      return Strength("sigma_255", label, 1, 100, middle("sigma_255"))
    case "jpeg":
      return Strength("quality", "JPEG quality", 1, 100, middle("quality"))
  return None


def restore(
  data: bytes,
  name: str,
  network: str,
  *,
  num_keys: int,
  degradation: Mapping[str, Any] | None,
  folder: pathlib.Path,
  level_range: LevelRange = FULL_RANGE,
) -> Outcome:
  """Restores a picture.

  Args:
    data: bytes of an image file.
    name: of the file, for messages and for the results.
    network: one of `list_networks`.
    num_keys: k.
    degradation: options for `degradations.make`, to degrade the picture first;
      None to restore it as it is.
    folder: existing, for the results.
    level_range: which integers of the file are black and white.

  Raises:
    ImageError: the file is damaged, too large, or not for this network.
    CheckpointError: see `load.load_network`.
    ValueError: k or the degradation does not fit.
  """
  start = time.monotonic()
  loaded = load_network(network)
  restorer = TiledRestorer(loaded, num_keys=num_keys)
  scale = loaded.model.scale
  _check_size(data, name, scale)
  picture = pixel_formats.decode_picture(data, name)
  picture = pixel_formats.set_levels(picture, level_range)
  notes = []
  if not level_range:
    notes.append(pixel_formats.level_advice(picture.pixels, "White level"))
  clean = None
  if degradation is None:
    pixels = pixel_formats.network_input(picture, loaded)
    if hint := find_hint(picture, loaded):
      notes.append(f"it {hint.text}")
    shape = pixel_formats.result_shape(picture, loaded)
    dtype = pixel_formats.result_type(picture, ".png")
  else:
    picture, pixels, clean = _degrade(
      picture, loaded.model.in_channels, degradation
    )
    shape, dtype = clean.shape, np.dtype(np.uint8)
  after = np.empty(shape, dtype)
  runner.restore_into(after, restorer, pixels, picture)
  # Gray as it was, not three times over.
  own = not loaded.takes_mosaics and clean is None
  before = picture.to_unit(picture.pixels if own else pixels)
  before = measures.as_output(before, scale)
  files = _write(before, after, picture, folder)
  lines = [_report(before, after, clean, time.monotonic() - start)]
  lines += [f"{note[0].upper()}{note[1:]}." for note in notes if note]
  return Outcome(
    before=files["before"],
    after=files["restored"],
    shown=files.get("shown", files["restored"]),
    report="\n".join(lines),
  )


def _write(
  before: np.ndarray, after: np.ndarray, picture: Picture, folder: pathlib.Path
) -> dict[str, pathlib.Path]:
  """Writes what is shown and the result; returns the files by kind."""
  images = {"before": before, "restored": after}
  if picture.level_range and after.dtype == np.uint16:
    images["shown"] = picture.level_range.to_8_bits(after)
  stem = pathlib.Path(picture.name).stem[:_STEM_CHARACTERS]
  files = {kind: folder / f"{stem}_{kind}.png" for kind in images}
  for kind, file in files.items():
    data = result_files.encode(file, images[kind], picture)
    result_files.write(file, data)
  return files


def _check_size(data: bytes, name: str, scale: int) -> None:
  """Refuses pictures that would take long, before they are decoded."""
  info = decoder.inspect(io.BytesIO(data), name)
  if info.height * info.width * scale**2 > MOST_PX:
    result = f", x{scale} in the result" if scale > 1 else ""
    raise image_file.ImageError(
      f"{name}: {info.width}x{info.height} px{result} are more than the"
      f" {MOST_PX / 1e6:.0f} megapixels of this page; restore.py takes any size"
    )


def _degrade(
  picture: Picture, channels: int, degradation: Mapping[str, Any]
) -> tuple[Picture, np.ndarray, np.ndarray]:
  """Degrades a picture as a test set's images are.

  Args:
    picture: clean, and opaque; one channel is gray, never a mosaic.
    channels: of the network's input.
    degradation: options for `degradations.make`.

  Returns:
    The clean picture in 8 bits, what the network gets, what it should give.

  Raises:
    ImageError: it has transparent pixels, or colours for a gray network.
  """
  alpha = picture.alpha
  if alpha is not None and alpha.min() < np.iinfo(alpha.dtype).max:
    raise image_file.ImageError(
      f"{picture.name}: has transparent pixels; restore it as it is, or flatten"
      " it on a background first"
    )
  pixels = pixel_formats.match_channels(picture, channels)
  if pixels.dtype != np.uint8:
    pixels = metrics.to_uint8(picture.to_unit(pixels))
  degrade = degradations.make(**degradation)
  lq, hq = degrade(np.random.RandomState(0), pixels)
  clean = metrics.to_uint8(hq)
  picture = picture._replace(pixels=clean, alpha=None, level_range=FULL_RANGE)
  return picture, lq, clean


def _report(
  before: np.ndarray,
  after: np.ndarray,
  clean: np.ndarray | None,
  seconds: float,
) -> str:
  """Writes lines about a result; all are `[H, W, C]` integers."""
  height, width = after.shape[:2]
  bits = 8 * after.dtype.itemsize
  lines = []
  if clean is not None:
    values = [metrics.psnr(image, clean) for image in (before, after)]
    lines.append(
      "PSNR {:.2f} dB before, {:.2f} dB after (all channels, 8 bits, nothing"
      " cropped)".format(*values)
    )
  lines.append(f"{width}x{height} px, {bits} bits, in {seconds:.1f} s")
  if np.array_equal(before, after):
    lines.append(
      "The result equals the input: is the network for pictures like this?"
    )
  return "\n".join(lines)
