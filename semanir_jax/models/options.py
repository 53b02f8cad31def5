"""Which options of SemanIR fit together, and the remedy where they do not."""

from typing import TYPE_CHECKING

import jax

from semanir_jax.models.key_search import DICTIONARIES, SHIFTS, SIMILARITIES
from semanir_jax.models.resampling import UPSAMPLERS

if TYPE_CHECKING:
  from semanir_jax.models.semanir import SemanIR

ARCHITECTURES = ("columnar", "ushape")


def check_options(
  model: "SemanIR", images: jax.Array, num_keys: jax.Array | int | None
) -> None:
  """Refuses what cannot be built.

  Args:
    model: the network.
    images: what it is called with.
    num_keys: k of the call; None for the model's own.

  Raises:
    ValueError: names the option that does not fit, and the remedy.
  """
  tokens = model.window_size**2
  asked = model.num_keys if num_keys is None else num_keys
  problems = {
    f"architecture={model.architecture!r}: use one of {ARCHITECTURES}": (
      model.architecture not in ARCHITECTURES
    ),
    f"scale={model.scale}: use 1, 2, 3, 4 or 8 (1 with the U shape)": (
      model.scale not in (1, 2, 3, 4, 8)
      or (model.scale > 1 and model.architecture == "ushape")
    ),
    f"upsampler={model.upsampler!r}: use one of {UPSAMPLERS}": (
      model.upsampler not in UPSAMPLERS
    ),
    f"dictionary={model.dictionary!r}: use one of {DICTIONARIES}": (
      model.dictionary not in DICTIONARIES
    ),
    f"similarity={model.similarity!r}: use one of {SIMILARITIES}": (
      model.similarity not in SIMILARITIES
    ),
    f"shift={model.shift!r}: use one of {SHIFTS}": model.shift not in SHIFTS,
    f"depths={model.depths}: the U shape needs an even count of stages": (
      model.architecture == "ushape" and len(model.depths) % 2 == 1
    ),
    f"depths={model.depths}: every stage needs a layer": (
      not model.depths or min(model.depths) < 1
    ),
    f"num_heads={model.num_heads} must divide dim={model.dim}": (
      model.num_heads < 1 or model.dim % model.num_heads != 0
    ),
    f"window_size={model.window_size}: a window needs 2 tokens a side": (
      model.window_size < 2
    ),
    f"max_keys={model.max_keys} must lie in [1, {tokens}], the tokens of a"
    f" {model.window_size}x{model.window_size} window": (
      not 1 <= model.max_keys <= tokens
    ),
    f"num_keys={asked} must lie in [1, {model.max_keys}] (max_keys); use fewer"
    " keys or a larger window": (
      isinstance(asked, int) and not 1 <= asked <= model.max_keys
    ),
    f"images {images.shape} must be [B, H, W, {model.in_channels}]; set"
    " in_channels to theirs": (
      images.ndim != 4 or images.shape[-1] != model.in_channels
    ),
  }
  for message, wrong in problems.items():
    if wrong:
      raise ValueError(message)
