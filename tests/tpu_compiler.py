"""Compiles functions for a TPU that is not here, and runs files of such cases.

A file `tests/*_tpu_lowering_cases.py` holds the cases of a kernel and calls
`compile_for`; `tests/tpu_lowering_test.py` runs every such file in a process
that sees the compiler.
"""

import functools
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

from semanir_jax.aot import topology

FOLDER = pathlib.Path(f"{sys.prefix}_tpu")  # beside the venv, see Makefile
# The smallest slice of each generation that the compiler knows.
SLICES = {"v5e": "v5e:2x2", "v6e": "v6e:2x2"}


def is_installed() -> bool:
  """Whether `make tpu_compiler` was run, or libtpu is there by other means."""
  by_make = (FOLDER / ".installed").exists()
  return by_make or importlib.util.find_spec("libtpu") is not None


def environment() -> dict[str, str]:
  """Of a process that sees the compiler."""
  path = [str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
  return os.environ | {
    "PYTHONPATH": os.pathsep.join(path),
    "JAX_PLATFORMS": "cpu",
    # Else a second process that compiles is refused.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  }


@functools.cache
def devices(generation: str) -> list[Any]:
  """The devices of the slice of a generation."""
  return topology.topology_devices("tpu", SLICES[generation])


def compile_for(
  generation: str, function: Callable[..., Any], *arguments: Any
) -> jax.stages.Compiled:
  """Compiles a function for one device.

  Args:
    generation: of the TPU, a key of `SLICES`.
    function: of arrays.
    *arguments: trees of `jax.ShapeDtypeStruct`.
  """
  device = SingleDeviceSharding(devices(generation)[0])
  placed = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
    arguments,
  )
  return jax.jit(function).lower(*placed).compile()
