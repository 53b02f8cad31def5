"""Films for tests, made and read back frame by frame."""

import pathlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np

from semanir_jax.films import planes

RATE = Fraction(30_000, 1001)


class Read(NamedTuple):
  """A film as it was read back.

  Attributes:
    frames: planes of every frame.
    times: of every frame, seconds.
    packets: bytes and times of the packets of each other stream.
    stream: what the stream of the pictures says.
  """

  frames: list[list[np.ndarray]]
  times: list[Fraction]
  packets: dict[int, list[tuple[bytes, Fraction]]]
  stream: dict[str, Any]


def write_film(
  path: pathlib.Path,
  *,
  codec: str = "libx264",
  pixels: str = "yuv420p",
  size: tuple[int, int] = (48, 32),
  times: Sequence[int] = range(0, 10 * 1001, 1001),
  time_base: Fraction = Fraction(1, 30_000),
  rotation: int | None = None,
  audio: str | None = None,
  subtitles: str | None = None,
  colours: dict[str, int] | None = None,
  images: list[np.ndarray] | None = None,
  options: dict[str, str] | None = None,
) -> pathlib.Path:
  """Writes a film of a gradient that moves, in noise.

  Args:
    path: its suffix is the container.
    codec: FFmpeg's encoder.
    pixels: FFmpeg's format.
    size: width and height.
    times: pts of the frames.
    time_base: of them.
    rotation: degrees that players turn it by.
    audio: encoder of a tone beside it.
    subtitles: codec of two lines beside it.
    colours: as `planes.Colours`.
    images: RGB `[H, W, 3]` in [0, 1] instead of the gradient.
    options: of the container.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix in (".mp4", ".mov"):
    scale = {"video_track_timescale": str(time_base.denominator)}
    options = scale | (options or {})
  layout = planes.plane_format(pixels, str(path))
  known = dict(colours or {})
  if known.get("colorspace") == 8:  # told to readers, and not converted by
    known.pop("colorspace")
  said = planes.Colours(**known)
  with av.open(str(path), "w", container_options=options or {}) as container:
    stream: Any = container.add_stream(codec, rate=RATE)
    stream.width, stream.height = size
    stream.pix_fmt, stream.time_base = pixels, time_base
    context = stream.codec_context
    context.time_base = time_base
    if codec == "libx264":  # quick, and with frames out of order
      context.options = {"preset": "veryfast", "crf": "12", "bf": "2"}
    if codec == "libx265":
      context.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    for name, value in (colours or {}).items():
      if name != "chroma_location":
        setattr(context, name, value)
    if rotation is not None:
      stream.set_display_rotation(rotation)
    sound = _add_audio(container, audio)
    text = _add_subtitles(container, subtitles)
    for packet in text:
      container.mux(packet)
    for i, pts in enumerate(times):
      rgb = _gradient(i, *size) if images is None else images[i]
      if layout.kind == "gray":
        rgb = rgb.mean(axis=2, keepdims=True)
      frame = planes.from_unit(rgb, layout, said)
      frame.pts, frame.time_base = pts, time_base
      container.mux(stream.encode(frame))
      if sound is not None:
        container.mux(sound.encode(_tone(sound, i)))
    container.mux(stream.encode(None))
    if sound is not None:
      container.mux(sound.encode(None))
  return path


def read_film(path: pathlib.Path) -> Read:
  """Reads a film back, by PyAV alone."""
  with av.open(str(path)) as container:
    stream: Any = container.streams.video[0]
    frames, times, first = [], [], None
    for image in container.decode(stream):
      first = first or image
      name = image.format.name.replace("yuvj", "yuv")
      layout = planes.plane_format(name, str(path))
      views = planes.read_planes(planes.as_planes(image, layout), layout)
      frames.append([view.copy() for view in views])
      times.append(image.pts * Fraction(str(stream.time_base)))
    assert first is not None
    found = {
      "codec": stream.codec_context.name,
      "size": (first.width, first.height),
      "pixels": first.format.name.replace("yuvj", "yuv"),
      "time_base": Fraction(str(stream.time_base)),
      "rotation": first.rotation,
      "color_range": int(first.color_range),
      "colorspace": int(first.colorspace),
      "types": [s.type for s in container.streams],
      "languages": [s.metadata.get("language") for s in container.streams],
      "title": container.metadata.get("title"),
      "tag": stream.codec_context.codec_tag,
    }
  return Read(frames, times, read_packets(path), found)


def read_packets(path: pathlib.Path) -> dict[int, list[tuple[bytes, Fraction]]]:
  """Reads the packets of all streams but of pictures, by stream."""
  packets: dict[int, list[tuple[bytes, Fraction]]] = {}
  with av.open(str(path)) as container:
    for packet in container.demux():
      if packet.stream.type != "video" and packet.size:
        base = Fraction(str(packet.time_base))
        held = packets.setdefault(packet.stream.index, [])
        held.append((bytes(packet), packet.pts * base))
  return packets


def _gradient(index: int, width: int, height: int) -> np.ndarray:
  """RGB that moves by a pixel a frame, with noise of sigma 8."""
  rng = np.random.default_rng(index)
  y, x = np.mgrid[0:height, 0:width].astype(np.float32)
  x = x + index
  rgb = np.stack([0.3 + x / 200, 0.7 - y / 100, 0.4 + (x % 9) / 30], axis=-1)
  noise = rng.normal(0, 8 / 255, rgb.shape)
  return np.clip(rgb + noise, 0.02, 0.98).astype(np.float32)


def _add_audio(container: Any, codec: str | None) -> Any:
  if codec is None:
    return None
  stream = container.add_stream(codec, rate=48_000)
  stream.layout = "mono"
  stream.metadata["language"] = "swe"
  return stream


def _tone(stream: Any, index: int) -> av.AudioFrame:
  """About a thirtieth of a second of it."""
  count = 1600
  time = np.arange(index * count, (index + 1) * count) / 48_000
  values = np.sin(2 * np.pi * 440 * time)[None]
  name = stream.codec_context.format.name
  kind = {"s16": np.int16, "s16p": np.int16}.get(name, np.float32)
  gain = 20_000 if kind == np.int16 else 0.5
  frame = av.AudioFrame.from_ndarray(
    (values * gain).astype(kind), format=name, layout="mono"
  )
  frame.sample_rate, frame.pts = 48_000, index * count
  return frame


def _add_subtitles(container: Any, codec: str | None) -> list[Any]:
  """Two lines; the packets are text as the codec stores it."""
  if codec is None:
    return []
  stream = container.add_mux_stream(codec)
  stream.time_base = Fraction(1, 1000)
  stream.metadata["language"] = "isl"
  packets = []
  for i, line in enumerate((b"Gone with", b"the noise")):
    stored = len(line).to_bytes(2, "big") + line
    packet = av.Packet(stored if codec == "mov_text" else line)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = 100 * i
    packet.duration = 90
    packets.append(packet)
  return packets
