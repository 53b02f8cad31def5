"""Times whole SemanIR networks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from benchmarks.attention_jax import memory_mib
from benchmarks.model_cases import Case, network_of
from benchmarks.timing import median_ms
from semanir_jax.inference.restorer import forward
from semanir_jax.machine.sharding import DATA_AXES
from semanir_jax.models.execution import Execution
from semanir_jax.models.semanir import SemanIR
from semanir_jax.ops import choose_implementation
from semanir_jax.training.losses import l1
from semanir_jax.training.optimizer import make_optimizer
from semanir_jax.training.step import create_state, make_train_step


def measure(fields: list[Any]) -> dict[str, Any]:
  """Times a case on the device here, in a process that has run nothing before.

  Args:
    fields: of a `Case`.

  Returns:
    The form of the attention, `ms` of a call, and `memory_mib`, the compiler's,
    parameters included. (The allocator's peak knows the compilation too, and
    cannot be reset.)
  """
  case = Case(*fields)
  network = network_of(case.network)
  model = SemanIR(
    **dict(network.options) | {"scale": network.scale},
    execution=Execution(dtype=jnp.bfloat16),
  )
  make = _make_forward if case.operation == "forward" else _make_training
  try:
    compiled, call = make(case, model, network.scale)
    milliseconds = median_ms(call, jax.block_until_ready)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return {"error": "out of memory"}
  arguments = compiled.memory_analysis().argument_size_in_bytes / 2**20
  return {
    "attention": choose_implementation(
      model.window_size**2, model.max_keys, dtype=model.execution.dtype
    ),
    "ms": milliseconds,
    "memory_mib": arguments + sum(memory_mib(compiled).values()),
  }


def _make_forward(
  case: Case, model: SemanIR, scale: int
) -> tuple[Any, Callable[[], Any]]:
  """The compiled network, and a call of it."""
  images = _images(case.batch, case.height // scale, case.width // scale)
  side = model.size_multiple
  params = jax.jit(model.init)(jax.random.key(0), _images(1, side, side))
  arrays = (params["params"], images, jnp.int32(model.num_keys))
  compiled = jax.jit(forward(model, None)).lower(*arrays).compile()
  return compiled, lambda: compiled(*arrays)


def _make_training(
  case: Case, model: SemanIR, scale: int
) -> tuple[Any, Callable[[], Any]]:
  """The compiled train step, and a call that goes on from the last."""
  mesh = Mesh(
    np.array(jax.devices()[:1]).reshape(1, 1),
    DATA_AXES,
    axis_types=(AxisType.Auto,) * 2,
  )
  optimizer = make_optimizer(
    name="adamw",
    momentum=0.0,  # of Muon
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    weight_decay=0.0,
    grad_clip_norm=0.0,
  )
  step = make_train_step(
    model,
    l1,
    optimizer,
    lambda step: jnp.float32(2e-4),
    mesh,
    ema_decay=0.0,  # which the other network does not have either
    random_num_keys=(),
    accumulate=1,
  )
  state = jax.jit(
    lambda: create_state(model, optimizer, seed=0, ema_decay=0.0)
  )()
  batch = {
    "lq": _images(case.batch, case.height // scale, case.width // scale),
    "hq": _images(case.batch, case.height, case.width),
  }
  compiled = jax.jit(step, donate_argnums=0).lower(state, batch).compile()

  def call() -> Any:
    nonlocal state
    state, metrics = compiled(state, batch)
    return metrics

  return compiled, call


def _images(count: int, height: int, width: int) -> jax.Array:
  return jax.random.uniform(jax.random.key(1), (count, height, width, 3))
