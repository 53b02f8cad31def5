"""Reads TensorBoard files without TensorFlow or TensorBoard."""

import pathlib
import struct
from collections.abc import Iterator
from typing import Any

from tensorboardX.proto.event_pb2 import Event


def _records(path: pathlib.Path) -> Iterator[bytes]:
  """A TFRecord file: length, its checksum, data, its checksum."""
  data = path.read_bytes()
  position = 0
  while position < len(data):
    (length,) = struct.unpack_from("<Q", data, position)
    yield data[position + 12 : position + 12 + length]
    position += length + 16


def read(workdir: pathlib.Path) -> Iterator[tuple[int, Any]]:
  """(step, value) of everything written in a folder."""
  for path in sorted(workdir.glob("events.out.tfevents.*")):
    for record in _records(path):
      event = Event.FromString(record)
      for value in event.summary.value:
        yield event.step, value


def scalars(workdir: pathlib.Path) -> dict[str, dict[int, float]]:
  """`{tag: {step: value}}`."""
  found: dict[str, dict[int, float]] = {}
  for step, value in read(workdir):
    if value.HasField("simple_value"):
      found.setdefault(value.tag, {})[step] = value.simple_value
  return found


def images(workdir: pathlib.Path) -> dict[tuple[str, int], bytes]:
  """`{(tag, step): PNG bytes}`."""
  return {
    (value.tag, step): value.image.encoded_image_string
    for step, value in read(workdir)
    if value.HasField("image")
  }
