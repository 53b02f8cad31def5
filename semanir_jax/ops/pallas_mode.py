"""Says whether Pallas kernels can run, and whether they are interpreted."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax.numpy as jnp
from jax.typing import DTypeLike

# P: powers of two that fill sublanes and whose rows a word of 32 bits holds.
WINDOW_SIDES = (8, 16, 32)

_interpreted: contextvars.ContextVar[bool] = contextvars.ContextVar(
  "interpreted", default=False
)


@contextlib.contextmanager
def interpret() -> Iterator[None]:
  """Lets the kernels traced inside run as plain operations, on any machine.

  The programs have to be written for `platform="tpu"`, or they hold no kernel.
  """
  token = _interpreted.set(True)
  try:
    yield
  finally:
    _interpreted.reset(token)


def is_interpreted() -> bool:
  """Says whether the caller is inside `interpret`."""
  return _interpreted.get()


def why_unavailable(
  platform: str, num_tokens: int, dtype: DTypeLike
) -> str | None:
  """Says why no Pallas kernel takes such windows; None if they do."""
  if platform != "tpu":
    return f"it needs a TPU and the program is for platform {platform}"
  if num_tokens not in {side**2 for side in WINDOW_SIDES}:
    sides = ", ".join(map(str, WINDOW_SIDES))
    return (
      f"it needs a window side of {sides} and these windows have"
      f" {num_tokens} tokens"
    )
  if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
    return f"it computes float32 and bfloat16, not {jnp.dtype(dtype)}"
  return None
