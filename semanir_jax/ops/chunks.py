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
# That each layer may keep for its backward pass, if they are live at once: at
# most 16 MiB. More is computed again.
KEPT_ELEMENTS = 1 << 22
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

  Its backward pass computes a chunk again, unless everything is small: what
  every layer of a network keeps adds up.

  Args:
    function: of arrays `[B, g, ...]`, the windows independent of each other;
      returns a tree of arrays `[B, g, ...]`.
    arrays: `[B, G, ...]`.
    elements_per_window: numbers that one window of all images keeps live.
    platform: see `elements_at_once`.

  Returns:
    What `function` would return for the whole arrays.
  """
  b, g = arrays[0].shape[:2]
  chunk = largest_divisor(g, elements_at_once(platform) // elements_per_window)
  if chunk < g or g * elements_per_window > KEPT_ELEMENTS:
    function = jax.checkpoint(function)
  if chunk == g:
    return function(*arrays)

  def split(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x.reshape(b, g // chunk, chunk, *x.shape[2:]), 1, 0)

  def join(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x, 0, 1).reshape(b, g, *x.shape[3:])

  results = lax.map(lambda xs: function(*xs), tuple(map(split, arrays)))
  return jax.tree.map(join, results)
