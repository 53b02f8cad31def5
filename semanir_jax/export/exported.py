"""Runs a network that `export.write` wrote. Needs JAX and nothing more.

from semanir_jax.export import exported
network = exported.load("denoise.stablehlo")
restored = network(tiles)
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import numpy as np

FORMAT = "semanir_jax export 1"
# No noise takes [0, 1] this far; values of 8 bits do.
_LARGEST = 10.0
_NEEDED = ("tile", "in_channels", "num_keys", "max_keys")  # of the facts


class ExportedNetwork:
  """A network as a compiled function of tiles.

  Attributes:
    program: what `jax.export` serialized, weights and all.
    facts: what the file beside it says: `scale`, `tile`, `in_channels`,
      `out_channels`, `num_keys`, `max_keys`, `dtype` and the training run's
      `config`.
  """

  def __init__(
    self, program: jax.export.Exported, facts: Mapping[str, Any]
  ) -> None:
    """See `load`, which calls it."""
    self.program, self.facts = program, facts
    # One for all calls, so that a batch size compiles only the first time.
    self._run = jax.jit(program.call)

  def __call__(
    self, images: np.ndarray, *, num_keys: int | None = None
  ) -> np.ndarray:
    """Restores a batch of tiles.

    Args:
      images: `[B, tile, tile, C]` float32 in [0, 1]; any B >= 1.
      num_keys: k in [1, max_keys]; None for the export's own.

    Returns:
      `[B, tile * S, tile * S, C']` float32, not clipped.

    Raises:
      ValueError: shape, type, k, or the platform JAX runs on do not fit.
    """
    images = np.asarray(images)
    tile, channels = self.facts["tile"], self.facts["in_channels"]
    most = self.facts["max_keys"]
    wanted = self.facts["num_keys"] if num_keys is None else num_keys
    if (
      images.dtype != np.float32
      or images.shape[1:] != (tile, tile, channels)
      or not len(images)
    ):
      raise ValueError(
        f"images {images.shape} {images.dtype}: this export takes"
        f" [batch, {tile}, {tile}, {channels}] float32 (a single image:"
        " image[None]); cut or pad images to its tile, or export another with"
        " --tile"
      )
    if images.max() > _LARGEST:
      raise ValueError(
        f"images with values up to {images.max()}: give [0, 1], as uint8 / 255"
      )
    if wanted != int(wanted) or not 1 <= wanted <= most:
      raise ValueError(
        f"num_keys={wanted} must be a whole number in [1, {most}]"
      )
    here = jax.export.default_export_platform()
    if here not in self.program.platforms:
      raise ValueError(
        f"this export is for {', '.join(self.program.platforms)}, and JAX runs"
        f" on {here}; export again with --platforms={here}"
      )
    return np.asarray(self._run(images, np.int32(wanted)))


def facts_path(path: pathlib.Path) -> pathlib.Path:
  """Returns where the facts about a program lie: beside it."""
  return path.with_name(f"{path.name}.json")


def checksum(program: bytes) -> str:
  """Hashes a serialized program, as its facts have it."""
  return hashlib.sha256(program).hexdigest()


def load(path: str | pathlib.Path) -> ExportedNetwork:
  """Loads what `python -m semanir_jax.export` wrote.

  Args:
    path: the program; its facts lie beside it, as `NAME.json`.

  Raises:
    OSError: the program or its facts are not there.
    ValueError: they are damaged, of another format, or not of each other.
  """
  path = pathlib.Path(path)
  text, program = facts_path(path).read_bytes(), path.read_bytes()
  try:
    facts = json.loads(text)
    form, expected = facts["format"], facts["sha256"]
    if form == FORMAT:
      _ = [facts[name] for name in _NEEDED]
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{facts_path(path)} does not describe an export ({error!r}); it is"
      " damaged: export again"
    ) from error
  if form != FORMAT:
    raise ValueError(
      f"{facts_path(path)} has format {form!r}, not {FORMAT!r}; use the version"
      " of semanir_jax that wrote it, or export again"
    )
  # Checked first: JAX may crash on a damaged program.
  if checksum(program) != expected:
    raise ValueError(
      f"{path} is not the program that {facts_path(path).name} describes; it is"
      " damaged or of another export: copy both again"
    )
  try:
    return ExportedNetwork(jax.export.deserialize(bytearray(program)), facts)
  except Exception as error:  # of a parser that promises nothing
    raise ValueError(
      f"{path} cannot be read by JAX {jax.__version__} ({error!r}); it was"
      f" written by JAX {facts.get('jax')}: export again"
    ) from error
