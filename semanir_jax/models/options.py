"""Which options of SemanIR fit together, and the remedy where they do not."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from semanir_jax.models.key_search import DICTIONARIES, SHIFTS, SIMILARITIES
from semanir_jax.models.resampling import UPSAMPLERS

if TYPE_CHECKING:
  from semanir_jax.models.semanir import SemanIR

ARCHITECTURES = ("columnar", "ushape")
PLATFORMS = ("cpu", "gpu", "tpu")


def check_options(
  model: "SemanIR", images: jax.Array, num_keys: jax.Array | int
) -> None:
  """Refuses what cannot be built.

  Args:
    model: the network.
    images: what it is called with.
    num_keys: k, of `ops.whole_number`.

  Raises:
    ValueError: names the option that does not fit, and the remedy.
  """
  tokens = model.window_size**2
  hidden = model.dim * model.mlp_ratio
  problems = {
    f"scale={model.scale}: use 1, 2, 3, 4 or 8 (1 with the U shape)": (
      not isinstance(model.scale, int)
      or model.scale not in (1, 2, 3, 4, 8)
      or (model.scale > 1 and model.architecture == "ushape")
    ),
    f"depths={model.depths}: the U shape needs an even count of stages": (
      model.architecture == "ushape" and len(model.depths) % 2 == 1
    ),
    f"depths={model.depths}: every stage needs a layer": (
      not model.depths or min(model.depths) < 1
    ),
    f"num_heads={model.num_heads} must divide dim={model.dim}": (
      min(model.num_heads, model.dim) < 1 or model.dim % model.num_heads != 0
    ),
    f"dim={model.dim}: the U shape halves and doubles it, give an even one": (
      model.architecture == "ushape" and model.dim % 2 == 1
    ),
    f"mlp_ratio={model.mlp_ratio}: an MLP needs a channel": hidden < 1,
    f"drop_path_rate={model.drop_path_rate} must lie in [0, 1)": (
      not 0 <= model.drop_path_rate < 1
    ),
    f"window_size={model.window_size}: a window needs 2 tokens a side": (
      model.window_size < 2
    ),
    f"max_keys={model.max_keys} must lie in [1, {tokens}], the tokens of a"
    f" {model.window_size}x{model.window_size} window": (
      not 1 <= model.max_keys <= tokens
    ),
    f"num_keys={num_keys} must lie in [1, {model.max_keys}] (max_keys); use"
    " fewer keys or a larger window": (
      isinstance(num_keys, int) and not 1 <= num_keys <= model.max_keys
    ),
    f"images of {images.dtype}: give floats in [0, 1], as uint8 / 255": (
      not jnp.issubdtype(images.dtype, jnp.floating)
    ),
    f"images {images.shape} must be [B, H, W, {model.in_channels}]; set"
    " in_channels to theirs": (
      images.ndim != 4 or images.shape[-1] != model.in_channels
    ),
  }
  for message, wrong in (_unknown_names(model) | problems).items():
    if wrong:
      raise ValueError(message)


def _unknown_names(model: "SemanIR") -> dict[str, bool]:
  """Messages about options that are names, and whether they are true."""
  choices = {
    "architecture": ARCHITECTURES,
    "upsampler": UPSAMPLERS,
    "dictionary": DICTIONARIES,
    "similarity": SIMILARITIES,
    "shift": SHIFTS,
    "platform": (*PLATFORMS, None),
  }
  return {
    f"{option}={getattr(model, option)!r}: use one of {known}": (
      getattr(model, option) not in known
    )
    for option, known in choices.items()
  }
