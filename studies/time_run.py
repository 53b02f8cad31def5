"""One run of `studies.time`: trained, then evaluated at every motion.

The folder of a run holds `run.json` (what it is of), `state.msgpack` (all that
changes in training, written atomically), `seconds.json`, `log.txt`, and
`result.json` with its rows once it is complete.
"""

import dataclasses
import functools
import json
import pathlib
import time
from typing import Any, NamedTuple

import jax
import optax
from absl import logging
from flax import serialization
from jax.sharding import Mesh

from semanir_jax.machine import files, sharding
from semanir_jax.machine.progress import Progress
from semanir_jax.training.losses import make_loss
from semanir_jax.training.optimizer import make_optimizer, make_schedule
from semanir_jax.training.preemption import Preemption
from semanir_jax.training.step import TrainState, create_state, make_train_step
from studies import records, time_arms
from studies.ablation_run import log_to
from studies.time_arms import Arm, Recipe
from studies.time_evaluation import Material, evaluate
from studies.time_network import TimeSemanIR
from studies.time_sequences import Photographs, training_batch

MEANING, RESULT, STATE = "run.json", "result.json", "state.msgpack"
_CLOCK = "seconds.json"  # [steps, seconds] of each start, but for its first one
_LOG_EVERY_SECONDS = 30.0


def run(
  recipe: Recipe,
  name: str,
  seed: int,
  workdir: pathlib.Path,
  material: Material,
  *,
  save_every: int = 100,
) -> list[dict[str, Any]] | None:
  """Trains an arm unless that is done, and evaluates it.

  Args:
    recipe: of all arms.
    name: of `time_arms.ARMS`.
    seed: of parameters and data.
    workdir: folder of the run.
    material: see `Material`.
    save_every: steps between two states that are saved.

  Returns:
    A row for every motion; None if SIGTERM ended the training, after saving.

  Raises:
    ValueError: the folder is of another run.
  """
  arm = time_arms.ARMS[name]
  _check_meaning(workdir, recipe, name, seed, material)
  if (workdir / RESULT).exists():
    return json.loads((workdir / RESULT).read_text())["rows"]
  with log_to(workdir):
    state = train(recipe, arm, seed, workdir, material.train, save_every)
    if state is None:
      return None
    rows = evaluate(recipe, name, seed, state.eval_params, material)
  for row in rows:
    row |= read_clock(workdir)
  records.write_text(
    workdir / RESULT, json.dumps({"rows": rows}, indent=2) + "\n"
  )
  # The programs of an arm are of no use to the next one.
  jax.clear_caches()
  return rows


def _check_meaning(
  workdir: pathlib.Path,
  recipe: Recipe,
  name: str,
  seed: int,
  material: Material,
) -> None:
  """Notes what a run is of; raises ValueError where another one was noted."""
  meaning = {
    "arm": name,
    "seed": seed,
    **dataclasses.asdict(time_arms.ARMS[name]),
    **dataclasses.asdict(recipe),
    "train_photographs": len(material.train),
    "test_photographs": len(material.test),
    "real_sequences": len(material.real),
  }
  text = json.dumps(meaning, indent=2) + "\n"
  path = workdir / MEANING
  if not path.exists():
    records.write_text(path, text)
  elif path.read_text() != text:
    raise ValueError(
      f"{workdir} is of another recipe or other pictures; give another"
      " --output, or delete it"
    )


class _Training(NamedTuple):
  """Holds what a training does: its mesh, optimizer, state and step."""

  mesh: Mesh
  create: Any
  step: Any


