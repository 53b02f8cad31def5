"""Builds the key-semantic dictionary: one function, several programs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from semanir_jax.ops import pallas_mode, triton_launch
from semanir_jax.ops.chunks import over_windows
from semanir_jax.ops.dictionary.selection import (
  Dictionary,
  select_keys,
  similarity,
)
from semanir_jax.ops.dictionary.words import from_words
from semanir_jax.ops.whole_numbers import whole_number

IMPLEMENTATIONS = ("xla", "triton", "pallas")

# Of 1024 tokens in float32 they fit into the memory that a TPU's compiler gives
# a kernel; of 512 they do not.
_MOST_PALLAS_CHANNELS = 384


def build_dictionary(
  features: jax.Array,
  num_keys: jax.Array | int,
  *,
  regions: jax.Array | np.ndarray | None = None,
  max_keys: int | None = None,
  platform: str | None = None,
  implementation: str | None = None,
) -> Dictionary:
  """Finds the `num_keys` most similar tokens of every token of its window.

  Args:
    features: `[B, G, N, C]` float; the window's tokens at the stage's entry.
    num_keys: k in [1, N]; may be traced, so that another k does not recompile.
    regions: `[G, N]` integer shift regions, or None where all tokens of a
      window may see each other.
    max_keys: K, static. None gives the bits form, for which k has no bound but
      N; a number gives the indices form, with k in [1, K].
    platform: as in `ops.choose_implementation`.
    implementation: a name of `IMPLEMENTATIONS` to insist on. None takes a
      kernel where one can run, Triton's on `gpu` and Pallas's on `tpu` (which
      makes bits alone), and else XLA, a chunk of windows at a time. Under a
      mesh a kernel has to be inside `shard_map`; "xla" may be anywhere.

  Returns:
    The dictionary; a row holds min(k, tokens of its region) keys.

  Raises:
    ValueError: k or `max_keys` is out of range or no whole number (a traced k
      is clipped instead), or the implementation is unknown or cannot run.

  Source: SemanIR, NeurIPS 2024, section 3 [paper].
  """
  b, g, num_tokens, _ = features.shape
  num_keys = _check_num_keys(num_keys, max_keys, num_tokens)
  platform = platform or jax.default_backend()
  implementation = _choose(
    implementation, platform, features.shape, features.dtype, max_keys
  )
  if implementation == "triton":
    # Imported late: not every platform has Triton.
    from semanir_jax.ops.dictionary import triton_kernel

    return triton_kernel.build_dictionary_triton(
      features, num_keys, regions=regions, max_keys=max_keys
    )
  if implementation == "pallas":
    # Imported late: Pallas takes a while, and most runs do not need it.
    from semanir_jax.ops.dictionary import pallas_kernel

    interpret = pallas_mode.is_interpreted()
    words = pallas_kernel.build_words(
      features, num_keys, regions=regions, interpret=interpret
    )
    bits = from_words(words).reshape(b, g, num_tokens, -1)
    return Dictionary(bits=bits, words=words)

  return _build_by_xla(features, num_keys, regions, max_keys, platform)


def _build_by_xla(
  features: jax.Array,
  num_keys: jax.Array,
  regions: jax.Array | np.ndarray | None,
  max_keys: int | None,
  platform: str,
) -> Dictionary:
  """Does what `build_dictionary` does, a chunk of windows at a time."""
  b, g, num_tokens, _ = features.shape

  def select(features: jax.Array, *regions: jax.Array) -> Dictionary:
    scores = similarity(features, *regions)
    return select_keys(scores, num_keys, max_keys, platform)

  arrays = [lax.stop_gradient(features)]
  if regions is not None:
    arrays.append(jnp.broadcast_to(regions, (b, g, num_tokens)))
  return over_windows(
    select,
    tuple(arrays),
    elements_per_window=b * num_tokens**2,
    platform=platform,
  )


def _check_num_keys(
  num_keys: jax.Array | int, max_keys: int | None, num_tokens: int
) -> jax.Array:
  """Returns k, clipped to its range where it is traced.

  Raises:
    ValueError: it or `max_keys` is out of range, or k is no whole number.
  """
  bound = num_tokens if max_keys is None else max_keys
  if not 1 <= bound <= num_tokens:
    raise ValueError(
      f"max_keys={max_keys} must lie in [1, {num_tokens}], the tokens of a"
      " window"
    )
  num_keys = whole_number(num_keys)
  if isinstance(num_keys, int) and not 1 <= num_keys <= bound:
    raise ValueError(
      f"num_keys={num_keys} must lie in [1, {bound}]; use fewer keys or a"
      " larger window"
    )
  return jnp.clip(num_keys, 1, bound)


def _choose(
  name: str | None,
  platform: str,
  shape: tuple[int, ...],
  dtype: DTypeLike,
  max_keys: int | None,
) -> str:
  """Names the program that builds the dictionary.

  Raises:
    ValueError: the name is unknown, or the program named cannot run.
  """
  if name not in (*IMPLEMENTATIONS, None):
    raise ValueError(
      f"unknown implementation {name!r} of the dictionary; use one of"
      f" {', '.join(IMPLEMENTATIONS)} or None"
    )
  kernel = name or {"gpu": "triton", "tpu": "pallas"}.get(platform, "xla")
  reason = None
  if kernel == "triton":
    reason = _why_not_triton(platform, shape[2])
  elif kernel == "pallas":
    reason = _why_not_pallas(platform, shape, dtype, max_keys)
  if reason is None:
    return kernel
  if name is None:
    return "xla"
  raise ValueError(
    f"implementation={name!r} of the dictionary cannot run: {reason}; or use"
    " None, which takes another"
  )


def _why_not_triton(platform: str, num_tokens: int) -> str | None:
  """Says why the Triton kernel cannot run; None if it can."""
  if platform != "gpu":
    return f"it needs an NVIDIA GPU and the program is for platform {platform}"
  reason = triton_launch.why_unavailable()
  if reason is not None:
    return reason
  from semanir_jax.ops.dictionary import triton_kernel

  most = triton_kernel.MOST_TOKENS
  if num_tokens > most:
    return f"its windows have at most {most} tokens, not {num_tokens}"
  return None


def _why_not_pallas(
  platform: str,
  shape: tuple[int, ...],
  dtype: DTypeLike,
  max_keys: int | None,
) -> str | None:
  """Says why the Pallas kernel cannot run; None if it can."""
  if max_keys is not None:
    return f"it makes bits, not indices; leave max_keys={max_keys} out"
  _, _, num_tokens, channels = shape
  if channels > _MOST_PALLAS_CHANNELS:
    return (
      f"it holds at most {_MOST_PALLAS_CHANNELS} channels of a window, not"
      f" {channels}"
    )
  return pallas_mode.why_unavailable(platform, num_tokens, dtype)
