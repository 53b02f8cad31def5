"""Writes a trained network as one file: its parameters and its config.

  python -m semanir_jax.weights --checkpoint=runs/denoise \\
    --output=mine.safetensors --dtype=float32

Parameters are float32 whatever the run computed in; `--dtype` is what those who
load the file compute in, where a bfloat16 run is to be used on CPUs. The config
in the file names no folder of this machine.
`networks.safetensors_file` says how the file is laid out.
"""

from absl import flags, logging

from semanir_jax import cli
from semanir_jax.machine import files
from semanir_jax.networks.load import load_network
from semanir_jax.networks.safetensors_file import SUFFIX, write_weights


def main() -> None:
  """Writes the newest checkpoint of a run as one file."""
  network = load_network(flags.FLAGS.checkpoint)
  config = network.config
  if flags.FLAGS.dtype is not None:
    options = {**config["model"], "dtype": flags.FLAGS.dtype}
    config = {**config, "model": options}
  path = files.as_path(flags.FLAGS.output)
  write_weights(path, network.params, config)
  logging.info("written: %s, %d bytes", path, path.stat().st_size)


if __name__ == "__main__":
  flags.DEFINE_string(
    "checkpoint", None, "Network: a run's workdir, step, file or name."
  )
  flags.DEFINE_string("output", None, f"File to write, *{SUFFIX}.")
  flags.DEFINE_enum(
    "dtype",
    None,
    ["float32", "bfloat16"],
    "Type of the operands of matrix products; default: the run's.",
  )
  flags.mark_flags_as_required(["checkpoint", "output"])
  cli.run(main)
