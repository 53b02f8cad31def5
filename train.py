"""Trains SemanIR.

python train.py --config=configs/denoise.py:color,s25 --workdir=runs/denoise
"""

from absl import flags
from ml_collections import config_flags

from semanir_jax import cli
from semanir_jax.training.loop import train_and_evaluate

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, with its variants behind a colon."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for checkpoints, logs and pictures."
)
flags.mark_flags_as_required(["config", "workdir"])


def main() -> None:
  """Trains; continues where an earlier run in the same workdir stopped."""
  train_and_evaluate(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
  cli.run(main)
