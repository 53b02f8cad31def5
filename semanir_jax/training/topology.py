"""Devices that are not here, to compile for."""

import os
from typing import Any

import jax
from jax.experimental import topologies

from semanir_jax.training.gpu_topology import h200_devices


def topology_devices(platform: str, topology: str | None) -> list[Any]:
  """Devices to compile for.

  Args:
    platform: "tpu", "cuda" or "cpu"; those here of a CPU.
    topology: a TPU slice, as "v5e:4x8"; or GPUs, "h200:8"; None for a CPU.

  Raises:
    ValueError: no such topology, its devices are parts of chips, or the
      compiler is not installed.
  """
  if platform == "cpu":
    if topology is not None:
      raise ValueError(
        f"--topology={topology}: --platform=cpu compiles for the CPU here;"
        " leave one of them out"
      )
    return jax.devices("cpu")
  if platform == "cuda":
    kind, _, count = (topology or "").partition(":")
    if kind != "h200" or not count.isdecimal():
      raise ValueError(f"--topology={topology}: name H200 GPUs, as h200:8")
    return h200_devices(int(count))
  # libtpu asks a metadata server that exists on Google's machines only.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  try:
    description = topologies.get_topology_desc(
      topology_name=topology, platform="tpu"
    )
  except Exception as error:
    raise ValueError(
      f"--topology={topology} cannot be had ({str(error).splitlines()[0]});"
      " name a TPU slice, as v5e:4x8, v5p:2x2x4 or v6e:4x8, and install its"
      ' compiler: pip install "jax[tpu]"'
    ) from error
  devices = list(description.devices)
  if len({tuple(device.coords) for device in devices}) < len(devices):
    # A real pod joins the two cores of a v4 chip to one device; this does not.
    raise ValueError(
      f"--topology={topology}: its devices are halves of chips here, which no"
      " run would use; take v5e, v5p or v6e"
    )
  return devices
