"""Compiles a config's train and inference step for devices that are not here.

  python -m semanir_jax.training.aot --config=configs/sr.py:x4 \\
    --topology=v5e:4x8
  python -m semanir_jax.training.aot --config=configs/sr.py:x4 --platform=cpu

The TPU compiler comes with `jax[tpu]` and needs no TPU. Printed for each step:
memory per device and whether it fits, arithmetic, collective operations, and
the time that a roofline gives: the largest of arithmetic over peak rate, memory
traffic over bandwidth and collective bytes over link rate. It is a bound from
the compiled program, not a measurement.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh
from ml_collections import config_flags

from semanir_jax import cli, sharding
from semanir_jax.checkpoint import make_model
from semanir_jax.data.images import write_bytes
from semanir_jax.flops import count_flops
from semanir_jax.models.semanir import SemanIR
from semanir_jax.training import hlo
from semanir_jax.training.loop import make_step

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, with its variants behind a colon."
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", None, "TPU topology, as v5e:4x8, v5p:2x2x4, v6e:4x8."
)
_PLATFORM = flags.DEFINE_enum(
  "platform", "tpu", ["tpu", "cpu"], "cpu compiles for the devices here."
)
_INFERENCE_SIDE = flags.DEFINE_integer(
  "inference_side", 256, "px, side of the input of the inference step.", 1
)
_OUT = flags.DEFINE_string("out", None, "JSON file to write the rows to.")


@dataclasses.dataclass(frozen=True)
class Chip:
  """Data-sheet figures of one device.

  Attributes:
    memory_gib: main memory.
    peak_teraflops: bfloat16 rate.
    memory_gb_s: bandwidth of the main memory, 1e9 bytes/s.
    link_gb_s: rate of all links to other chips together, 1e9 bytes/s.
  """

  memory_gib: float
  peak_teraflops: float
  memory_gb_s: float
  link_gb_s: float


# cloud.google.com/tpu/docs, system architecture pages of each version.
CHIPS = {
  "v4": Chip(32, 275, 1228, 300),
  "v5e": Chip(16, 197, 819, 200),
  "v5p": Chip(95, 459, 2765, 600),
  "v6e": Chip(32, 918, 1640, 448),
}


def topology_devices(platform: str, topology: str | None) -> list[Any]:
  """Devices to compile for.

  Raises:
    ValueError: no such topology, or the TPU compiler is not installed.
  """
  if platform == "cpu":
    return jax.devices("cpu")
  if not topology or topology.split(":")[0] not in CHIPS:
    raise ValueError(
      f"--topology={topology}: name a TPU slice as v5e:4x8; known chips:"
      f" {', '.join(CHIPS)} (or use --platform=cpu)"
    )
  # libtpu asks a metadata server that exists on Google's machines only.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  try:
    description = topologies.get_topology_desc(
      topology_name=topology, platform="tpu"
    )
  except Exception as error:
    raise ValueError(
      f"--topology={topology} cannot be had ({str(error).splitlines()[0]});"
      ' check the name, and that the compiler is there: pip install "jax[tpu]"'
    ) from error
  return list(description.devices)


def compile_steps(config: Any, devices: list[Any], platform: str) -> list[Any]:
  """Compiles the train step and the inference step of a config.

  Args:
    config: see configs/base.py.
    devices: all devices of the run.
    platform: "cpu" or "tpu"; the attention is computed as that one likes it.

  Returns:
    (name, compiled, floating-point operations of the global batch) per step.
  """
  fsdp = config.mesh.fsdp
  shape = (len(devices) // fsdp, fsdp)
  mesh = Mesh(
    np.array(devices).reshape(shape),
    sharding.DATA_AXES,
    axis_types=(AxisType.Auto,) * 2,
  )
  model = make_model(config.model).clone(platform=platform)
  train_step, init = make_step(config, model, mesh)
  state = jax.eval_shape(init)
  placed = sharding.state_shardings(state, mesh, config.mesh.rules)
  rows = sharding.batch_sharding(mesh)
  count, side = config.train.batch_size, config.data.patch_size
  batch = {
    "lq": _images(count, side // model.scale, model.in_channels),
    "hq": _images(count, side, model.out_channels),
  }
  train = jax.jit(
    train_step,
    donate_argnums=0,
    in_shardings=(placed, rows),
    out_shardings=(placed, None),
  )

  def restore(params: Any, images: jax.Array) -> jax.Array:
    return model.apply({"params": params}, images)

  images = _images(len(devices), _INFERENCE_SIDE.value, model.in_channels)
  inference = jax.jit(restore, in_shardings=(placed.params, rows))
  return [
    (
      "train",
      train.lower(state, batch).compile(),
      count_flops(train_step, state, batch),
    ),
    (
      "inference",
      inference.lower(state.params, images).compile(),
      count_flops(restore, state.params, images),
    ),
  ]


def _images(count: int, side: int, channels: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((count, side, side, channels), jnp.float32)


def describe(
  name: str, compiled: Any, flops: int, num_devices: int, chip: Chip | None
) -> dict[str, Any]:
  """One row: what a compiled step needs on every device.

  Args:
    name: of the step.
    compiled: of `jax.stages.Compiled`.
    flops: of all devices together.
    num_devices: that share them.
    chip: for the roofline and the memory bound; None leaves both out.
  """
  memory = compiled.memory_analysis()
  traffic = hlo.analyse(compiled.as_text())
  used = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )
  row = {
    "step": name,
    "devices": num_devices,
    "arguments_mib": memory.argument_size_in_bytes / 2**20,
    "temporaries_mib": memory.temp_size_in_bytes / 2**20,
    "memory_mib": used / 2**20,
    "gigaflops_per_device": flops / num_devices / 1e9,
    "memory_traffic_gb": traffic.memory_bytes / 1e9,
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
      "fits": used < chip.memory_gib * 2**30,
      "roofline_ms": 1e3 * bounds[limit],
      "bound_by": limit,
    }
  return row


def main() -> None:
  """Prints the rows, and writes them where asked."""
  devices = topology_devices(_PLATFORM.value, _TOPOLOGY.value)
  chip = None
  if _PLATFORM.value == "tpu":
    chip = CHIPS[_TOPOLOGY.value.split(":")[0]]
  steps = compile_steps(_CONFIG.value, devices, _PLATFORM.value)
  rows = [describe(*step, len(devices), chip) for step in steps]
  for row in rows:
    print(json.dumps(row, indent=2))
  if _OUT.value:
    document = {
      "topology": _TOPOLOGY.value or _PLATFORM.value,
      "jax": jax.__version__,
      "batch_size": _CONFIG.value.train.batch_size,
      "patch_size": _CONFIG.value.data.patch_size,
      "inference_side": _INFERENCE_SIDE.value,
      "model": {
        field: getattr(make_model(_CONFIG.value.model), field)
        for field in SemanIR.__dataclass_fields__
        if field not in ("parent", "name", "dtype")
      },
      "rows": rows,
    }
    text = json.dumps(document, indent=2) + "\n"
    write_bytes(pathlib.Path(_OUT.value), text.encode())


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  jax.config.update("jax_platforms", "cpu")
  cli.run(main)
