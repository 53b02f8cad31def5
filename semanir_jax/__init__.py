"""Restores images with SemanIR, a transformer with shared key semantics.

  import semanir_jax

  model = semanir_jax.load("photo_light")
  restored = model(image)  # [H, W, C] uint8, uint16, or float with white at 1

`load` takes a bundled network, a `.safetensors` file or a training run.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from semanir_jax.api import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
  # Imported when it is asked for: programs that need only a part of the package
  # do not wait for all of it.
  if name == "load":
    from semanir_jax.api import load

    return load
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
