"""Calls a Triton kernel from JAX, and says whether that can work."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

# Of (kernel, grid, inputs, outputs, **constants); `launch` below, or what tests
# put in its place to run the same kernels without a GPU.
Launcher = Callable[..., tuple[jax.Array, ...]]

# Numbers of programs along up to three axes.
Grid = tuple[int] | tuple[int, int] | tuple[int, int, int]

OLDEST_CAPABILITY = 80  # the first with bfloat16 matrix units

_capability: contextvars.ContextVar[int | None] = contextvars.ContextVar(
  "compute_capability", default=None
)


@contextlib.contextmanager
def compile_for(compute_capability: int) -> Iterator[None]:
  """Compiles the programs traced inside for a GPU that need not be here.

  Args:
    compute_capability: of that GPU, 80 for 8.0 or 90 for 9.0.
  """
  token = _capability.set(compute_capability)
  try:
    yield
  finally:
    _capability.reset(token)


def compute_capability() -> int | None:
  """Returns `compile_for`'s, else the first NVIDIA GPU's; None without one."""
  if _capability.get() is not None:
    return _capability.get()
  try:
    device = jax.local_devices(backend="cuda")[0]
  except RuntimeError:
    return None
  return round(10 * float(device.compute_capability))


def why_unavailable() -> str | None:
  """Says why Triton kernels cannot be compiled here; None if they can."""
  try:
    import jax_triton  # noqa: F401
  except Exception as error:  # without the CUDA plugin not only ImportError
    return (
      f"jax_triton cannot be imported ({error}); on Linux with an NVIDIA GPU"
      ' install it: pip install "jax[cuda13]" jax-triton==0.3.1'
    )
  capability = compute_capability()
  if capability is None:
    return "there is no NVIDIA GPU here to compile for"
  if capability < OLDEST_CAPABILITY:
    return (
      f"the GPU's compute capability {capability / 10} is below"
      f" {OLDEST_CAPABILITY / 10}"
    )
  return None


def launch(
  kernel: Any,
  grid: Grid,
  inputs: Sequence[jax.Array],
  outputs: Sequence[jax.ShapeDtypeStruct],
  *,
  num_warps: int,
  num_stages: int,
  compute_capability: int,
  **constants: Any,
) -> tuple[jax.Array, ...]:
  """Runs a kernel on the GPU.

  Args:
    kernel: decorated with `triton.jit`; its pointers are the inputs, then the
      outputs.
    grid: numbers of programs.
    inputs: arrays; the kernel sees them contiguous, last axis fastest.
    outputs: shapes and dtypes; the kernel has to write every number.
    num_warps: of a program.
    num_stages: of its pipelined loops.
    compute_capability: to compile for, as 80 or 90.
    **constants: the kernel's compile-time parameters.

  Returns:
    The outputs.
  """
  # Imported late: it needs the CUDA plugin, which only GPU machines have.
  import jax_triton

  return tuple(
    jax_triton.triton_call(
      *inputs,
      kernel=kernel,
      out_shape=tuple(outputs),
      grid=grid,
      num_warps=num_warps,
      num_stages=num_stages,
      compute_capability=compute_capability,
      **constants,
    )
  )
