"""Chooses how a restored film is encoded, and encodes frames."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from semanir_jax.films import planes
from semanir_jax.films.library import CONTAINERS, FilmError, explain, load_av
from semanir_jax.films.reading import Film, FilmFrame, FrameFormat

_NAMED = (
  "ultrafast superfast veryfast faster fast medium slow slower veryslow"
).split()


class Codec(NamedTuple):
  """An encoder and its settings.

  Attributes:
    encoder: FFmpeg's name.
    crf: the default quality, and the largest (the worst); None for lossless.
    preset: the default speed.
    presets: all, fastest or slowest first as the encoder has them.
    preset_option: the encoder's name for it.
    fixed: further options.
  """

  encoder: str
  crf: tuple[int, int] | None
  preset: str | None = None
  presets: tuple[str, ...] = ()
  preset_option: str = "preset"
  fixed: tuple[tuple[str, str], ...] = ()


# The defaults are near what the eye cannot tell from the frames: the time went
# into restoring them.
CODECS = {
  "h264": Codec("libx264", (16, 51), "medium", tuple(_NAMED)),
  "h265": Codec(
    "libx265",
    (18, 51),
    "medium",
    tuple(_NAMED),
    fixed=(("x265-params", "log-level=error"),),
  ),
  "av1": Codec("libsvtav1", (20, 63), "6", tuple(map(str, range(14)))),
  "vp9": Codec(
    "libvpx-vp9",
    (20, 63),
    "2",
    tuple(map(str, range(9))),
    "cpu-used",
    (("b", "0"), ("deadline", "good"), ("row-mt", "1")),
  ),
  "ffv1": Codec("ffv1", None),
}
# By container, in the order in which they are tried.
_HELD = {
  ".mp4": ("h264", "h265", "av1", "vp9"),
  ".mov": ("h264", "h265"),
  ".mkv": ("h264", "h265", "av1", "vp9", "ffv1"),
  ".webm": ("vp9", "av1"),
}
_EVEN = ("h264", "h265")  # no odd sides where chroma has fewer samples
_LEAST_PX = {"h265": 64}  # libx265 4.3 writes beyond its memory at 48x64
_MOST_PLAYED_BITS = {"h264": 8}  # more of it is in no player's hardware
_GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
  """What a user may say; None for what suits the film.

  Attributes:
    codec: of `CODECS`.
    crf: constant quality, 0 the best.
    preset: speed against size, in the codec's own words.
  """

  codec: str | None = None
  crf: int | None = None
  preset: str | None = None

  def __bool__(self) -> bool:
    """Says whether anything was said."""
    return self != AS_SUITS


AS_SUITS = EncoderOptions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target(FrameFormat):
  """How a result is encoded.

  Attributes:
    codec: of `CODECS`.
    options: of the encoder, as FFmpeg takes them.
    suffix: of the result's container.
  """

  codec: str
  options: tuple[tuple[str, str], ...]
  suffix: str


def make_target(
  film: Film, suffix: str, scale: int, options: EncoderOptions
) -> Target:
  """Decides how the result of a film is encoded.

  Args:
    film: the input.
    suffix: of the result.
    scale: sides of the result over the film's.
    options: of the user.

  Raises:
    FilmError: no codec, or not the one that was asked for, holds it.
    ValueError: an option is none of the codec's.
  """
  width, height = scale * film.width, scale * film.height
  name = _choose_codec(film, suffix, width, height, options.codec)
  matrix = film.display_matrix
  if matrix is not None:  # 6 and 7 shift by pixels
    matrix = (*matrix[:6], matrix[6] * scale, matrix[7] * scale, matrix[8])
  return Target(
    codec=name,
    options=_encoder_options(name, options),
    suffix=suffix,
    width=width,
    height=height,
    layout=film.layout,
    colours=film.colours.for_height(film.height, height),
    time_base=film.time_base,
    rate=film.rate,
    aspect=film.aspect,
    display_matrix=matrix,
  )


def _choose_codec(
  film: Film, suffix: str, width: int, height: int, asked: str | None
) -> str:
  """Returns the first codec of a container that holds such frames."""
  held = _HELD[suffix]
  frames = f"{film.layout.name} of {width}x{height}"
  if asked is not None:
    if asked not in held:
      raise FilmError(
        f"{film.path}: {suffix} is not written with --codec={asked}; use one of"
        f" {' '.join(held)}, or another container"
      )
    if not _holds(asked, film.layout, width, height):
      fitting = [n for n in CODECS if _holds(n, film.layout, width, height)]
      raise FilmError(
        f"{film.path}: --codec={asked} does not hold its frames, {frames}; of"
        f" {' '.join(fitting)} choose one, or leave it out"
      )
    return asked
  fitting = [n for n in held if _holds(n, film.layout, width, height)]
  if not fitting:
    raise FilmError(
      f"{film.path}: no codec of {suffix} holds its frames, {frames}; name a"
      " file .mkv as --output"
    )
  bits = film.layout.bits
  played = [n for n in fitting if bits <= _MOST_PLAYED_BITS.get(n, bits)]
  return (played or fitting)[0]


def _holds(
  name: str, layout: planes.PlaneFormat, width: int, height: int
) -> bool:
  """Says whether a codec holds frames exactly as they are."""
  odd = layout.sampling != (1, 1) and (width % 2 or height % 2)
  if (name in _EVEN and odd) or min(width, height) < _LEAST_PX.get(name, 1):
    return False
  return _written_as(name, layout) is not None


def _written_as(name: str, layout: planes.PlaneFormat) -> str | None:
  """Returns the format in which an encoder takes samples; None for none."""
  codec = load_av().codec.Codec(CODECS[name].encoder, "w")
  taken = {each.name for each in codec.video_formats or ()}
  # FFV1 wants RGB of 8 bits in one plane; PyAV lays it out anew.
  names = (layout.name, *(("bgr0",) if layout.name == "gbrp" else ()))
  return next((each for each in names if each in taken), None)


def _encoder_options(
  name: str, options: EncoderOptions
) -> tuple[tuple[str, str], ...]:
  """Returns what FFmpeg's encoder takes; ValueError for what it does not."""
  codec, result = CODECS[name], dict(CODECS[name].fixed)
  if codec.crf is None:
    if options.crf is not None or options.preset is not None:
      raise ValueError(
        f"codec {name} is lossless: leave out --crf and --preset"
      )
    return tuple(result.items())
  default, most = codec.crf
  crf = default if options.crf is None else options.crf
  if not 0 <= crf <= most:
    raise ValueError(f"crf={crf} must lie in [0, {most}] for codec {name}")
  preset = options.preset or codec.preset
  if preset not in codec.presets:
    raise ValueError(
      f"preset={preset} is none of codec {name}: {' '.join(codec.presets)}"
    )
  return tuple(
    (result | {"crf": str(crf), codec.preset_option: str(preset)}).items()
  )


