"""Compiles a config's train and inference step for devices that are not here.

  python -m semanir_jax.training.aot --config=configs/sr.py:x4 \\
    --topology=v5e:4x8 --config.model.dtype=bfloat16
  python -m semanir_jax.training.aot --config=configs/sr.py:x4 \\
    --platform=cuda --topology=h200:8
  python -m semanir_jax.training.aot --config=configs/sr.py:x4 --platform=cpu

The TPU compiler comes with `jax[tpu]` and needs no TPU, one process at a time;
`make gpu_compiler` brings that of NVIDIA GPUs. Printed for each step:
memory per device and whether it fits, arithmetic, collective operations, and
the time that a roofline gives: the largest of arithmetic over peak rate, memory
traffic over bandwidth and collective bytes over link rate. All of it is read
from the compiled program; nothing is measured.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import config_flags

from semanir_jax import cli
from semanir_jax.inference.restorer import forward
from semanir_jax.machine import sharding
from semanir_jax.machine.devices import Chip, chip_of
from semanir_jax.machine.files import write_bytes
from semanir_jax.machine.flops import count_flops
from semanir_jax.networks.build import make_model
from semanir_jax.ops import triton_launch
from semanir_jax.training import hlo
from semanir_jax.training.gpu_topology import H200_CAPABILITY
from semanir_jax.training.phases import make_phases
from semanir_jax.training.setup import make_step, place_step
from semanir_jax.training.topology import topology_devices

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, with its variants behind a colon."
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", None, "TPU slice, as v5e:4x8, v5p:2x2x4, v6e:4x8; or h200:8."
)
_PLATFORM = flags.DEFINE_enum(
  "platform",
  "tpu",
  ["tpu", "cuda", "cpu"],
  "cpu compiles for the devices here.",
)
_STEPS = flags.DEFINE_multi_enum(
  "step",
  ["train", "inference"],
  ["train", "inference"],
  "Step to compile; give it once for each. Default: both.",
)
_INFERENCE_SIDE = flags.DEFINE_integer(
  "inference_side", 256, "px, side of the input of the inference step.", 1
)
_OUT = flags.DEFINE_string("out", None, "JSON file to write the rows to.")

# Packages that bring a platform's compiler.
_COMPILERS = {"tpu": "libtpu", "cuda": "jax-cuda13-pjrt", "cpu": "jaxlib"}


def compile_steps(
  config: Any, devices: Sequence[Any], platform: str, steps: Sequence[str]
) -> Iterator[tuple[dict[str, Any], Any, int]]:
  """Compiles the steps of a config, the train step once for every phase.

  Args:
    config: see configs/base.py.
    devices: all devices of the run.
    platform: "tpu", "cuda" or "cpu"; the attention runs as it does there.
    steps: "train", "inference".

  Yields:
    What was compiled (step, and size of its batch), the compiled program or the
    compiler's message where it needs more memory than there is, and the
    floating-point operations of the global batch.

  Raises:
    ValueError: batch, mesh and devices do not fit together.
  """
  mesh = sharding.make_mesh(
    data=config.mesh.data, fsdp=config.mesh.fsdp, devices=devices
  )
  kind = "gpu" if platform == "cuda" else platform
  model = make_model(config.model).clone(platform=kind)
  train_step, _, state, _ = place_step(config, model, mesh)
  # What a GPU kernel computes cannot be counted; the dense form is the same.
  counted = model
  if kind == "gpu":
    counted = model.clone(platform="cpu", implementation="mask")
  counted_step, _ = make_step(config, counted, mesh)
  if "train" in steps:
    for phase in make_phases(config, len(devices)):
      count, side = phase.batch_size, phase.patch_size
      batch = {
        "lq": _images(count, side // model.scale, model.in_channels),
        "hq": _images(count, side, model.out_channels),
      }
      what = {"step": "train", "batch_size": count, "patch_size": side}
      flops = count_flops(counted_step, state, batch)
      yield what, _compile(train_step.lower(state, batch)), flops
  if "inference" in steps:
    count, side = len(devices), _INFERENCE_SIDE.value
    arguments = (
      state.params,
      _images(count, side, model.in_channels),
      jax.ShapeDtypeStruct((), jnp.int32),
    )
    whole, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    run = jax.jit(forward(model, mesh), in_shardings=(whole, rows, whole))
    what = {"step": "inference", "batch_size": count, "input_side": side}
    flops = count_flops(forward(counted, mesh), *arguments)
    yield what, _compile(run.lower(*arguments)), flops


def _images(count: int, side: int, channels: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((count, side, side, channels), jnp.float32)


def _compile(lowered: Any) -> Any:
  """The compiled program, or the message that memory does not suffice."""
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
  num_devices: int,
  chip: Chip | None,
) -> dict[str, Any]:
  """One row: what a step needs on every device.

  Args:
    what: names the step; the row begins with it.
    compiled: `jax.stages.Compiled`, or why there is none.
    flops: of all devices together.
    num_devices: that share them.
    chip: for the roofline and the memory bound; None leaves both out.
  """
  row = what | {
    "devices": num_devices,
    "gigaflops_per_device": flops / num_devices / 1e9,
  }
  if isinstance(compiled, str):
    return row | {"fits": False, "compiler_error": compiled}
  memory = compiled.memory_analysis()
  traffic = hlo.analyse(compiled.as_text())
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
  if chip is not None:
    bounds = {
      "arithmetic": flops / num_devices / (chip.peak_teraflops * 1e12),
      "memory": traffic.memory_bytes / (chip.memory_gb_s * 1e9),
      "links": sum(traffic.collective_bytes.values()) / (chip.link_gb_s * 1e9),
    }
    limit = max(bounds, key=bounds.get)
    row |= {
      "memory_share": used / (chip.memory_gib * 2**30),
      "fits": used < chip.memory_gib * 2**30,
      "arithmetic_ms": 1e3 * bounds["arithmetic"],
      "roofline_ms": 1e3 * bounds[limit],
      "bound_by": limit,
    }
  return row


def main() -> None:
  """Prints the rows, and writes them where asked."""
  config, platform = _CONFIG.value, _PLATFORM.value
  devices = topology_devices(platform, _TOPOLOGY.value)
  chip = chip_of(devices[0].device_kind)
  target = contextlib.nullcontext()
  if platform == "cuda":
    target = triton_launch.compile_for(H200_CAPABILITY)
  rows, start = [], time.monotonic()
  with target:
    for step in compile_steps(config, devices, platform, _STEPS.value):
      row = describe(*step, len(devices), chip)
      row["compile_s"] = round(time.monotonic() - start, 1)
      print(json.dumps(row, indent=2), flush=True)
      rows.append(row)
      start = time.monotonic()
  if _OUT.value:
    document = {
      "topology": _TOPOLOGY.value or platform,
      "device_kind": devices[0].device_kind,
      "versions": {
        package: metadata.version(package)
        for package in ("jax", _COMPILERS[platform])
      },
      "config": json.loads(config.to_json_best_effort()),
      "rows": rows,
    }
    write_bytes(_OUT.value, (json.dumps(document, indent=2) + "\n").encode())


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  jax.config.update("jax_platforms", "cpu")
  cli.run(main)
