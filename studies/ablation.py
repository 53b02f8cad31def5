"""Trains variants of a network at equal budget and compares what they learn.

  python -m studies.ablation --config=configs/denoise.py:demo \\
    --variants=stage,layer,random_keys,full --seeds=3 --steps=300 \\
    --output=runs/ablation

Every run is one of `train.py`: it has its workdir with a log, TensorBoard files
and checkpoints. Equal are the steps, the batches (of one seed) and the recipe;
time is not, and stands in the table. A run that is complete is not repeated,
one that was interrupted goes on; `runs.csv`, the tables and the plot are
written again after every run. `--list` names the variants
(studies/variants.py).
"""

import contextlib
import json
import logging as python_logging
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from semanir_jax import checkpoint, cli
from semanir_jax.inference import Restorer
from semanir_jax.summary import count_parameters
from semanir_jax.training.loop import train_and_evaluate
from semanir_jax.training.preemption import EXIT_CODE
from studies import ablation_report, measuring, records, variants

_RESULT = "result.json"  # in the workdir of a run that is complete
_CLOCK = "seconds.json"  # of its starts so far


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
  if unknown or not names:
    raise ValueError(
      f"--variants={','.join(unknown)}: use {', '.join(variants.VARIANTS)}"
    )
  tested = measuring.open_test_set(config, set_name, data_dir)
  rows, progress = [], records.Progress(len(names) * len(seeds), "runs")
  # All variants of one seed first: what is there can be compared at any time.
  for seed in seeds:
    for name in names:
      workdir = output / "runs" / f"{name}_{seed}"
      kept = (workdir / _RESULT).exists()
      own = variants.make_config(config, name, seed)
      found = run(own, name, seed, workdir, tested)
      if found is None:
        return False
      rows += found
      if not kept:
        ablation_report.write(output, rows)
      first = found[0]
      progress.add(
        f"{name}, seed {seed}, k = {first['num_keys']}: PSNR"
        f" {first['psnr']:.2f} dB (input {first['input_psnr']:.2f})"
      )
  ablation_report.write(output, rows)
  return True


def run(
  config: ConfigDict,
  name: str,
  seed: int,
  workdir: pathlib.Path,
  tested: tuple[str, list[Any], str],
) -> list[dict[str, Any]] | None:
  """One run: trained unless it is complete, evaluated at its k.

  Returns:
    A row for every k; None if SIGTERM ended the training.

  Raises:
    ValueError: the workdir is of another config or test set.
  """
  meaning = {
    "config": checkpoint.config_to_json(config),
    "protocol": tested[2],
  }
  if (workdir / _RESULT).exists():
    result = json.loads((workdir / _RESULT).read_text())
    if {key: result[key] for key in meaning} != meaning:
      raise ValueError(
        f"{workdir} is complete, but of another config or test set; give"
        " another --output, or delete it"
      )
    return result["rows"]
  with _log_to(workdir):
    began = time.monotonic()
    try:
      complete = train_and_evaluate(config, str(workdir))
    finally:
      seconds = _add_seconds(workdir / _CLOCK, time.monotonic() - began)
  if not complete:
    return None
  rows = evaluate(config, name, seed, workdir, tested, seconds)
  text = json.dumps(meaning | {"rows": rows}, indent=2)
  records.write_text(workdir / _RESULT, text + "\n")
  # The programs of a variant are of no use to the next one.
  jax.clear_caches()
  return rows


def evaluate(
  config: ConfigDict,
  name: str,
  seed: int,
  workdir: pathlib.Path,
  tested: tuple[str, list[Any], str],
  seconds: float,
) -> list[dict[str, Any]]:
  """Rows of a trained variant, one for every k, its own first."""
  model, params, _ = checkpoint.load_for_inference(str(workdir))
  restorer = Restorer(model, params)
  set_name, examples, protocol = tested
  rows = []
  for num_keys in variants.evaluated_keys(config, name):
    scores = measuring.mean_scores(
      restorer, examples, config.eval.protocol.to_dict(), num_keys
    )
    row = {
      "variant": name,
      "seed": seed,
      "num_keys": num_keys,
      "own_k": num_keys == model.num_keys,
      "step": config.train.num_steps,
      "set": set_name,
    }
    row |= scores | {
      "train_seconds": round(seconds, 1),
      "parameters": count_parameters(model),
      "device": measuring.device_line(),
      "protocol": protocol,
    }
    rows.append(row)
  return rows


@contextlib.contextmanager
def _log_to(workdir: pathlib.Path) -> Iterator[None]:
  """Keeps the log of the training in the workdir too."""
  records.write_text(workdir / "README.txt", "A run of studies.ablation.\n")
  handler = python_logging.FileHandler(workdir / "log.txt")
  handler.setFormatter(python_logging.Formatter("%(asctime)s %(message)s"))
  logger = logging.get_absl_logger()
  logger.addHandler(handler)
  try:
    yield
  finally:
    logger.removeHandler(handler)
    handler.close()


def _add_seconds(path: pathlib.Path, seconds: float) -> float:
  """Seconds of all starts of a run, this one included."""
  before = json.loads(path.read_text()) if path.exists() else []
  records.write_text(path, json.dumps([*before, seconds]) + "\n")
  return sum(before) + seconds


def main() -> None:
  """Runs the study."""
  values = flags.FLAGS
  if values.list:
    for name, variant in variants.VARIANTS.items():
      print(f"{name:12} {variant.label}")
    return
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
  config_flags.DEFINE_config_file(
    "config", None, "Config of the first variant."
  )
  flags.DEFINE_list("variants", list(variants.VARIANTS), "Which, by name.")
  flags.DEFINE_integer("seeds", 3, "Runs of each: seeds 0, 1, ...", 1)
  flags.DEFINE_integer("steps", None, "Default: config.train.num_steps.", 1)
  flags.DEFINE_string("output", None, "Folder of the runs and the results.")
  flags.DEFINE_string("set", None, "Test set of the config; default: first.")
  flags.DEFINE_string("data_dir", None, "Folder of the test sets.")
  flags.DEFINE_integer("side", 128, "px, of the input that is timed.", 1)
  flags.DEFINE_bool("list", False, "Name the variants, and end.")
  flags.mark_flags_as_required(["config", "output"])
  cli.run(main)
