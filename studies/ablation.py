"""Trains variants of a network at equal budget and compares what they learn.

  python -m studies.ablation --config=configs/denoise.py:demo \\
    --variants=stage,layer,random_keys,full --seeds=3 --steps=300 \\
    --output=runs/ablation

Every run is one of `train.py`: it has its workdir with a log, TensorBoard files
and checkpoints. Equal are the steps, the batches (of one seed) and the recipe;
time is not, and stands in the table. A run that is complete is not repeated,
one that was interrupted goes on; `runs.csv`, the tables and the plot hold all
that are complete, and are written again after every run.
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict

from semanir_jax import cli
from semanir_jax.networks import checkpoint
from semanir_jax.training.preemption import EXIT_CODE
from studies import ablation_report, measuring, records, variants
from studies.ablation_run import MEANING, RESULT, run


def ablate(
  config: ConfigDict,
  names: Sequence[str],
  seeds: Sequence[int],
  output: pathlib.Path,
  *,
  set_name: str | None = None,
  data_dir: str | None = None,
) -> bool:
  """Trains and evaluates every variant with every seed.

  Args:
    config: of the variant "stage"; see configs/base.py.
    names: of `variants.VARIANTS`.
    seeds: of parameters and data.
    output: folder; what is complete in it is kept.
    set_name: test set; `data_dir` its folder (`measuring.open_test_set`).

  Returns:
    Whether all runs are complete; False if SIGTERM ended one, after saving.

  Raises:
    ValueError: a name is unknown, a field does not fit, or the folder holds
      runs of another config.
  """
  unknown = [name for name in names if name not in variants.VARIANTS]
  if unknown or len(set(names)) < max(len(names), 1):
    raise ValueError(
      f"--variants={','.join(unknown or names)}: use"
      f" {', '.join(variants.VARIANTS)}, each once"
    )
  tested = measuring.open_test_set(config, set_name, data_dir)
  names = _distinct(config, names)
  progress = records.StudyProgress(len(names) * len(seeds), "runs")
  # All variants of one seed first: what is there can be compared at any time.
  for seed in seeds:
    for name in names:
      workdir = output / "runs" / f"{name}_{seed}"
      kept = (workdir / RESULT).exists()
      own = variants.make_config(config, name, seed)
      found = run(own, name, seed, workdir, tested)
      if found is None:
        return False
      if not kept:
        ablation_report.write(output, _complete(output, config))
      first = found[0]
      progress.add(
        f"{name}, seed {seed}, k = {first['num_keys']}: PSNR"
        f" {first['psnr']:.2f} dB (input {first['input_psnr']:.2f})"
      )
  ablation_report.write(output, _complete(output, config))
  return True


def _distinct(config: ConfigDict, names: Sequence[str]) -> list[str]:
  """The variants without those that are another one in this config."""
  made: dict[str, str] = {}
  for name in names:
    text = json.dumps(_config_of(config, name, 0), sort_keys=True)
    if made.setdefault(text, name) != name:
      logging.info("left out: %s is %s in this config", name, made[text])
  return list(made.values())


def _config_of(config: ConfigDict, name: str, seed: int) -> Mapping[str, Any]:
  return checkpoint.config_to_json(variants.make_config(config, name, seed))


def _complete(output: pathlib.Path, config: ConfigDict) -> list[dict[str, Any]]:
  """Rows of all runs of this config that are complete, named now or before."""
  rows, order = [], list(variants.VARIANTS)
  for path in output.glob(f"runs/*/{RESULT}"):
    found = json.loads(path.read_text())["rows"]
    meaning = json.loads((path.parent / MEANING).read_text())
    name, seed = found[0]["variant"], found[0]["seed"]
    if meaning["config"] == _config_of(config, name, seed):
      rows += found
  # Stable: a run's own k stays the first.
  return sorted(rows, key=lambda r: (r["seed"], order.index(r["variant"])))


def main() -> None:
  """Runs the study."""
  values = flags.FLAGS
  config = values.config.copy_and_resolve_references().unlock()
  if values.steps:
    config.train.num_steps = values.steps
  complete = ablate(
    config.lock(),
    values.variants,
    range(values.seeds),
    pathlib.Path(values.output),
    set_name=values.set,
    data_dir=values.data_dir,
  )
  if not complete:
    sys.exit(EXIT_CODE)
  ablation_report.time_forward(
    config, values.variants, pathlib.Path(values.output), values.side
  )
  logging.info("written: %s", pathlib.Path(values.output) / "summary.md")


if __name__ == "__main__":
  cli.define_config("Config of the first variant.")
  flags.DEFINE_list(
    "variants", list(variants.VARIANTS), "Which of studies/variants.py."
  )
  flags.DEFINE_integer("seeds", 3, "Runs of each: seeds 0, 1, ...", 1)
  flags.DEFINE_integer("steps", None, "Default: config.train.num_steps.", 1)
  flags.DEFINE_string("output", None, "Folder of the runs and the results.")
  flags.DEFINE_string("set", None, "Test set of the config; default: first.")
  flags.DEFINE_string("data_dir", None, "Folder of the test sets.")
  flags.DEFINE_integer("side", 128, "px, of the input that is timed.", 1)
  flags.mark_flags_as_required(["config", "output"])
  cli.run(main)
