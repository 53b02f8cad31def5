"""Validation: the test sets, measured while training."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from semanir_jax.evaluation import loop, reports, wording
from semanir_jax.evaluation.test_sets import TestSet
from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine import sharding
from semanir_jax.models.semanir import SemanIR
from semanir_jax.training.step import TrainState
from semanir_jax.training.tensorboard import MetricWriter

# Fields of a test set that change no PSNR.
_NOT_MEASURED = ("num_images", "published", "published_ssim", "validate")


def measure_id(config: Any, sets: Sequence[TestSet]) -> str:
  """Names the PSNR that `validate` returns, in short: that of another name, as
  after a change of the test sets, cannot be compared with it.

  Args:
    config: see configs/base.py.
    sets: see `validate`.
  """
  protocol = config.eval.protocol
  facts = {
    "sets": [
      (one.name, len(one.source), _measured_options(one)) for one in sets
    ],
    "channel": protocol.channel,
    "crop_px": protocol.crop_px,
    "max_images": config.eval.max_images,
    "num_keys": config.model.num_keys,
  }
  text = json.dumps(facts, default=lambda nested: nested.to_dict())
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def _measured_options(test_set: TestSet) -> dict[str, Any]:
  """Returns the options of a test set that its PSNR depends on."""
  options = test_set.options
  return {key: options[key] for key in options if key not in _NOT_MEASURED}


def validate(
  config: Any,
  model: SemanIR,
  state: TrainState,
  step: int,
  *,
  sets: Sequence[TestSet],
  writer: MetricWriter,
  stop: Callable[[], bool],
) -> float | None:
  """Measures every test set and writes sample pictures; all processes call it.

  The pictures are of the first images of process 0.

  Args:
    config: see configs/base.py.
    model: the network.
    state: of `step`.
    step: updates made.
    sets: of `open_test_sets`, the same in all processes.
    writer: of metrics and pictures.
    stop: whether to end early; called as often in every process, between
      batches, with the same answer.

  Returns:
    Mean over the sets of their mean PSNR in dB; None if there is no set or it
    ended early.

  Raises:
    ValueError: an image, of any process, cannot be read or does not fit.
  """
  # A loop compiles sooner, and every size of the test sets is compiled.
  model = model.with_execution(unroll=False)
  restore = Restorer(model, state.eval_params, mesh=sharding.make_local_mesh())
  if sets:
    logging.info(
      "step %d, validation: %s; k = %d",
      step,
      wording.measures(config.eval.protocol),
      model.num_keys,
    )
  psnrs = []
  for test_set in sets:
    name, source = test_set.name, test_set.source
    rounds = loop.evaluate_shared(
      restore,
      test_set,
      config.eval.protocol.to_dict(),
      batch_size=config.eval.batch_size,
      max_images=config.eval.max_images,
    )
    rows = []
    for new_rows, results in rounds:
      rows.extend(new_rows)
      for index, result in results.items():
        if index < config.eval.num_pictures * jax.process_count():
          picture = reports.comparison(result)[None]
          writer.write_images(step, {f"{name}/{result.row['name']}": picture})
      if stop():
        logging.info("step %d: validation stopped in %s", step, name)
        return None
    mean = reports.mean_row(rows)
    del mean["name"]
    psnrs.append(mean["psnr"])
    writer.write_scalars(step, {f"{name}/{k}": v for k, v in mean.items()})
    images = f"step {step}, {name}, {len(rows)} of {len(source)} images"
    logging.info("%s: %s", images, wording.scores(mean))
  return float(np.mean(psnrs)) if psnrs else None
