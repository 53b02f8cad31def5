"""Runs a whole benchmark: a config's test sets, measured, written down."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import logging

from semanir_jax.data import splits
from semanir_jax.evaluation import reports, test_sets
from semanir_jax.evaluation.loop import Restore, check_options, evaluate_shared
from semanir_jax.evaluation.test_sets import TestSet
from semanir_jax.inference import ensemble
from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine import distributed, sharding
from semanir_jax.machine.progress import Progress
from semanir_jax.networks.load import identify, load_network, pin


def evaluate(
  config: Any,
  *,
  checkpoint_path: str | None,
  data_dir: str,
  output: pathlib.Path,
  num_keys: int | None,
  self_ensemble: bool = False,
) -> None:
  """Runs a whole benchmark; prints and writes tables and pictures.

  All processes must call it.

  Args:
    config: `config.eval`; its batch size is that of each device.
    checkpoint_path: see `load_network`; None measures the inputs.
    data_dir: folder of the test sets.
    output: folder for `results.json`, `results.md`, and for every set a CSV
      file of its images and a folder of pictures; created if needed.
    num_keys: k of a network; None for the checkpoint's.
    self_ensemble: see `Restorer`.

  Raises:
    ValueError: bad input. What was finished is written then, and of the set
      at hand the figures of the batches before, as NAME_unfinished.csv.
  """
  if checkpoint_path is None and (num_keys is not None or self_ensemble):
    raise ValueError(
      "inputs are measured without a network: leave out --num_keys and"
      " --self_ensemble, or --baseline"
    )
  check_options(config)
  protocol = config.protocol.to_dict() | {"max_images": config.max_images}
  sets = test_sets.open_test_sets(config.sets, data_dir)
  if not sets:
    raise ValueError(
      "none of the test sets was found; give their folder with --data_dir"
    )
  options_by_name = {test_set.name: test_set.options for test_set in sets}
  restore = None
  if checkpoint_path is not None:
    with distributed.shared_errors():
      exact_path = pin(checkpoint_path)
    # The step of a run that is still training is the first process's to say.
    exact_path = distributed.gather(exact_path)[0]
    with distributed.shared_errors():
      restore, facts = _load(
        exact_path,
        options_by_name,
        num_keys=num_keys,
        self_ensemble=self_ensemble,
      )
    protocol |= facts
  with distributed.shared_errors():
    report = reports.Report(
      output,
      protocol,
      options_by_name,
      baseline=restore is None,
    )
  logging.info("%s", report.protocol_line())
  for test_set in sets:
    _add_set(report, restore, test_set, protocol, config)
  report.finish()


def _add_set(
  report: reports.Report,
  restore: Restore | None,
  test_set: TestSet,
  protocol: Mapping[str, Any],
  config: Any,
) -> None:
  """Measures one test set into the report."""
  rounds = evaluate_shared(
    restore,
    test_set,
    protocol,
    batch_size=config.batch_size,
    max_images=config.max_images,
  )
  rows: list[reports.Row] = []
  name, num_images = test_set.name, len(test_set.source)
  count = min(num_images, config.max_images or num_images)
  progress = Progress(count, "images", every=count / 10)
  try:
    for new_rows, results in rounds:
      rows.extend(new_rows)
      with distributed.shared_errors():
        for index, result in results.items():
          if index < config.num_pictures:
            report.write_pictures(name, result)
      if progress.advance(len(rows)):
        speed = progress.describe()
        logging.info("%s: %d of %d images, %s", name, len(rows), count, speed)
  except ValueError:
    report.add_unfinished(name, rows)
    raise
  report.add_set(name, rows, num_images=num_images)


def _load(
  path: str,
  sets: Mapping[str, Mapping[str, Any]],
  *,
  num_keys: int | None,
  self_ensemble: bool,
) -> tuple[Restore, dict[str, Any]]:
  """Loads the network to measure on these entries of `config.sets`.

  Args:
    path: see `load.pin`.
    sets: by name.
    num_keys: see `evaluate`.
    self_ensemble: see `evaluate`.

  Returns:
    What restores, and the facts of it that belong to the protocol.
  """
  network = load_network(path)
  splits.warn_of_seen_images(sets, network.config["data"]["train"])
  _warn_of_other_tasks(sets, network.degradation)
  if self_ensemble:
    ensemble.check_turnable(network.degradation)
    for options in sets.values():
      ensemble.check_turnable(options["degradation"])
  restorer = Restorer(
    network.model, network.params, mesh=sharding.make_local_mesh()
  )
  facts = {
    "network": identify(path),
    "num_keys": restorer.check_num_keys(num_keys),
    "window_size": network.model.window_size,
    "self_ensemble": self_ensemble,
  }
  restore = functools.partial(
    restorer, num_keys=facts["num_keys"], self_ensemble=self_ensemble
  )
  return restore, facts


def _warn_of_other_tasks(
  sets: Mapping[str, Mapping[str, Any]], learned: Mapping[str, Any]
) -> None:
  """Names test sets of a degradation that the network has not learned."""
  parts = learned.get("degradations", (learned,))
  names = {part.get("name", "pairs of images") for part in parts}
  for set_name, options in sets.items():
    name = options["degradation"].get("name")
    if name is not None and name not in names:
      logging.warning(
        "%s: is of %s, and the network has learned %s",
        set_name,
        name,
        ", ".join(sorted(names)),
      )
