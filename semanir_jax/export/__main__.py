"""Exports a network as StableHLO.

  python -m semanir_jax.export --checkpoint=runs/denoise \\
    --output=denoise.stablehlo
"""

import jax
from absl import flags, logging

from semanir_jax import cli
from semanir_jax.export.write import (
  LARGEST_RMS,
  PLATFORMS,
  SUFFIX,
  write_export,
)
from semanir_jax.machine import files
from semanir_jax.networks.load import load_network


def main() -> None:
  """Writes an export of a run, a file of weights or a bundled network."""
  values = flags.FLAGS
  path = files.as_path(values.output)
  difference = write_export(
    path,
    load_network(values.checkpoint).with_dtype(values.dtype),
    tile=values.tile,
    num_keys=values.num_keys,
    platforms=values.platforms,
  )
  logging.info(
    "written: %s, %d bytes, for %s; differs by %.1e from the network on %s",
    path,
    path.stat().st_size,
    ", ".join(values.platforms),
    difference,
    jax.export.default_export_platform(),
  )


if __name__ == "__main__":
  flags.DEFINE_string(
    "checkpoint", None, "Network: a bundled name, a file, a run or a step."
  )
  flags.DEFINE_string("output", None, f"File to write, *{SUFFIX}.")
  flags.DEFINE_integer("tile", 128, "Side of the input tiles, px.")
  flags.DEFINE_integer("num_keys", None, "k of calls that give none.")
  flags.DEFINE_enum(
    "dtype",
    None,
    list(LARGEST_RMS),
    "Type of the operands of matrix products; default: the network's.",
  )
  flags.DEFINE_list("platforms", list(PLATFORMS), "Platforms of the program.")
  flags.mark_flags_as_required(["checkpoint", "output"])
  cli.run(main)
