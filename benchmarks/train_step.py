"""Times the training step of a config on random images: one row of JSON.

  python -m benchmarks.train_step --config=configs/denoise.py:U_light \\
    --config.model.dtype=bfloat16 --config.model.implementation=mask

Nothing is read or saved; the first phase's batch stays on the device.
"""

import json
import time
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from jax.sharding import Mesh

from benchmarks.timing import median_ms
from semanir_jax import cli
from semanir_jax.machine import sharding
from semanir_jax.models.semanir import SemanIR
from semanir_jax.networks import build
from semanir_jax.ops import choose_implementation
from semanir_jax.training.phases import Phase, make_phases
from semanir_jax.training.setup import place_step, step_flops


def measure(config: Any) -> dict[str, Any]:
  """Compiles and times the step that `train.py` would take.

  Args:
    config: see configs/base.py.

  Returns:
    Form of the attention, `ms` of a step, `images_s`, `teraflops`: the
    network's arithmetic over that time, in TFLOP/s, `compile_s`, with tracing,
    and `temporaries_mib`, in MiB.

  Raises:
    ValueError: a field of the config does not fit.
  """
  mesh = sharding.make_mesh(data=config.mesh.data, fsdp=config.mesh.fsdp)
  phase = make_phases(config, mesh.size)[0]
  model = build.make_model(config.model)
  placed = place_step(config, model, mesh)
  state = jax.jit(placed.init, out_shardings=placed.shardings)()
  batch = _images(model, phase, mesh)
  start = time.perf_counter()
  compiled = placed.train_step.lower(state, batch).compile()
  compile_s = time.perf_counter() - start

  def call() -> Any:
    nonlocal state
    state, metrics = compiled(state, batch)
    return metrics

  milliseconds = median_ms(call, jax.block_until_ready)
  flops = step_flops(model, phase, placed.shapes.params)
  return {
    "attention": choose_implementation(
      model.window_size**2,
      model.max_keys,
      implementation=model.execution.implementation,
      dtype=model.execution.dtype,
    ),
    "dtype": str(jnp.dtype(model.execution.dtype)),
    "batch_size": phase.batch_size,
    "patch_size": phase.patch_size,
    "ms": milliseconds,
    "images_s": 1e3 * phase.batch_size / milliseconds,
    "teraflops": flops / milliseconds / 1e9,
    "compile_s": compile_s,
    "temporaries_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
    "device": jax.devices()[0].device_kind,
    "jax": jax.__version__,
  }


def _images(model: SemanIR, phase: Phase, mesh: Mesh) -> dict[str, jax.Array]:
  """A batch of noise, split over the devices."""
  rows, side = sharding.batch_sharding(mesh), phase.patch_size
  shapes = {
    "lq": (side // model.scale, side // model.scale, model.in_channels),
    "hq": (side, side, model.out_channels),
  }
  return {
    name: jax.device_put(
      jax.random.uniform(jax.random.key(0), (phase.batch_size, *shape)), rows
    )
    for name, shape in shapes.items()
  }


if __name__ == "__main__":
  config_file = cli.define_config()
  flags.mark_flags_as_required(["config"])
  cli.run(
    lambda: print(json.dumps(measure(config_file.value)), flush=True),
    keep_compiled=False,
  )
