r"""Evaluates a checkpoint on the test sets of a config.

semanir-eval --config=denoise.py:color,s25 --workdir=runs/denoise \
  --data_dir=DATA

In a checkout that is not installed: `python eval.py` for `semanir-eval`.
docs/data.md says how the test sets lie in DATA.
"""

from absl import flags

from semanir_jax import cli
from semanir_jax.evaluation import evaluate
from semanir_jax.machine import allocator, distributed, files
from semanir_jax.machine.compiled import keep_compiled_in

_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of the run; the results go into its folder `eval`.",
  required=True,
)
_CHECKPOINT = flags.DEFINE_string(
  "checkpoint",
  None,
  "Network: a bundled name, a .safetensors file, a run's workdir or a step;"
  " default: the run in --workdir.",
)
_BASELINE = flags.DEFINE_bool(
  "baseline", False, "Evaluate the degraded input itself; needs no network."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Folder of the test sets; default: config.data.data_dir."
)
_NUM_KEYS = flags.DEFINE_integer(
  "num_keys",
  None,
  "k: how many tokens each token attends to; default: the network's.",
  1,
)
_SELF_ENSEMBLE = flags.DEFINE_bool(
  "self_ensemble",
  False,
  "Take the mean over 8 flips and turns, in 8 times the time.",
)
flags.mark_flag_as_required("config")
flags.register_validator("workdir", lambda path: path != "", "give a folder")


def main() -> None:
  """Runs the benchmark and writes its tables and pictures."""
  if _BASELINE.value and _CHECKPOINT.value is not None:
    raise ValueError(
      "inputs are measured without a network: leave out --checkpoint, or"
      " --baseline"
    )
  distributed.initialize()
  with distributed.shared_errors():
    keep_compiled_in(_CONFIG.value.compilation_cache_dir)
  evaluate.evaluate(
    _CONFIG.value.eval,
    checkpoint_path=None
    if _BASELINE.value
    else _CHECKPOINT.value or _WORKDIR.value,
    data_dir=_CONFIG.value.data.data_dir
    if _DATA_DIR.value is None
    else _DATA_DIR.value,
    output=files.as_path(_WORKDIR.value) / "eval",
    num_keys=_NUM_KEYS.value,
    self_ensemble=_SELF_ENSEMBLE.value,
  )


def run() -> None:
  """Is the program `semanir-eval`."""
  allocator.keep_freed_memory()
  cli.run(main)
