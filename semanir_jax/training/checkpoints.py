"""Saves and restores a run: state, position in the data, config."""

import collections
import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from semanir_jax.machine import distributed, files
from semanir_jax.networks import build, checkpoint
from semanir_jax.networks.run_folder import FOLDER, find_checkpoint
from semanir_jax.training.step import TrainState

# Parts of the state that have an item of their own: inference reads only one.
_PARAMS = ("params", "ema_params")
_MEASURE = "measure"  # what a score is of


class Checkpoints:
  """Saves and restores the checkpoints of one workdir."""

  def __init__(
    self, workdir: str, *, keep: int, keep_best: int = 0, measure: str = ""
  ) -> None:
    """Opens `workdir/checkpoints`, creating it if needed.

    Args:
      workdir: folder of the run.
      keep: how many of the newest checkpoints stay.
      keep_best: how many of those with the best `score` stay besides, of
        every measure.
      measure: what scores are of; those of another one are not compared.

    Raises:
      ValueError: no checkpoint would stay.
    """
    if keep < 1 or keep_best < 0:
      raise ValueError(
        f"config.checkpoint.keep={keep} must be at least 1 and"
        f" config.checkpoint.keep_best={keep_best} at least 0"
      )
    self._folder = files.as_path(workdir).absolute() / FOLDER
    self._measure = measure
    options = ocp.CheckpointManagerOptions(
      preservation_policy=checkpoint_managers.AnyPreservationPolicy(
        [checkpoint_managers.LatestN(keep), _BestOfEach(keep_best)]
      ),
      best_fn=_score,
      create=True,
      # Nobody else writes here: what an interrupted save left is rubbish.
      cleanup_tmp_directories=True,
      enable_async_checkpointing=True,
    )
    with self._writing():
      self._manager = checkpoint.open_manager(self._folder, options)

  def save(
    self,
    step: int,
    state: TrainState,
    data: Mapping[str, int],
    config: Mapping[str, Any],
    score: float | None = None,
  ) -> None:
    """Starts saving and returns at once.

    Args:
      step: updates made; the checkpoint's name.
      state: of the same step.
      data: position in the stream, of the iterator.
      config: plain JSON values.
      score: the larger the better; None where it was not measured.
    """
    if step == self._manager.latest_step():
      return
    items = {
      "params": ocp.args.PyTreeSave(state.params),
      "training": ocp.args.PyTreeSave(_without_params(state)),
      "data": ocp.args.JsonSave(dict(data)),
      "config": ocp.args.JsonSave(dict(config)),
    }
    if state.ema_params:
      items["ema_params"] = ocp.args.PyTreeSave(state.ema_params)
    with self._writing():
      self._manager.save(
        step,
        args=ocp.args.Composite(**items),
        metrics={checkpoint.SCORE: score, _MEASURE: self._measure},
        force=True,
      )

  def check(self) -> None:
    """Raises CheckpointError if what was to be saved could not be written."""
    if not self._manager.is_saving_in_progress():
      with self._writing():
        self._manager.wait_until_finished()  # of a finished save: its error

  def newest(self) -> int | None:
    """Returns the step of the newest finished checkpoint."""
    return self._manager.latest_step()

  def best(self) -> tuple[int, float] | None:
    """Returns step and score of the best checkpoint by the measure of now; None
    if none has such a score.

    It waits for what is being written, which may be the best.
    """
    self._manager.wait_until_finished()
    scores = {}
    for step in self._manager.all_steps():
      metrics = self._manager.metrics(step) or {}
      if metrics.get(_MEASURE) == self._measure:
        scores[step] = _score(metrics)
    step = max(scores, key=scores.__getitem__, default=None)
    if step is None or scores[step] == -math.inf:
      return None
    return step, scores[step]

  def restore_latest(
    self, abstract_state: TrainState
  ) -> tuple[TrainState, Mapping[str, int], Mapping[str, Any]] | None:
    """Restores the newest finished checkpoint.

    Args:
      abstract_state: shapes, types and shardings to restore to.

    Returns:
      State, position of the data and config; None if there is no checkpoint.

    Raises:
      CheckpointError: the checkpoint is of another architecture or optimizer,
        or damaged.
    """
    step = self._manager.latest_step()
    self._check_listed(step)
    if step is None:
      return None
    logging.info("restoring step %d from %s", step, self._folder)
    trees = {
      "params": abstract_state.params,
      "training": _without_params(abstract_state),
    }
    if abstract_state.ema_params:
      trees["ema_params"] = abstract_state.ema_params
    items: dict[str, Any] = {
      "data": ocp.args.JsonRestore(),
      "config": ocp.args.JsonRestore(),
    }
    with distributed.shared_errors():
      if jax.process_index() == 0:  # all read the same files
        checkpoint.check_bytes(self._manager, step, [*items, *trees])
    for item, tree in trees.items():
      checkpoint.check_architecture(self._manager, step, item, tree)
      items[item] = checkpoint.restore_tree(tree)
    restored = checkpoint.restore_items(self._manager, step, **items)
    state = TrainState(
      params=restored["params"],
      ema_params=restored["ema_params"] if "ema_params" in trees else {},
      **restored["training"],
    )
    return state, restored["data"], restored["config"]

  def _check_listed(self, step: int | None) -> None:
    """Refuses to go on where steps in a bucket were overlooked: to orbax what
    cannot be reached for a while is no folder.

    Raises:
      CheckpointError: there is a newer step than it found.
    """
    if not files.is_bucket(self._folder):
      return
    newest = None
    with contextlib.suppress(build.CheckpointError):
      _, newest = find_checkpoint(str(self._folder))
    if newest != step:
      raise build.CheckpointError(
        f"{self._folder}: the steps could not be listed (step {newest} is"
        f" there, {step} was found); start the same command again"
      )

  def close(self) -> None:
    """Waits for what is being written."""
    with self._writing():
      self._manager.wait_until_finished()
    self._manager.close()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Turns what goes wrong while writing into one CheckpointError."""
    try:
      yield
    except Exception as error:
      try:
        _, step = find_checkpoint(str(self._folder))
        remedy = f"the same command goes on from step {step}"
      except build.CheckpointError:
        remedy = "start again"
      except OSError:  # which step there is cannot be seen
        remedy = "start the same command again"
      raise build.CheckpointError(
        f"{self._folder}: a checkpoint cannot be written"
        f" ({files.first_line(error)}); see that the folder may be written"
        f" and has space, then {remedy}"
      ) from error


@dataclasses.dataclass
class _BestOfEach(checkpoint_managers.PreservationPolicy):
  """Keeps the `number` checkpoints of the best score of every measure."""

  number: int

  def should_preserve(
    self,
    checkpoints: Sequence[checkpoint_managers.PolicyCheckpointInfo],
    *,
    context: checkpoint_managers.PreservationContext,
  ) -> Sequence[bool]:
    """Says which of the checkpoints stay."""
    del context
    groups = collections.defaultdict(list)
    for info in checkpoints:
      metrics = info.metrics or {}
      if _score(metrics) > -math.inf:
        groups[metrics.get(_MEASURE)].append((_score(metrics), info.step))
    kept = {
      step
      for group in groups.values()
      for _, step in sorted(group, reverse=True)[: self.number]
    }
    return [info.step in kept for info in checkpoints]


def _score(metrics: Mapping[str, float]) -> float:
  """Returns what orders checkpoints; those without a score come first."""
  score = metrics.get(checkpoint.SCORE)
  return -math.inf if score is None else score


def _without_params(state: TrainState) -> dict[str, Any]:
  """Returns the fields of the state that inference never reads."""
  names = [field.name for field in dataclasses.fields(state)]
  return {n: getattr(state, n) for n in names if n not in _PARAMS}


def abstract_like(shapes: Any, shardings: Any) -> Any:
  """Joins shapes and shardings, as restoring wants them."""
  return jax.tree.map(
    lambda leaf, sharding: leaf.update(sharding=sharding), shapes, shardings
  )
