r"""Trains SemanIR.

semanir-train --config=denoise.py:color,s25,smoke --workdir=/tmp/smoke
semanir-train --config=denoise.py:color,s25 --workdir=runs/denoise \
  --config.data.data_dir=DATA

The first command needs no data set and takes seconds.
In a checkout that is not installed: `python train.py` for `semanir-train`. The
same command continues a run that was stopped. docs/training.md has the configs,
docs/data.md the data sets, docs/scaling.md the flags for several processes.
"""

import sys

import psutil
from absl import flags

from semanir_jax import cli
from semanir_jax.machine import allocator, distributed
from semanir_jax.training.loop import train_and_evaluate
from semanir_jax.training.preemption import EXIT_CODE

_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder for checkpoints, logs and pictures.",
  required=True,
)
_PROFILE = flags.DEFINE_bool(
  "profile", False, "Write a trace of a few steps to WORKDIR/profile."
)
flags.mark_flag_as_required("config")
flags.register_validator("workdir", lambda path: path != "", "give a folder")


def main() -> None:
  """Trains; continues where an earlier run in the same workdir stopped.

  Exit code 75: preempted (SIGTERM) and saved; start the same command again. The
  first Ctrl-C saves too, with exit code 1, so that no script goes on by itself.
  """
  distributed.initialize()
  complete = train_and_evaluate(
    _CONFIG.value,
    _WORKDIR.value,
    profile=_PROFILE.value,
    began=psutil.Process().create_time(),
  )
  if not complete:
    sys.exit(EXIT_CODE)


def run() -> None:
  """Is the program `semanir-train`."""
  allocator.keep_freed_memory()
  cli.run(main)
