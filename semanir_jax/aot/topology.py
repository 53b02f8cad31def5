"""Devices that are not here, to compile for."""

import importlib.util
import os
import pathlib
from typing import Any

import jax
from jax.experimental import topologies

# What XLA asks a GPU, as it describes itself: data sheet, and limits of compute
# capability 9.0 in the CUDA programming guide.
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 151397597184
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  device_vendor: "NVIDIA Corporation"
  name: "NVIDIA H200"
  device_address_bits: 64
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H200"
"""
H200_CAPABILITY = 90
HOST_GPUS = 8


def topology_devices(
  platform: str, topology: str | None, slices: int = 1
) -> list[Any]:
  """Returns the devices to compile for.

  Args:
    platform: "tpu", "cuda" or "cpu"; those here of a CPU.
    topology: a TPU slice, as "v5e:4x8"; or GPUs, "h200:8"; None for a CPU.
    slices: such TPU slices, with a slower network between them.

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
  options = {"num_slices": slices} if slices > 1 else {}
  try:
    description = topologies.get_topology_desc(
      topology_name=topology or "", platform="tpu", **options
    )
  except Exception as error:
    raise ValueError(
      f"--topology={topology} cannot be had ({str(error).splitlines()[0]});"
      " name a TPU slice, as v5e:4x8, v5p:2x2x4 or v6e:4x8, and install its"
      ' compiler: make tpu_compiler, or pip install "jax[tpu]"'
    ) from error
  devices = list(description.devices)
  places = {(getattr(d, "slice_index", 0), *d.coords) for d in devices}
  if len(places) < len(devices):
    # A real pod joins the two cores of a v4 chip to one device; this does not.
    raise ValueError(
      f"--topology={topology}: its devices are halves of chips here, which no"
      " run would use; take v5e, v5p or v6e"
    )
  return devices


def h200_devices(count: int) -> list[Any]:
  """Returns H200s to compile for, on hosts of `HOST_GPUS`.

  The CPU has to be the platform that JAX runs on (`jax_platforms`). Programs
  with Triton kernels are traced inside
  `triton_launch.compile_for(H200_CAPABILITY)`.

  Args:
    count: devices; a multiple of `HOST_GPUS` where it is larger.

  Raises:
    ValueError: no such number, or JAX's CUDA compiler is not installed.
  """
  if count < 1 or (count > HOST_GPUS and count % HOST_GPUS):
    raise ValueError(
      f"{count} GPUs: compile for 1 to {HOST_GPUS}, or for a multiple of"
      f" {HOST_GPUS}"
    )
  hosts = -(-count // HOST_GPUS)
  _use_one_assembler()
  try:
    description = topologies.get_topology_desc(
      platform="cuda",
      topology_name="h200",
      target_config=H200,
      topology=f"1x{hosts}x{count // hosts}",
    )
  except Exception as error:
    raise ValueError(
      "JAX's compiler for NVIDIA GPUs cannot be loaded"
      f" ({str(error).splitlines()[0]}); on Linux: make gpu_compiler, and set"
      " PYTHONPATH to the folder that it names"
    ) from error
  return list(description.devices)


def _use_one_assembler() -> None:
  """Lets Triton write for the assembler that XLA takes, where pip installed it.

  Each brings a ptxas of its own, and an older one refuses the newer's PTX.
  """
  found = importlib.util.find_spec("nvidia")
  for folder in (found and found.submodule_search_locations) or ():
    for ptxas in sorted(pathlib.Path(folder).glob("*/bin/ptxas")):
      os.environ["PATH"] = f"{ptxas.parent}{os.pathsep}{os.environ['PATH']}"
      # By compute capability: from 10.0 on, or for all in newer versions.
      os.environ.setdefault("TRITON_PTXAS_PATH", str(ptxas))
      os.environ.setdefault("TRITON_PTXAS_BLACKWELL_PATH", str(ptxas))
      return
