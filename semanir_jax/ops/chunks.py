"""Work on some windows at a time, so that an image's N x N is never live."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# Intermediate numbers that may be live at once. On a CPU 2 MiB, for its caches
# (docs/design.md); elsewhere 1 GiB, to bound memory only.
CPU_ELEMENTS = 1 << 19
ACCELERATOR_ELEMENTS = 1 << 28
# What the attention names its result, for the policies of `jax.checkpoint`.
ATTENDED = "attended"


def elements_at_once(platform: str | None) -> int:
  """Returns the chunk size for a platform; None is the one JAX runs on."""
  platform = platform or jax.default_backend()
  return CPU_ELEMENTS if platform == "cpu" else ACCELERATOR_ELEMENTS


def largest_divisor(number: int, most: int) -> int:
  """Returns the largest divisor of `number` up to `most`; at least 1."""
  divisors = [d for d in range(1, number + 1) if number % d == 0]
  return max([d for d in divisors if d <= most], default=1)


def over_windows(
  function: Callable[..., Any],
  arrays: tuple[jax.Array, ...],
  *,
  elements_per_window: int,
  platform: str | None,
) -> Any:
  """Applies a function of windows to all of them, a chunk at a time.

  Args:
    function: of arrays `[B, g, ...]`, the windows independent of each other;
      returns a tree of arrays `[B, g, ...]`.
    arrays: `[B, G, ...]`.
    elements_per_window: numbers that one window of all images keeps live.
    platform: see `elements_at_once`.

  Returns:
    What `function` would return for the whole arrays.
  """
  results, _ = sum_over_windows(
    lambda *chunk: (function(*chunk), ()),
    arrays,
    elements_per_window=elements_per_window,
    platform=platform,
  )
  return results


def sum_over_windows(
  function: Callable[..., tuple[Any, Any]],
  arrays: tuple[jax.Array, ...],
  *,
  elements_per_window: int,
  platform: str | None,
) -> tuple[Any, Any]:
  """Applies a function that also returns sums over windows; see `over_windows`.

  Args:
    function: returns a tree of arrays `[B, g, ...]`, and a tree of arrays that
      are sums over images and windows.
    arrays: see `over_windows`.
    elements_per_window: see `over_windows`.
    platform: see `over_windows`.

  Returns:
    What `function` would return for the whole arrays.
  """
  b, g = arrays[0].shape[:2]
  chunk = largest_divisor(g, elements_at_once(platform) // elements_per_window)
  if chunk == g:
    return function(*arrays)

  def split(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x.reshape(b, g // chunk, chunk, *x.shape[2:]), 1, 0)

  def join(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x, 0, 1).reshape(b, g, *x.shape[3:])

  def add(sums: Any, chunks: tuple[jax.Array, ...]) -> tuple[Any, Any]:
    results, more = function(*chunks)
    return jax.tree.map(jnp.add, sums, more), results

  parts = tuple(map(split, arrays))
  _, like_sums = jax.eval_shape(function, *(part[0] for part in parts))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like_sums)
  sums, results = lax.scan(add, zeros, parts)
  return jax.tree.map(join, results), sums
