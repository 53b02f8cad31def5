"""Measuring networks: on a test set, and by the clock."""

import hashlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from semanir_jax.evaluation import loop, reports, test_sets, wording
from semanir_jax.inference.restorer import Restorer
from semanir_jax.models.parameters import abstract_params
from semanir_jax.models.semanir import SemanIR


def open_test_set(
  config: Any, name: str | None, data_dir: str | None
) -> tuple[str, list[test_sets.Example], str]:
  """Reads a test set of a config.

  Args:
    config: `eval.sets` has it; see configs/base.py.
    name: of the set; None for the first whose images are there.
    data_dir: folder of the sets; None for `config.data.data_dir`.

  Returns:
    Its name, its images (`eval.max_images` of them), and the protocol in words.

  Raises:
    ValueError: there is no such set, or its images are not there.
  """
  loop.check_options(config.eval)
  sets = config.eval.sets
  if name is not None:
    if name not in sets:
      raise ValueError(f"--set={name}: the config has {', '.join(sets)}")
    sets = {name: sets[name]}
  folder = config.data.data_dir if data_dir is None else data_dir
  found = test_sets.open_test_sets(sets, folder)
  if not found:
    raise ValueError(
      "no test set was found; give the folder of the sets with --data_dir"
    )
  test_set = found[0]
  num_images = len(test_set.source)
  count = min(num_images, config.eval.max_images or num_images)
  examples = list(test_sets.examples(test_set, range(count)))
  protocol = config.eval.protocol
  words = (
    f"{test_set.name}, {count} of {num_images} images;"
    f" {wording.degradation_line(test_set.options)}; 8 bits, PSNR on"
    f" {wording.CHANNELS[protocol.channel]}, crop {protocol.crop_px} px, SSIM"
    f" {protocol.ssim}, means of per-image values"
  )
  return test_set.name, examples, words


def mean_scores(
  restorer: Restorer,
  examples: list[test_sets.Example],
  protocol: Mapping[str, Any],
  num_keys: int | None,
) -> dict[str, float]:
  """Means over the images of PSNR and SSIM, and of the input's (`input_`)."""
  results = loop.evaluate_set(
    lambda images: restorer(images, num_keys=num_keys),
    examples,
    protocol,
    batch_size=1,
  )
  means = reports.mean_row([result.row for result in results])
  return {key: value for key, value in means.items() if key != "name"}


def fingerprint(params: Any) -> str:
  """Twelve hexadecimal digits that tell parameters apart."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(params):
    digest.update(np.ascontiguousarray(leaf))
  return digest.hexdigest()[:12]


def random_params(model: SemanIR) -> Any:
  """Parameters to time a network with, drawn without compiling anything."""
  rng = np.random.RandomState(0)
  return jax.tree.map(
    lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype),
    abstract_params(model),
  )


def seconds_per_call(
  calls: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, float]:
  """Median seconds of each call, run in turns so that they share the noise.

  Args:
    calls: each returns arrays; compiled and run once before.
    repeats: rounds, at least 1.
  """
  seconds = {name: [] for name in calls}
  for round_number in range(repeats + 1):
    for name, call in calls.items():
      start = time.perf_counter()
      jax.block_until_ready(call())
      if round_number:  # the first one warms up
        seconds[name].append(time.perf_counter() - start)
  return {name: statistics.median(values) for name, values in seconds.items()}


def device_line() -> str:
  """On what, and with which JAX."""
  return f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
