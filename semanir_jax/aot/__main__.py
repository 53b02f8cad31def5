"""Compiles a config's train and inference step for devices that are not here.

  python -m semanir_jax.aot --config=configs/sr.py:x4 \\
    --topology=v5e:4x8 --config.model.dtype=bfloat16
  python -m semanir_jax.aot --config=configs/sr.py:x4 \\
    --platform=cuda --topology=h200:8
  python -m semanir_jax.aot --config=configs/sr.py:x4 --platform=cpu

The TPU compiler comes with `jax[tpu]` and needs no TPU, one process at a time;
`make gpu_compiler` brings that of NVIDIA GPUs, `make tpu_compiler` that of TPUs
apart from everything else. Printed for each step:
memory per device and whether it fits, arithmetic, collective operations, and
the time that a roofline gives: the largest of arithmetic over peak rate, memory
traffic over bandwidth and collective bytes over link rate. All of it is read
from the compiled program; nothing is measured. Of Pallas kernels a row says how
often each is called, what it moves and its cycles, and how they were counted.
"""

import contextlib
import functools
import json
import time
from importlib import metadata

import jax
from absl import flags

from semanir_jax import cli
from semanir_jax.aot import report, schedule
from semanir_jax.aot.topology import H200_CAPABILITY, topology_devices
from semanir_jax.machine.devices import chip_of
from semanir_jax.machine.files import write_bytes
from semanir_jax.ops import triton_launch

_CONFIG = cli.define_config()
_TOPOLOGY = flags.DEFINE_string(
  "topology",
  None,
  "TPU slice, as v5e:4x8, v5p:2x2x4, v6e:4x8; or h200:8. There are"
  " config.mesh.slices of it.",
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
_CYCLES = flags.DEFINE_bool(
  "cycles", True, "Count the cycles of a TPU's kernels: compiles each alone."
)
_OUT = flags.DEFINE_string("out", None, "JSON file to write the rows to.")

# Packages that bring a platform's compiler.
_COMPILERS = {"tpu": "libtpu", "cuda": "jax-cuda13-pjrt", "cpu": "jaxlib"}


def main() -> None:
  """Prints the rows, and writes them where asked."""
  config, platform = _CONFIG.value, _PLATFORM.value
  devices = topology_devices(platform, _TOPOLOGY.value, config.mesh.slices)
  chip = chip_of(devices[0].device_kind)
  target = contextlib.nullcontext()
  if platform == "cuda":
    target = triton_launch.compile_for(H200_CAPABILITY)
  count_cycles = None
  topology = _TOPOLOGY.value
  if platform == "tpu" and topology and _CYCLES.value:
    count_cycles = functools.partial(schedule.schedules, topology=topology)
  rows, start = [], time.monotonic()
  with target:
    for step in report.compile_steps(
      config,
      devices,
      platform,
      _STEPS.value,
      inference_side=_INFERENCE_SIDE.value,
    ):
      row = report.describe(*step, len(devices), chip, count_cycles)
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
  cli.run(main, keep_compiled=False)