def _make_training(recipe: Recipe, model: TimeSemanIR, seed: int) -> _Training:
  """Builds the training as `train.py` does, by the defaults of its config."""
  mesh = sharding.make_mesh(data=1, fsdp=1, devices=jax.devices()[:1])
  optimizer: optax.GradientTransformation = make_optimizer(
    name="adamw",
    momentum=0.95,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    weight_decay=1e-4,
    grad_clip_norm=0.0,
  )
  schedule = make_schedule(
    "cosine",
    peak=recipe.peak,
    num_steps=recipe.steps,
    warmup_steps=round(recipe.warmup_share * recipe.steps),
    hold_steps=round(recipe.hold_share * recipe.steps),
    milestones=(),
    factor=0.5,
    final=0.0,
  )
  loss = make_loss("charbonnier", form="squared", epsilon=1e-3, fft_weight=0.0)
  create = functools.partial(
    create_state, model, optimizer, seed=seed, ema_decay=recipe.ema_decay
  )
  step = make_train_step(
    model,
    loss,
    optimizer,
    schedule,
    mesh,
    ema_decay=recipe.ema_decay,
    random_num_keys=(),
    accumulate=1,
  )
  return _Training(mesh, jax.jit(create), jax.jit(step))


def train(
  recipe: Recipe,
  arm: Arm,
  seed: int,
  workdir: pathlib.Path,
  photographs: Photographs,
  save_every: int,
) -> TrainState | None:
  """Trains an arm from where its folder has it.

  Args:
    recipe: see `run`, and the others.
    arm: see `recipe`.
    seed: see `recipe`.
    workdir: see `recipe`.
    photographs: see `recipe`.
    save_every: see `recipe`.

  Returns:
    The last state; None if SIGTERM came before it.
  """
  training = _make_training(recipe, time_arms.make_model(recipe, arm), seed)
  state: TrainState = training.create()
  if (workdir / STATE).exists():
    saved: Any = serialization.from_bytes(
      state, files.read_bytes(workdir / STATE)
    )
    state = jax.device_put(saved)
  first = int(state.step)
  clock = _Clock(workdir, recipe.steps - first)
  with Preemption(training.mesh) as preemption:
    for step in range(first, recipe.steps):
      began = time.monotonic()
      batch = training_batch(
        photographs,
        seed=seed,
        step=step,
        count=recipe.batch_size,
        side=recipe.side,
        sigma=recipe.sigma,
      )
      batch["lq"] = time_arms.take_frames(arm, batch["lq"])
      state, scalars = training.step(state, batch)
      loss = float(scalars["loss"])  # waits for the step
      seconds = time.monotonic() - began
      clock.tick(seconds, f"step {step + 1} of {recipe.steps}, loss {loss:.4f}")
      stop = bool(preemption.after_step())
      last = step + 1 == recipe.steps
      if stop or last or (step + 1) % save_every == 0:
        clock.save()
        data = serialization.to_bytes(jax.device_get(state))
        files.write_bytes(workdir / STATE, data)
      if stop and not last:
        preemption.leave(step + 1)
        return None
  return state


class _Clock:
  """Logs how a training goes, and adds up its steps' seconds in its folder."""

  def __init__(self, workdir: pathlib.Path, steps: int) -> None:
    """Starts; `steps` lie ahead."""
    self._path = workdir / _CLOCK
    self._before = read_starts(workdir)
    self._steps, self._seconds = -1, 0.0  # the first step compiles
    self._progress = Progress(steps, "steps", every_seconds=_LOG_EVERY_SECONDS)

  def tick(self, seconds: float, what: str) -> None:
    """Takes note of one more step, and of the time it took."""
    self._steps += 1
    if self._steps:
      self._seconds += seconds
    if self._progress.advance(self._steps + 1):
      logging.info("%s (%s)", what, self._progress.describe())

  def save(self) -> None:
    """Writes the steps and seconds of this start behind the others."""
    starts = [*self._before, [self._steps, self._seconds]]
    records.write_text(self._path, json.dumps(starts) + "\n")


def read_starts(workdir: pathlib.Path) -> list[list[float]]:
  """Reads steps and seconds of a run's starts so far."""
  path = workdir / _CLOCK
  return json.loads(path.read_text()) if path.exists() else []


def read_clock(workdir: pathlib.Path) -> dict[str, float]:
  """Returns the seconds of a step: data and update, without compiling."""
  steps, seconds = map(sum, zip(*read_starts(workdir), strict=True))
  return {"seconds_per_step": round(seconds / max(steps, 1), 4)}
