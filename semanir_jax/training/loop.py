"""The training loop: what a run needs, then its phases one by one."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from absl import logging

from semanir_jax.machine import distributed, files, memory
from semanir_jax.training import goodput, record, tracker
from semanir_jax.training.checkpoints import Checkpoints
from semanir_jax.training.phase_loop import Run, train_phase
from semanir_jax.training.preemption import Preemption
from semanir_jax.training.profile import Profile
from semanir_jax.training.progress import RunProgress
from semanir_jax.training.setup import (
  Plan,
  check_init_from,
  make_plan,
  start_state,
)
from semanir_jax.training.step import TrainState
from semanir_jax.training.validation import measure_id


def train_and_evaluate(
  config: Any,
  workdir: str,
  *,
  profile: bool = False,
  began: float | None = None,
) -> bool:
  """Trains the network of a config, from the newest checkpoint if there is one.

  All processes of a run call it with the same arguments; they need to see the
  same files.

  Args:
    config: see configs/base.py.
    workdir: folder for checkpoints, TensorBoard files and sample pictures;
      created if needed.
    profile: write a trace of a few steps to `workdir/profile`.
    began: when the program began, in seconds since 1970; None for now.

  Returns:
    Whether the run is complete; False if SIGTERM ended it, after saving.

  Raises:
    ValueError: a field of the config does not fit, or the run diverged.
    KeyboardInterrupt: by Ctrl-C; after saving, if it was the first.
    ImageError: an image cannot be read.
    CheckpointError: the workdir holds a run of another architecture, or a new
      run finds nothing at `config.init_from`.
  """
  account = goodput.Account(workdir, began)
  record.warn_of_idle_accelerator()
  plan = make_plan(config)
  with contextlib.ExitStack() as stack:
    with distributed.shared_errors():
      check_init_from(config, workdir)
      _make_folder(workdir)
      stack.enter_context(_alone_in(workdir))
    # A tracker may take its time: it ends after the checkpoints are whole.
    last = stack.enter_context(contextlib.ExitStack())
    preemption = stack.enter_context(Preemption(plan.mesh))
    checkpoints = _open_checkpoints(config, workdir, plan)
    stack.callback(_close, checkpoints, account)
    for stream in plan.data:
      stack.callback(stream.close)
    state, position, changes = start_state(config, plan, checkpoints)
    first = int(state.step)
    if _is_complete(first, config.train.num_steps):
      return True
    _announce(plan, first)
    with distributed.shared_errors():
      _record(config, files.as_path(workdir), first, changes)
      writer = tracker.create_writer(config, workdir)
      last.callback(writer.close)
    run = Run(
      config=config,
      plan=plan,
      checkpoints=checkpoints,
      writer=writer,
      preemption=preemption,
      account=account,
      progress=RunProgress(first, config.train.num_steps),
      profile=_trace(stack, config, workdir, first) if profile else None,
    )
    stopped = _train(run, state, position)
  account.close()
  if stopped is not None:
    preemption.leave(stopped)
  return stopped is None


def _trace(
  stack: contextlib.ExitStack, config: Any, workdir: str, first: int
) -> Profile:
  """Prepares a trace, which ends with the run at the latest."""
  profile = Profile(workdir, first + 1, config.train.num_steps)
  stack.callback(profile.close)
  return profile


def _open_checkpoints(config: Any, workdir: str, plan: Plan) -> Checkpoints:
  """Opens the checkpoints of a workdir as a config says."""
  return Checkpoints(
    workdir,
    keep=config.checkpoint.keep,
    keep_best=config.checkpoint.keep_best,
    measure=measure_id(config, plan.sets),
  )


def _announce(plan: Plan, first: int) -> None:
  """Says what is trained, before it compiles."""
  logging.info(
    "SemanIR %s, %d parameters, from step %d; compiling",
    plan.model.architecture,
    sum(leaf.size for leaf in jax.tree.leaves(plan.placed.shapes.params)),
    first,
  )


def _close(checkpoints: Checkpoints, account: goodput.Account) -> None:
  """Waits until everything is saved."""
  with account.spending("saving"):
    checkpoints.close()


def _record(
  config: Any, folder: pathlib.Path, first: int, changes: Mapping[str, Any]
) -> None:
  """Lets the first process write down what is started."""
  if jax.process_index() == 0:
    files.write_bytes(folder / "config.json", config.to_json().encode())
    record.record_start(folder, first, changes, config.data.data_dir)


def _is_complete(step: int, num_steps: int) -> bool:
  """Says whether no step is left. The record of the run stays as it is then."""
  if step >= num_steps:
    logging.info(
      "nothing to train: step %d is saved, config.train.num_steps is %d",
      step,
      num_steps,
    )
  return step >= num_steps


def _make_folder(workdir: str) -> None:
  """Makes the folder of a run, if it is not there.

  Raises:
    ValueError: it cannot be made, or a bucket not be written.
  """
  try:
    files.make_folder(workdir)
  except OSError as error:
    raise ValueError(
      f"{workdir}: cannot be made ({error.strerror}); choose another --workdir"
    ) from error


@contextlib.contextmanager
def _alone_in(workdir: str) -> Iterator[None]:
  """Keeps other runs out of a workdir, in which each would delete the other's
  checkpoints; a killed run keeps nobody out. Machines that share the folder by
  a network file system may not see the lock, and Windows has none.

  Raises:
    ValueError: another one is at work there.
  """
  with contextlib.ExitStack() as stack:
    if jax.process_index() == 0:
      try:
        import fcntl

        folder = os.open(workdir, os.O_RDONLY)
        stack.callback(os.close, folder)
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as error:
        raise ValueError(
          f"{workdir}: another training run is at work there; wait for its end,"
          " or choose another --workdir"
        ) from error
      except (ImportError, OSError):
        pass  # a system or file system without locks
    yield


def _train(
  run: Run, state: TrainState, position: Mapping[str, int] | None
) -> int | None:
  """Runs the phases that are left.

  Returns:
    The step that was saved if the run was preempted, else None.
  """
  phases = run.plan.phases
  run.account.begin_steps()
  for phase, stream in zip(phases, run.plan.data, strict=True):
    done = int(state.step)
    if done >= phase.stop:
      continue
    if position is not None and done > phase.start:
      # Of this phase, which had another start if the config was changed.
      stream.set_state({**position, "batches_taken": done - phase.start})
    if len(phases) > 1:
      logging.info(
        "phase %d of %d, to step %d: patches of %d px, %d in a batch",
        phase.index + 1,
        len(phases),
        phase.stop,
        phase.patch_size,
        phase.batch_size,
      )
    with memory.explain_out_of_memory(
      f"batches of {phase.batch_size} patches of {phase.patch_size} px do not"
      " fit the memory; use config.train.accumulate, a smaller"
      " config.train.batch_size, or more devices (config.mesh.fsdp)"
    ):
      state, preempted = train_phase(run, state, phase, stream)
    stream.close()
    if preempted:
      return int(state.step)
  if best := run.checkpoints.best():
    logging.info("best checkpoint: step %d, PSNR %.2f dB", *best)
  return None
