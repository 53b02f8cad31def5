"""Which tokens a token's dictionary holds, drawn over the picture.

  python -m studies.activation_maps --checkpoint=runs/denoise \\
    --pixels=120,200,300,90 --num_keys=4,16,32 --output=runs/maps

The dictionaries are those of a real run of the network on the picture, degraded
as the first test set of its config. Writes `activation_maps.png`, and the kept
positions as `activation_maps.csv`.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import linen as nn

from semanir_jax import cli
from semanir_jax.evaluation import metrics
from semanir_jax.inference.restorer import Restorer
from semanir_jax.models import windows
from semanir_jax.models.semanir import SemanIR
from semanir_jax.models.stage import Stage
from semanir_jax.networks.load import load_network
from semanir_jax.ops.bits import unpack_bits
from studies import activation_figure, pictures, records, variants
from studies.arguments import integers


class StageKeys(NamedTuple):
  """The dictionary of a stage, in the picture it was made of.

  Attributes:
    name: of the stage.
    step: px of the input that a token stands for, on each axis.
    positions: `[G, N, 2]` row and column of every token of every window, of the
      stage's own resolution.
    mask: `[G, N, N]` bool, the keys of every token.
  """

  name: str
  step: int
  positions: np.ndarray
  mask: np.ndarray


def stage_keys(
  model: SemanIR,
  params: Mapping[str, Any],
  image: np.ndarray,
  keys: Sequence[int],
) -> list[list[StageKeys]]:
  """Runs a network at some k and returns the dictionaries it found.

  Args:
    model: the network; where every layer finds keys, those of the first count.
    params: its parameters.
    image: `[H, W, C]` float32 in [0, 1].
    keys: k.

  Returns:
    For every k, its stages in order.
  """
  stages: dict[str, tuple[Stage, tuple[int, int]]] = {}

  def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    if isinstance(context.module, Stage) and context.method_name == "__call__":
      stages[context.module.name] = context.module, args[0].shape[1:3]
    return call(*args, **kwargs)

  @jax.jit
  def run(params: Any, image: jax.Array, num_keys: jax.Array) -> Any:
    with nn.intercept_methods(note):
      _, found = model.with_execution(implementation="mask").apply(
        {"params": params},
        image[None],
        num_keys=num_keys,
        mutable="intermediates",
      )
    return found["intermediates"]

  padded = -(-image.shape[0] // model.size_multiple) * model.size_multiple
  result = []
  for k in keys:
    found = run(params, image, np.int32(k))
    result.append(
      [
        _in_the_picture(stage, height, width, padded // height, found[name])
        for name, (stage, (height, width)) in stages.items()
      ]
    )
  return result


def _in_the_picture(
  stage: Stage, height: int, width: int, step: int, found: Mapping[str, Any]
) -> StageKeys:
  """Where the tokens of a stage lie, and which of them it connects."""
  if stage.key_search.in_every_layer:
    bits = found["layers"]["dictionary"][0].bits[0, 0]
  else:
    bits = found["dictionary"][0].bits[0]
  p = stage.window_size
  shift = windows.shift_px(height, width, p) if stage.shifted else (0, 0)
  grid = np.moveaxis(np.indices((height, width)), 0, -1)[None]
  positions = windows.partition(jnp.asarray(grid), p, shift)[0]
  mask = unpack_bits(bits, p * p)
  return StageKeys(stage.name, step, np.asarray(positions), np.asarray(mask))


def kept_positions(keys: StageKeys, pixel: tuple[int, int]) -> dict[str, Any]:
  """What the token at a pixel attends to.

  Args:
    keys: of a stage.
    pixel: (row, column) of the input.

  Returns:
    `query` `[2]`, `kept` `[k', 2]` and `window` `[N, 2]`: rows and columns of
    tokens, of the stage's resolution.
  """
  query = np.asarray(pixel) // keys.step
  (found,) = np.argwhere((keys.positions == query).all(-1))
  window, token = found
  tokens = keys.positions[window]
  return {
    "query": query,
    "kept": tokens[keys.mask[window, token]],
    "window": tokens,
  }


def study(
  checkpoint: str,
  source: str,
  output: pathlib.Path,
  *,
  pixels: Sequence[tuple[int, int]] = (),
  keys: Sequence[int] = (),
) -> list[dict[str, Any]]:
  """Draws and lists the kept tokens of some pixels, at some k.

  Args:
    checkpoint: see `load.load_network`.
    source: of the picture; its first one.
    output: folder.
    pixels: (row, column) of the input; empty for two.
    keys: k; empty for three shares of the window.

  Returns:
    The rows of `activation_maps.csv`.

  Raises:
    ValueError: a pixel lies outside, or a k does not fit.
  """
  network = load_network(checkpoint)
  model, params = network.model, network.params
  (example,), degradation = pictures.open_examples(network.config, source, 1)
  height, width = example.lq.shape[:2]
  pixels = pixels or ((height // 3, width // 2), (2 * height // 3, width // 3))
  for row, column in pixels:
    if not (0 <= row < height and 0 <= column < width):
      raise ValueError(
        f"pixel {row},{column} lies outside of the {height}x{width} picture"
        f" {example.name}"
      )
  keys = keys or _default_keys(model)
  for k in keys:
    Restorer(model, params).check_num_keys(k)
  found = stage_keys(model, params, example.lq, keys)
  maps = [
    (k, keys_of, pixel, kept_positions(keys_of, pixel))
    for k, stages in zip(keys, found, strict=True)
    for keys_of in stages
    for pixel in pixels
  ]
  rows = [
    {
      "picture": example.name,
      "pixel_row": pixel[0],
      "pixel_column": pixel[1],
      "num_keys": k,
      "stage": keys_of.name,
      "px_per_token": keys_of.step,
      "query_row": place["query"][0],
      "query_column": place["query"][1],
      "kept_row": kept[0],
      "kept_column": kept[1],
    }
    for k, keys_of, pixel, place in maps
    for kept in place["kept"]
  ]
  records.write_rows(output / "activation_maps.csv", rows)
  activation_figure.draw(
    output / "activation_maps.png",
    metrics.to_uint8(example.lq),
    maps,
    f"{example.name} of {degradation}; windows of {model.window_size}",
  )
  return rows


def _default_keys(model: SemanIR) -> list[int]:
  """N/16, N/4 and N/2, of those that the network has room for."""
  shares = variants.shares_of_window(model.window_size**2)
  return sorted({min(shares[i], model.max_keys) for i in (0, 3, 5)})


def main() -> None:
  """Runs the study."""
  values = flags.FLAGS
  numbers = integers("pixels", values.pixels)
  if len(numbers) % 2:
    raise ValueError("--pixels: give a row and a column for each pixel")
  study(
    values.checkpoint,
    values.image,
    pathlib.Path(values.output),
    pixels=list(zip(numbers[::2], numbers[1::2], strict=True)),
    keys=integers("num_keys", values.num_keys),
  )


if __name__ == "__main__":
  flags.DEFINE_string("checkpoint", None, "Network.")
  flags.DEFINE_string("image", "photographs:test", "Picture, clean.")
  flags.DEFINE_list("pixels", [], "ROW,COLUMN,ROW,COLUMN,... of the input.")
  flags.DEFINE_list("num_keys", [], "k; default: N/16, N/4, N/2.")
  flags.DEFINE_string("output", None, "Folder of the CSV file and the figure.")
  flags.mark_flags_as_required(["checkpoint", "output"])
  cli.run(main)