def set_up(stream: Any, target: Target) -> None:
  """Gives a stream to be written, or an encoder, the target's properties."""
  context = getattr(stream, "codec_context", stream)
  context.width, context.height = target.width, target.height
  context.pix_fmt = _written_as(target.codec, target.layout)
  context.time_base = target.time_base
  context.framerate = target.rate
  if target.aspect:
    context.sample_aspect_ratio = target.aspect
  colours = target.colours
  context.color_range = colours.color_range
  context.colorspace = colours.colorspace
  context.color_primaries = colours.color_primaries
  context.color_trc = colours.color_trc
  if colours.chroma_location and hasattr(context, "chroma_sample_location"):
    context.chroma_sample_location = colours.chroma_location
  context.options = dict(target.options)
  if target.codec == "h265" and target.suffix in (".mp4", ".mov"):
    context.codec_tag = "hvc1"  # hev1 is not played by Apple's players


def open_encoder(target: Target) -> Any:
  """Opens an encoder; what is encoded by several can be joined.

  Raises:
    FilmError: it does not take the target.
  """
  av = load_av()
  encoder = av.codec.CodecContext.create(CODECS[target.codec].encoder, "w")
  set_up(encoder, target)
  if target.suffix in CONTAINERS:  # all want parameters in the header alone
    encoder.flags |= _GLOBAL_HEADER
  try:
    encoder.open()
  except (av.FFmpegError, ValueError) as error:
    raise FilmError(
      f"frames of {target.width}x{target.height} {target.layout.name} are not"
      f" taken by {CODECS[target.codec].encoder} ({explain(error)}); choose"
      " another --codec"
    ) from error
  return encoder


def encode(target: Target, frames: Iterable[FilmFrame]) -> Iterator[Any]:
  """Encodes frames that can be decoded alone; yields packets as they come.

  The last packets come when the encoder is given nothing.

  Args:
    target: how.
    frames: their images of the target's size and layout.
  """
  encoder = open_encoder(target)
  colours = target.colours
  durations = {}
  for frame in frames:
    durations[frame.pts] = frame.duration
    image = frame.image
    image.pts, image.time_base = frame.pts, target.time_base
    image.color_range = colours.color_range
    image.colorspace = colours.colorspace
    image.color_primaries = colours.color_primaries
    image.color_trc = colours.color_trc
    yield from _timed(encoder.encode(image), durations)
  yield from _timed(encoder.encode(None), durations)


def _timed(packets: list[Any], durations: dict[int, int]) -> Iterator[Any]:
  """Yields packets with the duration of their frame, which encoders forget."""
  for packet in packets:
    packet.duration = durations.pop(packet.pts, 0)
    yield packet
