"""Says, once for each kind, that a network never saw pictures like these."""

from typing import NamedTuple

from absl import logging

from semanir_jax.images import color
from semanir_jax.networks.learned import Learned, find_bundled, learned_by
from semanir_jax.networks.loaded_network import LoadedNetwork
from semanir_jax.restoration.pixel_formats import Picture


class Hint(NamedTuple):
  """What a network never saw.

  Attributes:
    kind: of the pictures, in a few words.
    text: about one of them, with what to do.
  """

  kind: str
  text: str


class Hints:
  """Tells the first picture of every kind, and counts the others."""

  def __init__(self) -> None:
    self._counts: dict[str, int] = {}

  def tell(self, picture: Picture, network: LoadedNetwork) -> None:
    """Says what the network never saw of a picture, where it is news."""
    hint = find_hint(picture, network)
    if hint is None:
      return
    if hint.kind not in self._counts:
      logging.warning("%s: %s", picture.name, hint.text)
    self._counts[hint.kind] = self._counts.get(hint.kind, 0) + 1

  def summarize(self, total: int) -> None:
    """Says how many pictures of a run such a line stood for."""
    for kind, count in self._counts.items():
      if count > 1:
        logging.warning(
          "%s: %d of %d images; the line about the first says what to do",
          kind,
          count,
          total,
        )


def find_hint(picture: Picture, network: LoadedNetwork) -> Hint | None:
  """Finds the most important thing that a network never saw of a picture.

  Args:
    picture: to restore.
    network: chosen for it.

  Returns:
    None where it saw the like, or no bundled network fits better.
  """
  learned = learned_by(network)
  if learned is None:
    return None
  channels = picture.pixels.shape[2]
  gray = channels == 1 or color.is_gray(picture.pixels)
  if learned.mosaics:
    if channels == 1 or not gray or learned.noise or learned.jpeg:
      return None
    return Hint(
      "gray in RGB",
      "has R = G = B, which is taken as filled in already; if it is a mosaic,"
      " save it with one channel",
    )
  if picture.lossy and not learned.jpeg:
    return _never_saw_jpeg(picture.lossy, learned, gray=gray)
  if learned.scale > 1 or not (learned.noise or learned.jpeg):
    return None
  if gray and not learned.gray:
    wanted = {"jpeg": True} if picture.lossy else {"noise": True}
    return _hint(
      "gray",
      find_bundled(gray=True, **wanted),
      "is gray, and this network saw colours alone; --checkpoint={} learned"
      " from gray pictures",
    )
  stored = find_bundled(noise=True, files=True, colour=True)
  if not picture.lossy and not learned.noise:
    return _hint(
      "lossless",
      stored,
      "is lossless, and this network saw JPEG alone; unless it was a JPEG"
      " before, --checkpoint={} is for its noise",
    )
  unclipped = learned.noise and not learned.files
  if learned.colour and unclipped and picture.pixels.itemsize == 1:
    return _hint(
      "of 8 bits",
      stored,
      "has 8 bits, and this network saw noise that is neither clipped nor"
      " rounded; --checkpoint={} learned from that of such files",
    )
  return None


def _never_saw_jpeg(lossy: str, learned: Learned, *, gray: bool) -> Hint | None:
  """Makes the hint for a lossy file."""
  wanted = {"gray": True} if gray else {"colour": True}
  name = find_bundled(jpeg=True, **wanted) or find_bundled(jpeg=True)
  remedy = "--checkpoint={} learned from such files"
  if learned.scale > 1:
    remedy = "restore it with --checkpoint={} first"
  return _hint(
    lossy,
    name,
    f"is a {lossy}, and this network never saw what compression leaves;"
    f" {remedy}",
  )


def _hint(kind: str, name: str | None, text: str) -> Hint | None:
  """Makes a hint that names a network; None where no such one is there."""
  return None if name is None else Hint(kind, text.format(name))
