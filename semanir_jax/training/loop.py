"""The training loop: its phases, one function each, then the loop itself."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from semanir_jax import checkpoint, evaluation, reports, sharding, test_sets
from semanir_jax.data.degradations import make as make_degradation
from semanir_jax.data.images import write_bytes
from semanir_jax.data.pipeline import TrainIterator, make_train_iterator
from semanir_jax.data.sources import Source, open_source
from semanir_jax.inference import Restorer
from semanir_jax.losses import make_loss
from semanir_jax.models.semanir import SemanIR
from semanir_jax.training import optimizer as optimizer_lib
from semanir_jax.training import writers
from semanir_jax.training.checkpoints import Checkpoints, abstract_like
from semanir_jax.training.progress import Progress
from semanir_jax.training.step import TrainState, create_state, make_train_step


def train_and_evaluate(config: Any, workdir: str) -> None:
  """Trains the network of a config, from the newest checkpoint if there is one.

  Args:
    config: see configs/base.py.
    workdir: folder for checkpoints, TensorBoard files and sample pictures;
      created if needed.

  Raises:
    ValueError: a field of the config does not fit.
    ImageError: an image cannot be read.
    CheckpointError: the workdir holds a run of another architecture.
  """
  mesh = sharding.make_mesh(data=config.mesh.data, fsdp=config.mesh.fsdp)
  if config.train.batch_size % mesh.size:
    raise ValueError(
      f"config.train.batch_size={config.train.batch_size} must be a multiple of"
      f" the number of devices, {mesh.size}"
    )
  logging.info("devices: %s, mesh %s", jax.devices(), dict(mesh.shape))
  model = checkpoint.make_model(config.model)
  train_step, init = make_step(config, model, mesh)
  data = make_data(config)
  shapes = jax.eval_shape(init)
  shardings = sharding.state_shardings(shapes, mesh, config.mesh.rules)
  # Opened now, so that a mistake in them does not end a run after hours.
  sets = []
  if config.eval.every_steps > 0:
    sets = list(test_sets.present(config.eval.sets, config.data.data_dir))
  _make_folder(workdir)
  checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
  restored = checkpoints.restore_latest(abstract_like(shapes, shardings))
  if restored is None:
    state = jax.jit(init, out_shardings=shardings)()
  else:
    state, position, _ = restored
    data.set_state(position)
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
  logging.info(
    "SemanIR %s, %d parameters, from step %d",
    model.architecture,
    count,
    int(state.step),
  )
  write_bytes(pathlib.Path(workdir) / "config.json", config.to_json().encode())
  writer = writers.create_writer(workdir)
  save = functools.partial(
    checkpoints.save, config=checkpoint.config_to_json(config)
  )
  validate = functools.partial(
    _validate, config, model, sets=sets, mesh=mesh, writer=writer
  )
  # The state is replaced by the next one in place; the batch is not.
  run = jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, None))
  try:
    _loop(
      config,
      run,
      state,
      data,
      save=save,
      writer=writer,
      validate=validate,
      mesh=mesh,
    )
  finally:
    checkpoints.close()
    writer.close()
    data.close()


def _make_folder(workdir: str) -> None:
  """Makes the folder of a run, if it is not there."""
  try:
    pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(
      f"{workdir}: cannot be made ({error.strerror}); choose another --workdir"
    ) from error


def make_step(config: Any, model: SemanIR, mesh: Mesh) -> tuple[Any, Any]:
  """The train step and the initialiser of its state."""
  optimizer = optimizer_lib.make_optimizer(**config.optimizer)
  schedule = optimizer_lib.make_schedule(
    num_steps=config.train.num_steps, **config.schedule
  )
  train_step = make_train_step(
    model,
    make_loss(**config.loss),
    optimizer,
    schedule,
    mesh,
    ema_decay=config.train.ema_decay,
    random_num_keys=config.train.random_num_keys,
  )
  init = functools.partial(
    create_state,
    model,
    optimizer,
    seed=config.seed,
    ema_decay=config.train.ema_decay,
  )
  return train_step, init


def make_data(config: Any) -> TrainIterator:
  """Opens the training sources; this process's share of the batches."""
  data = config.data
  sources = [
    open_source(
      test_sets.locate(spec, data.data_dir),
      channels=data.channels,
      gray=data.gray or None,
      on_bad_image=data.on_bad_image,
      recursive=data.recursive,
      data_dir=data.data_dir or None,
    )
    for spec in data.train
  ]
  test_sets.warn_of_mixed_splits(data.train, sources)
  options = data.degradation.to_dict()
  return make_train_iterator(
    sources,
    degradation=make_degradation(**options) if options else None,
    patch_size=data.patch_size,
    batch_size=config.train.batch_size,
    seed=config.seed,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    num_workers=data.num_workers,
    num_threads=data.num_threads,
    cache_bytes=int(data.cache_gib * 2**30),
  )


