"""Runs Triton kernels on the CPU, on numpy arrays, in Triton's interpreter.

The interpreter is chosen when a kernel is decorated: TRITON_INTERPRET=1 must be
set before the kernel's module is imported, so tests call `run_module` on a
module of cases. It knows float32, float16 and integers; its product of bfloat16
tiles is wrong (it multiplies the raw bits).
"""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The interpreter keeps the program it runs in global variables, and the devices
# of a mesh call it at the same time.
_LOCK = threading.Lock()


class _Pointer:
  """A numpy array under the names by which the interpreter asks a tensor."""

  def __init__(self, array: np.ndarray) -> None:
    self.array = array
    self.dtype, self.shape = array.dtype, array.shape

  def data_ptr(self) -> int:
    return self.array.ctypes.data

  def untyped_storage(self) -> "_Pointer":
    return self

  def cpu(self) -> "_Pointer":
    return self

  def new_empty(self, *unused: Any, **options: Any) -> "_Pointer":
    return _Pointer(self.array)

  def set_(self, storage: "_Pointer", *unused: Any) -> None:
    self.array = storage.array

  def copy_(self, other: "_Pointer") -> None:
    self.array[...] = other.array

  def storage_offset(self) -> int:
    return 0

  def size(self) -> tuple[int, ...]:
    return self.shape

  def stride(self) -> tuple[int, ...]:
    return tuple(s // self.array.itemsize for s in self.array.strides)


def launch(
  kernel: Any, grid: tuple[int, ...], *arrays: np.ndarray, **constants: Any
) -> None:
  """Runs a kernel over a grid; it reads and writes the arrays in place.

  Args:
    kernel: decorated with `triton.jit` while TRITON_INTERPRET was 1.
    grid: numbers of programs, up to three.
    *arrays: C-contiguous, in the order of the kernel's pointers; the outputs
      last, as jax_triton passes them.
    **constants: its other parameters; num_warps and the like are ignored.
  """
  if os.environ.get("TRITON_INTERPRET") != "1":
    raise RuntimeError("TRITON_INTERPRET=1 must be set; use run_module")
  for array in arrays:
    if not array.flags.c_contiguous:
      raise ValueError(f"an array of {array.shape} is not contiguous")
  with _LOCK:
    kernel[grid](*map(_Pointer, arrays), **constants)


def launch_in_jax(
  kernel: Any,
  grid: tuple[int, ...],
  inputs: Sequence[jax.Array],
  outputs: Sequence[jax.ShapeDtypeStruct],
  **constants: Any,
) -> tuple[jax.Array, ...]:
  """`semanir_jax.ops.triton_launch.launch`, in the interpreter.

  Works under `jit` and `vjp`. What the kernel does not write stays NaN (or the
  largest integer), so that it is noticed.
  """

  def run(*arrays: jax.Array) -> tuple[np.ndarray, ...]:
    results = tuple(
      np.full(
        x.shape, np.nan if x.dtype.kind == "f" else np.iinfo(x.dtype).max
      ).astype(x.dtype)
      for x in outputs
    )
    copies = [np.array(x, order="C") for x in arrays]
    launch(kernel, grid, *copies, *results, **constants)
    return results

  return jax.pure_callback(run, tuple(outputs), *inputs)


def has_gpu() -> bool:
  """Whether there are an NVIDIA GPU and a JAX for it."""
  plugins = ("jax_cuda13_plugin", "jax_cuda12_plugin")
  return bool(shutil.which("nvidia-smi")) and any(
    importlib.util.find_spec(plugin) for plugin in plugins
  )


def run_module(
  name: str, *args: str, on_gpu: bool = False, timeout_s: float = 300.0
) -> str:
  """Runs `python -m name args` from the project's root with the interpreter, or
  on the GPU here.

  Returns:
    What it printed.

  Raises:
    AssertionError: it failed; the message ends with what it said.
  """
  chosen = {"TRITON_INTERPRET": "1", "JAX_PLATFORMS": "cpu"}
  if on_gpu:
    chosen = {"TRITON_INTERPRET": "0", "JAX_PLATFORMS": "cuda,cpu"}
  done = subprocess.run(
    [sys.executable, "-m", name, *args],
    cwd=ROOT,
    env={**os.environ, **chosen},
    capture_output=True,
    text=True,
    timeout=timeout_s,
  )
  assert not done.returncode, done.stdout[-2000:] + done.stderr[-4000:]
  return done.stdout
