"""How long a call takes, and how fast a device can be at best."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from semanir_jax.training import record

_LEAST_S = 0.02
_MOST_CALLS = 100


def median_ms(
  call: Callable[[], Any], wait: Callable[[Any], Any], *, repeats: int = 7
) -> float:
  """Median time of a call, in milliseconds.

  Calls are issued one after the other, some 20 ms of them, and waited for
  together, as in a network; a figure below the time that it takes to issue one
  is that time. The first calls, which compile or load, do not count.

  Args:
    call: starts the work; may return before it is done.
    wait: returns when the work behind a result, and all before it, is done.
    repeats: measurements that the median is of.
  """
  for _ in range(2):
    wait(call())
  start = time.perf_counter()
  wait(call())
  once = time.perf_counter() - start
  calls = min(max(math.ceil(_LEAST_S / once), 1), _MOST_CALLS)
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    for _ in range(calls):
      result = call()
    wait(result)
    times.append((time.perf_counter() - start) / calls)
  return 1e3 * statistics.median(times)


def describe_device() -> dict[str, Any]:
  """What a run is made with, and the rates that its device reaches.

  Returns:
    `record.describe` with `platform`, `matrix_teraflops`: of a product of
    two large bfloat16 matrices of random numbers, and `copy_gb_s`: bytes read
    and written by a copy of a large array.
  """
  platform = jax.default_backend()
  side, count = (8192, 1 << 29) if platform == "gpu" else (512, 1 << 22)
  a, b = (
    jax.random.normal(jax.random.key(seed), (side, side), jnp.bfloat16)
    for seed in range(2)
  )
  product_ms = _time(lambda a, b: a @ b, a, b)
  copy_ms = _time(jnp.negative, jnp.ones(count, jnp.float32))
  return record.describe() | {
    "platform": platform,
    "matrix_teraflops": 2 * side**3 / product_ms / 1e9,
    "copy_gb_s": 2 * 4 * count / copy_ms / 1e6,
  }


def _time(function: Callable[..., jax.Array], *arrays: jax.Array) -> float:
  compiled = jax.jit(function).lower(*arrays).compile()
  return median_ms(lambda: compiled(*arrays), jax.block_until_ready)