def _loop(
  config: Any,
  run: Any,
  state: TrainState,
  data: TrainIterator,
  *,
  save: Any,
  writer: writers.MetricWriter,
  validate: Any,
  mesh: Mesh,
) -> None:
  """Steps, reports, checkpoints and validation until the last step."""
  rows = sharding.batch_sharding(mesh)
  num_steps = config.train.num_steps
  progress = Progress(int(state.step), num_steps, config.train.batch_size)
  pending: list[Mapping[str, jax.Array]] = []

  def due(every_steps: int) -> bool:
    return every_steps > 0 and (step % every_steps == 0 or step == num_steps)

  for step in range(int(state.step) + 1, num_steps + 1):
    with progress.waiting_for_input():
      batch = next(data)
    state, metrics = run(state, sharding.to_global(batch, rows))
    if config.log.every_steps > 0:
      pending.append(metrics)
    if due(config.log.every_steps):
      scalars = _mean_over_steps(pending)
      scalars |= progress.report(step, scalars)
      writer.write_scalars(step, {f"train/{k}": v for k, v in scalars.items()})
      pending = []
    if due(config.checkpoint.every_steps):
      save(step, state, data.get_state())
    if due(config.eval.every_steps):
      with progress.paused():
        validate(state, step)


def _mean_over_steps(
  pending: list[Mapping[str, jax.Array]],
) -> dict[str, float]:
  """Fetches the metrics of the steps since the last report, once."""
  fetched = jax.device_get(pending)
  means = {k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]}
  # Counters and settings are reported as they stand now.
  latest = {k: float(fetched[-1][k]) for k in ("learning_rate", "skipped")}
  return means | latest


def _validate(
  config: Any,
  model: SemanIR,
  state: TrainState,
  step: int,
  *,
  sets: Sequence[tuple[str, Mapping[str, Any], Source]],
  mesh: Mesh,
  writer: writers.MetricWriter,
) -> None:
  """Measures every test set and writes sample pictures to TensorBoard."""
  restore = Restorer(model, state.eval_params, mesh=mesh)
  for name, options, source in sets:
    results = evaluation.evaluate_set(
      restore,
      test_sets.examples(source, options, max_images=config.eval.max_images),
      config.eval.protocol.to_dict(),
      batch_size=config.eval.batch_size,
    )
    rows = []
    for result in results:
      rows.append(result.row)
      if len(rows) <= config.eval.num_pictures:
        picture = reports.comparison(result)[None]
        writer.write_images(step, {f"{name}/{result.row['name']}": picture})
    mean = reports.mean_row(rows)
    del mean["name"]
    writer.write_scalars(step, {f"{name}/{k}": v for k, v in mean.items()})
    logging.info(
      "step %d, %s, %d images: PSNR %.2f dB (input %.2f), SSIM %.4f (%.4f)",
      step,
      name,
      len(rows),
      mean["psnr"],
      mean["input_psnr"],
      mean["ssim"],
      mean["input_ssim"],
    )
