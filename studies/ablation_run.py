"""One run of an ablation: trained as by `train.py`, then evaluated at its k."""

import contextlib
import json
import logging as python_logging
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from semanir_jax.inference.restorer import Restorer
from semanir_jax.networks import checkpoint
from semanir_jax.summary import count_parameters
from semanir_jax.training.loop import train_and_evaluate
from studies import measuring, records, variants

MEANING = "run.json"  # in the workdir: what the run is of
RESULT = "result.json"  # likewise, once it is complete
_CLOCK = "seconds.json"  # of its starts so far


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
  path = workdir / MEANING
  if not path.exists():
    records.write_text(path, json.dumps(meaning, indent=2) + "\n")
  elif json.loads(path.read_text()) != meaning:
    raise ValueError(
      f"{workdir} is of another config or test set; give another --output, or"
      " delete it"
    )
  if (workdir / RESULT).exists():
    return json.loads((workdir / RESULT).read_text())["rows"]
  with log_to(workdir):
    began = time.monotonic()
    try:
      complete = train_and_evaluate(config, str(workdir))
    finally:
      seconds = _add_seconds(workdir / _CLOCK, time.monotonic() - began)
  if not complete:
    return None
  rows = evaluate(config, name, seed, workdir, tested, seconds)
  text = json.dumps({"rows": rows}, indent=2)
  records.write_text(workdir / RESULT, text + "\n")
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
  network = checkpoint.load_for_inference(str(workdir))
  restorer = Restorer(network.model, network.params)
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
      "own_k": num_keys == network.model.num_keys,
      "step": config.train.num_steps,
      "set": set_name,
    }
    row |= scores | {
      "train_seconds": round(seconds, 1),
      "parameters": count_parameters(network.model),
      "device": measuring.device_line(),
      "protocol": protocol,
    }
    rows.append(row)
  return rows


@contextlib.contextmanager
def log_to(workdir: pathlib.Path) -> Iterator[None]:
  """Keeps the log of the training in the workdir too."""
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
