"""The steps of one phase: reports, validation, checkpoints, and its ends."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from semanir_jax.data.train_iterator import TrainIterator
from semanir_jax.machine import distributed, sharding
from semanir_jax.networks import checkpoint
from semanir_jax.training import tensorboard
from semanir_jax.training.checkpoints import Checkpoints
from semanir_jax.training.goodput import Account
from semanir_jax.training.phases import Phase
from semanir_jax.training.preemption import Preemption, Stop
from semanir_jax.training.profile import Profile
from semanir_jax.training.progress import RunProgress
from semanir_jax.training.setup import Plan, step_flops
from semanir_jax.training.step import TrainState
from semanir_jax.training.validation import validate

# Steps given to the devices before the oldest must be done: enough that they
# never wait for the host, few enough that a preempted run stops soon.
_STEPS_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True)
class Run:
  """Holds what stays the same during a run."""

  config: Any
  plan: Plan
  checkpoints: Checkpoints
  writer: tensorboard.MetricWriter
  preemption: Preemption
  account: Account
  progress: RunProgress
  profile: Profile | None

  def save(
    self, step: int, state: TrainState, data: TrainIterator, score: float | None
  ) -> None:
    """Starts saving a checkpoint."""
    config = checkpoint.config_to_json(self.config)
    with self.account.spending("saving"):
      self.checkpoints.save(step, state, data.get_state(), config, score)
    self.account.write(step)


def train_phase(
  run: Run, state: TrainState, phase: Phase, data: TrainIterator
) -> tuple[TrainState, bool]:
  """Does steps, reports, validation and checkpoints to the end of a phase.

  Returns:
    The state, and whether the run was preempted; it is saved then.

  Raises:
    ValueError: some process has no next batch (saved), or the run diverged.
    KeyboardInterrupt: by Ctrl-C; saved, if it was the first.
  """
  config, progress = run.config, run.progress
  rows = sharding.batch_sharding(run.plan.mesh)
  data.start_prefetch()
  flops = step_flops(run.plan.model, phase, run.plan.placed.shapes.params)
  in_flight: collections.deque[Any] = collections.deque()
  pending: list[Mapping[str, jax.Array]] = []

  def due(every_steps: int) -> bool:
    return every_steps > 0 and (step % every_steps == 0 or last)

  def trouble_ahead(step: int) -> Exception | None:
    with progress.waiting_for_input(), run.account.spending("input"):
      near = min(run.preemption.notice_steps, phase.stop - step)
      return data.look_ahead(near)

  done = int(state.step)
  _fail_together(run, done, state, data, trouble_ahead(done))
  for step in range(done + 1, phase.stop + 1):
    last = step == config.train.num_steps
    if run.profile:
      run.profile.before(step)
    batch = sharding.to_global(next(data), rows)
    state, metrics = run.plan.placed.train_step(state, batch)
    progress.count(phase.batch_size, flops)
    run.account.end_first_step(metrics)
    in_flight.append(metrics)
    if len(in_flight) > _STEPS_IN_FLIGHT:
      jax.block_until_ready(in_flight.popleft())
    if run.profile:
      run.profile.after(step, metrics)
    if config.log.every_steps > 0:
      pending.append(metrics)
    if due(config.log.every_steps):
      _report(run, step, pending)
      pending = []
    error = trouble_ahead(step)
    stop, score = run.preemption.after_step(failed=error is not None), None
    if stop is Stop.FAILED:
      _fail_together(run, step, state, data, error)
    with progress.paused():
      if due(config.eval.every_steps) and not stop:
        try:
          score = _validate(run, state, step)
        except Exception:  # in all processes (`shared_errors`)
          run.save(step, state, data, None)
          raise
        stop = Stop(run.preemption.agreed())
      if stop or last or due(config.checkpoint.every_steps):
        _check_health(run, step, metrics)
        run.save(step, state, data, score)
    if stop and last and due(config.eval.every_steps) and score is None:
      logging.warning(
        "the last step is saved, but not validated; eval.py does that"
      )
    if stop and not last:
      return state, True
  return state, False


def _fail_together(
  run: Run,
  step: int,
  state: TrainState,
  data: TrainIterator,
  error: Exception | None,
) -> None:
  """Saves and raises in all processes, if one of them has an error."""
  try:
    with distributed.shared_errors():
      if error is not None:
        raise error
  except Exception:
    if step > 0:
      run.save(step, state, data, None)
      logging.warning(
        "saved step %d; once this is mended, the same command goes on from it",
        step,
      )
    raise


def _report(
  run: Run, step: int, pending: Sequence[Mapping[str, jax.Array]]
) -> None:
  """Logs the steps since the last report and writes them to TensorBoard."""
  _check_health(run, step, pending[-1])
  run.checkpoints.check()  # not only when the next is due
  fetched = jax.device_get(pending)  # once for all of them
  scalars = {k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]}
  # Counters and settings are reported as they stand now.
  for name in ("learning_rate", "skipped", "skipped_in_row"):
    scalars[name] = float(fetched[-1][name])
  scalars |= run.progress.report(step, scalars)
  run.account.write(step, at_once=False)
  run.writer.write_scalars(
    step, {f"train/{name}": value for name, value in scalars.items()}
  )


def _check_health(
  run: Run, step: int, metrics: Mapping[str, jax.Array]
) -> None:
  """Ends a run whose updates are not finite any more.

  Raises:
    ValueError: `train.max_skipped` of them in a row.
  """
  skipped = int(metrics["skipped_in_row"])
  if skipped < run.config.train.max_skipped:
    return
  newest = run.checkpoints.newest()
  remedy = "nothing is saved yet: start again"
  if newest is not None:
    remedy = f"step {newest} is saved: the same command goes on from it,"
  raise ValueError(
    f"step {step}: the last {skipped} updates were not finite"
    f" (config.train.max_skipped={run.config.train.max_skipped}); {remedy} with"
    " a smaller config.schedule.peak or config.optimizer.grad_clip_norm, or"
    " config.model.dtype='float32'"
  )


def _validate(run: Run, state: TrainState, step: int) -> float | None:
  """Measures mean PSNR over the test sets; None without any or if preempted."""
  with run.account.spending("validating"):
    return validate(
      run.config,
      run.plan.model,
      state,
      step,
      sets=run.plan.sets,
      writer=run.writer,
      stop=run.preemption.agreed,
    )
