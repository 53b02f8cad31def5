"""Compiles a config's train and inference step, and says what they need.

For each step: memory per device and whether it fits, arithmetic, collective
operations, and the time that a roofline gives: the largest of arithmetic over
peak rate, memory traffic over bandwidth and collective bytes over link rate.
All of it is read from the compiled program; nothing is measured.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from semanir_jax.aot import hlo
from semanir_jax.aot.kernels import Kernel, find_kernels
from semanir_jax.aot.schedule import Schedule
from semanir_jax.inference.restorer import forward
from semanir_jax.machine import sharding
from semanir_jax.machine.devices import Chip
from semanir_jax.machine.flops import count_flops, count_traced
from semanir_jax.networks.build import make_model
from semanir_jax.training.phases import make_phases
from semanir_jax.training.setup import make_step, place_step

# How the figures of Pallas kernels are found; rows that have some say it.
HOW_COUNTED = (
  "kernels, traffic: a block when the grid comes to another one, where the"
  " compiler has not placed the array in fast memory (blocks_gb: wherever it"
  " lies); cycles:"
  " bundles of the compiler's schedule, a loop's as often as it runs, without"
  " those of branches (branch_megacycles) and waiting for memory; arithmetic:"
  " that of the mask form"
)

CountCycles = Callable[[Sequence[Kernel]], list[Schedule | str]]


def compile_steps(
  config: Any,
  devices: Sequence[Any],
  platform: str,
  steps: Sequence[str],
  *,
  inference_side: int,
) -> Iterator[tuple[dict[str, Any], Any, int, tuple[Kernel, ...]]]:
  """Compiles the steps of a config, the train step once for every phase.

  Args:
    config: see configs/base.py.
    devices: all devices of the run.
    platform: "tpu", "cuda" or "cpu"; the attention runs as it does there.
    steps: "train", "inference".
    inference_side: px, side of the input of the inference step.

  Yields:
    What was compiled (step, and size of its batch), the compiled program or the
    compiler's message where it needs more memory than there is, the
    floating-point operations of the global batch, and the Pallas kernels.

  Raises:
    ValueError: batch, mesh and devices do not fit together.
  """
  mesh = sharding.make_mesh(
    data=config.mesh.data,
    fsdp=config.mesh.fsdp,
    slices=config.mesh.slices,
    devices=devices,
  )
  kind = "gpu" if platform == "cuda" else platform
  model = make_model(config.model).with_execution(platform=kind)
  placed = place_step(config, model, mesh)
  train_step, state = placed.train_step, placed.shapes
  counted = model.with_execution(platform="cpu", implementation="mask")
  counted_step, _ = make_step(config, counted, mesh)
  if "train" in steps:
    for phase in make_phases(config, len(devices)):
      count, side = phase.batch_size, phase.patch_size
      batch = {
        "lq": _images(count, side // model.scale, model.in_channels),
        "hq": _images(count, side, model.out_channels),
      }
      what = {"step": "train", "batch_size": count, "patch_size": side}
      traced = train_step.trace(state, batch)
      flops, kernels = _look_into(traced, kind, counted_step, state, batch)
      yield what, _compile(traced.lower()), flops, kernels
  if "inference" in steps:
    count, side = len(devices), inference_side
    arguments = (
      state.params,
      _images(count, side, model.in_channels),
      jax.ShapeDtypeStruct((), jnp.int32),
    )
    whole, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    run = jax.jit(forward(model, mesh), in_shardings=(whole, rows, whole))
    what = {"step": "inference", "batch_size": count, "input_side": side}
    traced = run.trace(*arguments)
    flops, kernels = _look_into(
      traced, kind, forward(counted, mesh), *arguments
    )
    yield what, _compile(traced.lower()), flops, kernels


def _look_into(
  traced: Any, kind: str, dense: Callable[..., Any], *arguments: Any
) -> tuple[int, tuple[Kernel, ...]]:
  """Counts the arithmetic of a traced program, and finds its Pallas kernels.

  What a Triton kernel computes cannot be counted, and a Pallas kernel computes
  some of it again: with either, the arithmetic is that of the dense form.

  Args:
    traced: the program.
    kind: of the platform.
    dense: the same function without kernels.
    *arguments: of it.
  """
  kernels = find_kernels(traced.jaxpr)
  if kernels or kind == "gpu":
    return count_flops(dense, *arguments), kernels
  return count_traced(traced.jaxpr), kernels


def _images(count: int, side: int, channels: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((count, side, side, channels), jnp.float32)


def _compile(lowered: Any) -> Any:
  """Compiles, or returns the message that memory does not suffice."""
  try:
    return lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if not str(error).startswith("RESOURCE_EXHAUSTED"):
      raise
    return str(error).splitlines()[0]


def describe(
  what: dict[str, Any],
  compiled: Any,
  flops: int,
  kernels: Sequence[Kernel],
  num_devices: int,
  chip: Chip | None,
  count_cycles: CountCycles | None = None,
) -> dict[str, Any]:
  """Makes one row: what a step needs on every device.

  Args:
    what: names the step; the row begins with it.
    compiled: `jax.stages.Compiled`, or why there is none.
    flops: of all devices together.
    kernels: that the program calls.
    num_devices: that share them.
    chip: for the roofline and the memory bound; None leaves both out.
    count_cycles: of a call of each of some kernels; None leaves them out.
  """
  row = what | {
    "devices": num_devices,
    "gigaflops_per_device": flops / num_devices / 1e9,
  }
  if isinstance(compiled, str):
    return row | {"fits": False, "compiler_error": compiled}
  memory = compiled.memory_analysis()
  traffic = hlo.analyse(compiled.as_text(), kernels)
  used = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )
  row |= {
    "arguments_mib": memory.argument_size_in_bytes / 2**20,
    "temporaries_mib": memory.temp_size_in_bytes / 2**20,
    "memory_mib": used / 2**20,
    "memory_traffic_gb": traffic.memory_bytes / 1e9,
    "compiler_megacycles": traffic.cycles / 1e6,
    "collectives": dict(traffic.collective_counts),
    "collective_mb": {
      kind: size / 1e6 for kind, size in traffic.collective_bytes.items()
    },
  }
  if traffic.slice_counts:
    row |= {
      "sent_between_slices": traffic.slice_counts,
      "sent_between_slices_mb": traffic.slice_bytes / 1e6,
    }
  if traffic.kernel_calls or traffic.unknown_kernels:
    row |= _describe_kernels(traffic, count_cycles)
  if chip is not None:
    bounds = {
      "arithmetic": flops / num_devices / (chip.peak_teraflops * 1e12),
      "memory": traffic.memory_bytes / (chip.memory_gb_s * 1e9),
      "links": sum(traffic.collective_bytes.values()) / (chip.link_gb_s * 1e9),
    }
    limit = max(bounds, key=bounds.__getitem__)
    row |= {
      "memory_share": used / (chip.memory_gib * 2**30),
      "fits": used < chip.memory_gib * 2**30,
      "arithmetic_ms": 1e3 * bounds["arithmetic"],
      "roofline_ms": 1e3 * bounds[limit],
      "bound_by": limit,
    }
  return row


def _describe_kernels(
  traffic: hlo.Traffic, count_cycles: CountCycles | None
) -> dict[str, Any]:
  """Makes the part of a row that says what the Pallas kernels need."""
  kernels = list(traffic.kernel_calls)
  schedules = count_cycles(kernels) if count_cycles else [None] * len(kernels)
  rows, total = [], 0.0
  for kernel, schedule in zip(kernels, schedules, strict=True):
    calls = traffic.kernel_calls[kernel]
    row = {
      "kernel": kernel.name,
      "grid": list(kernel.grid),
      "calls": calls,
      "traffic_gb": traffic.kernel_bytes[kernel] / 1e9,
      "blocks_gb": calls * sum(kernel.moved_bytes) / 1e9,
    }
    if isinstance(schedule, Schedule):
      row["megacycles"] = calls * schedule.cycles / 1e6
      row["branch_megacycles"] = calls * schedule.branches / 1e6
      total += row["megacycles"]
    elif schedule is not None:
      row["cycles_not_counted"] = schedule
    rows.append(row)
  described: dict[str, Any] = {
    "kernels": rows,
    "kernels_not_described": traffic.unknown_kernels,
    "how_counted": HOW_COUNTED,
  }
  if rows and all("megacycles" in row for row in rows):
    described["kernel_megacycles"] = total
  return described
