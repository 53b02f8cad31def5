"""What networks learned from, and which bundled one fits a picture."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from semanir_jax.networks import load
from semanir_jax.networks.loaded_network import LoadedNetwork
from semanir_jax.networks.safetensors_file import SUFFIX


class Learned(NamedTuple):
  """What a network saw in its training.

  Attributes:
    colour: pictures in colour.
    gray: gray pictures.
    noise: noise.
    files: noise as files of 8 bits hold it, clipped and rounded.
    jpeg: what JPEG leaves.
    mosaics: a sensor's mosaics, filled in.
    scale: sides of the results over those of the inputs.
  """

  colour: bool = False
  gray: bool = False
  noise: bool = False
  files: bool = False
  jpeg: bool = False
  mosaics: bool = False
  scale: int = 1


# In the order in which they are recommended. A network that is not there yet is
# none (`find_bundled`).
BUNDLED: Mapping[str, Learned] = {
  "denoise_files_light": Learned(colour=True, noise=True, files=True),
  "photo_light": Learned(
    colour=True, gray=True, noise=True, files=True, jpeg=True
  ),
  "jpeg_color_light": Learned(colour=True, jpeg=True),
  "denoise_gray_light": Learned(gray=True, noise=True),
  "denoise_color_light": Learned(colour=True, noise=True),
  "denoise_color_tiny": Learned(colour=True, noise=True),
  "demosaic_light": Learned(colour=True, mosaics=True),
  "sr_x2_light": Learned(colour=True, scale=2),
  "sr_x4_light": Learned(colour=True, scale=4),
}


def find_bundled(**wanted: bool) -> str | None:
  """Finds the first bundled network that learned from all that is wanted.

  Args:
    **wanted: fields of `Learned`; a network may have learned from more.

  Returns:
    Its name; None where no such network is there.
  """
  for name, learned in BUNDLED.items():
    if all(getattr(learned, field) for field in wanted) and (
      (load.PRETRAINED / f"{name}{SUFFIX}").is_file()
    ):
      return name
  return None


def learned_by(network: LoadedNetwork) -> Learned | None:
  """Says what any network learned from; None where pairs do not tell it."""
  if not network.degradation:
    return None
  links = list(_links(network.degradation))
  names = {link["name"] for link in links}
  photos = [link for link in links if link["name"] == "photo"]
  noises = [link for link in links if link["name"] == "noise"]
  channels = network.model.in_channels
  return Learned(
    colour=channels == 3,
    gray=channels == 1 or any(link.get("gray", 0) for link in photos),
    noise=bool(photos or noises),
    files=bool(photos) or any(link.get("stored", 0) for link in noises),
    jpeg="jpeg" in names or any(link.get("jpeg", 0) for link in photos),
    mosaics="demosaic" in names,
    scale=network.model.scale,
  )


def _links(options: Mapping[str, Any] | str) -> Iterator[Mapping[str, Any]]:
  """Yields the degradations of which a mixture or a chain consists."""
  if isinstance(options, str):
    options = {"name": options}
  members = options.get("degradations")
  if members is None:
    yield options
    return
  for member in members:
    yield from _links(member)
