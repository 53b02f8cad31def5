"""Exports a network as StableHLO, for programs without Flax and this package.

The file holds program and weights, for tiles of one size, any batch size and
any k. What it is written from runs beside it before it is written, and both
must say the same. docs/export.md says more.
"""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from semanir_jax.export import exported
from semanir_jax.export.exported import ExportedNetwork
from semanir_jax.inference import tile_size
from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine import memory
from semanir_jax.machine.files import write_bytes
from semanir_jax.models.semanir import SemanIR
from semanir_jax.networks.loaded_network import LoadedNetwork

PLATFORMS = ("cpu", "cuda", "tpu")
SUFFIX = ".stablehlo"
# Between export and network, of values in [0, 1], by the type of products. They
# are one program but for the order of sums; a key in the dictionary that
# changes place with an equal one may change single pixels by more.
LARGEST_RMS = {"float32": 1e-4, "bfloat16": 4e-3}
_VERIFIED = 3  # tiles in the larger of the batches that are compared


def export_network(
  model: SemanIR,
  params: Mapping[str, Any],
  *,
  tile: int,
  platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
  """Turns a network into a program with its weights inside.

  Args:
    model: the network. It runs in its mask form, which every platform has: the
      Triton kernel is a call into a library of the machine that compiles it,
      and the Pallas kernels are programs for a TPU alone.
    params: its parameters.
    tile: side of the input, px; need not be a multiple of the window's.
    platforms: of `PLATFORMS`; one program serves them all.

  Returns:
    A function of images `[b, tile, tile, C]` float32 in [0, 1], any b >= 1, and
    k, int32, clipped to [1, max_keys]; it returns
    `[b, tile * S, tile * S, C']` float32, not clipped.

  Raises:
    ValueError: the tile or a platform is none, or the tile too large to verify.
  """
  unknown = sorted(set(platforms) - set(PLATFORMS))
  if unknown or not platforms:
    raise ValueError(
      f"platforms {', '.join(unknown) or '(none)'}: use some of"
      f" {', '.join(PLATFORMS)}"
    )
  if tile < 1:
    raise ValueError(f"tile={tile} must be at least 1 px")
  fits = tile_size.px_that_fit(model, memory.free_memory())
  if _VERIFIED * tile**2 > fits:
    raise ValueError(
      f"tile={tile}: the export is verified here, with {_VERIFIED} tiles, for"
      " which the memory does not suffice; it does up to"
      f" {math.isqrt(fits // _VERIFIED)} px"
    )
  # Named here, or the machine that exports would decide. Windows go in chunks
  # as on a CPU: the least memory, and a batch fills a larger device.
  portable = model.with_execution(implementation="mask", platform="cpu")

  def restore(images: jax.Array, num_keys: jax.Array) -> jax.Array:
    # Image by image, because the size of a chunk depends on their number.
    return jax.vmap(
      lambda image: portable.apply(
        {"params": params}, image[None], num_keys=num_keys
      )[0]
    )(images)

  (batch,) = jax.export.symbolic_shape("b")
  images = (batch, tile, tile, model.in_channels)
  return jax.export.export(jax.jit(restore), platforms=tuple(platforms))(
    jax.ShapeDtypeStruct(images, jnp.float32),
    jax.ShapeDtypeStruct((), jnp.int32),
  )


def verify(
  network: ExportedNetwork, model: SemanIR, params: Mapping[str, Any]
) -> float:
  """Compares an export with the network, on the platform JAX runs on.

  Returns:
    The largest root mean square of the differences, over batches of one tile
    and of several, and two values of k.

  Raises:
    ValueError: it is too large, or not a number.
  """
  facts = network.facts
  tile, channels = facts["tile"], facts["in_channels"]
  eager = Restorer(model, params)
  shape = (_VERIFIED, tile, tile, channels)
  images = np.random.RandomState(0).uniform(0, 1, shape)
  images = images.astype(np.float32)
  found = []
  for num_keys in (facts["num_keys"], 1):
    expected = eager(images, num_keys=num_keys)
    for count in (1, _VERIFIED):
      restored = network(images[:count], num_keys=num_keys)
      difference = np.mean(np.square(restored - expected[:count]))
      found.append(float(np.sqrt(difference)))
  bound = LARGEST_RMS[jnp.dtype(model.execution.dtype).name]
  if not all(value <= bound for value in found):
    raise ValueError(
      f"the export differs from the network by {max(found):.2g} (root mean"
      f" square, at most {bound:g}); nothing is written: please report it"
    )
  return max(found)


def write_export(
  path: pathlib.Path,
  network: LoadedNetwork,
  *,
  tile: int,
  num_keys: int | None = None,
  platforms: Sequence[str] = PLATFORMS,
) -> float:
  """Exports, verifies, and only then writes the program and its facts.

  Args:
    path: `NAME.stablehlo`; the facts become `NAME.stablehlo.json`.
    network: what is exported.
    tile: see `export_network`; `platforms` likewise.
    num_keys: k where a call names none; None for the network's own.

  Returns:
    See `verify`.

  Raises:
    ValueError: an option does not fit, or the export is wrong.
  """
  if path.suffix != SUFFIX:
    raise ValueError(f"{path}: the name must end with {SUFFIX}")
  here = jax.export.default_export_platform()
  if here not in platforms:
    raise ValueError(
      f"platforms {', '.join(platforms)}: the export is verified here, on"
      f" {here}; add it"
    )
  model, params = network.model, network.params
  dtype = jnp.dtype(model.execution.dtype).name
  if dtype not in LARGEST_RMS:
    raise ValueError(f"dtype={dtype}: use one of {', '.join(LARGEST_RMS)}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(
      f"{path.parent} cannot be made ({error.strerror}); choose another"
      " --output"
    ) from error
  num_keys = Restorer(model, params).check_num_keys(num_keys)
  program = export_network(model, params, tile=tile, platforms=platforms)
  data = bytes(program.serialize())
  facts = {
    "format": exported.FORMAT,
    "sha256": exported.checksum(data),
    "tile": tile,
    "num_keys": num_keys,
    "max_keys": model.max_keys,
    "scale": model.scale,
    "in_channels": model.in_channels,
    "out_channels": model.out_channels,
    "dtype": dtype,
    "platforms": list(program.platforms),
    "jax": jax.__version__,
    "config": network.config,
  }
  # What people will have, not what it was made from.
  again = jax.export.deserialize(bytearray(data))
  difference = verify(ExportedNetwork(again, facts), model, params)
  write_bytes(path, data)
  write_bytes(exported.facts_path(path), json.dumps(facts, indent=1).encode())
  return difference
