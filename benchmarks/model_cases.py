"""What the benchmark of whole networks runs."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from semanir_jax.models.sizes import SIZES


class Network(NamedTuple):
  """A network to time.

  Attributes:
    scale: output side over input side.
    options: of `SemanIR`, or of `DenseWindowNetwork`.
    beside: the dense network that it is compared with; None for those.
    patches: of its training step: what the recipe leaves to each of 8 GPUs.
    patch_px: their side in the output.
  """

  scale: int
  options: Mapping[str, Any]
  beside: str | None
  patches: int
  patch_px: int


_QUICK = {"dim": 8, "num_heads": 1}
NETWORKS: Mapping[str, Network] = {
  "S x4": Network(4, SIZES["S"], "dense x4", 4, 256),
  "dense x4": Network(4, {}, None, 4, 256),
  "U denoising": Network(1, SIZES["U"], "dense x1", 1, 128),
  "dense x1": Network(1, {}, None, 1, 128),
  "B x4": Network(4, SIZES["B"], "dense x4", 4, 256),
}
QUICK_NETWORKS: Mapping[str, Network] = {
  "quick": Network(
    2,
    _QUICK | {"depths": (1,), "window_size": 4, "num_keys": 8, "max_keys": 16},
    "dense quick",
    2,
    16,
  ),
  "dense quick": Network(2, _QUICK | {"depths": (2,)}, None, 2, 16),
}
OUTPUTS = ((256, 256), (640, 360), (1280, 720))  # width, height, px
QUICK_OUTPUTS = ((24, 16),)


class Case(NamedTuple):
  """One row.

  Attributes:
    network: a name of `NETWORKS`.
    operation: "forward" of one image, or "training": one step of a batch.
    batch: images.
    width: of the output, px.
    height: likewise.
  """

  network: str
  operation: str
  batch: int
  width: int
  height: int

  @property
  def pixels(self) -> int:
    """Of all output images."""
    return self.batch * self.width * self.height


def cases(quick: bool) -> Iterator[Case]:
  """All rows, the largest output first."""
  networks = QUICK_NETWORKS if quick else NETWORKS
  outputs = (QUICK_OUTPUTS if quick else OUTPUTS)[::-1]
  for name, size in itertools.product(networks, outputs):
    yield Case(name, "forward", 1, *size)
  for name, network in networks.items():
    side = network.patch_px
    yield Case(name, "training", network.patches, side, side)


def network_of(name: str) -> Network:
  """By its name."""
  return (NETWORKS | QUICK_NETWORKS)[name]
