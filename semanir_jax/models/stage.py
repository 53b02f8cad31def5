"""A stage: one dictionary, found at its entry and shared by all its layers."""

import dataclasses
import functools

import jax
from flax import linen as nn

from semanir_jax.models import windows
from semanir_jax.models.affine import Conv
from semanir_jax.models.execution import Execution
from semanir_jax.models.key_search import KeySearch
from semanir_jax.models.layers import (
  KEPT,
  KEPT_ON_TPU,
  TransformerLayer,
  flat_biases,
)
from semanir_jax.ops import choose_implementation
from semanir_jax.ops.dictionary.words import with_words


class Stage(nn.Module):
  """Dictionary, scanned layers, conv 3x3, residual.

  Attributes:
    depth: number of layers.
    num_heads: A.
    window_size: P, side of a window in tokens.
    max_keys: K, static bound of the keys a token keeps, at most N = P * P.
    shifted: whether the windows are shifted by half their side.
    mlp_ratio: hidden width of the MLPs over C.
    key_search: how and where the dictionary is found.
    execution: how the stage is computed.
  """

  depth: int
  num_heads: int
  window_size: int
  max_keys: int
  shifted: bool
  mlp_ratio: float = 2.0
  key_search: KeySearch = KeySearch()
  execution: Execution = Execution()

  @nn.compact
  def __call__(
    self,
    x_BHWC: jax.Array,
    num_keys: jax.Array | int,
    branch_scales: jax.Array | None = None,
  ) -> jax.Array:
    """Runs the stage.

    Args:
      x_BHWC: `[B, H, W, C]` float32; H and W are multiples of `window_size`.
      num_keys: k in [1, `max_keys`], may be traced.
      branch_scales: `[B, depth, 2]`, see `drop_path`.

    Returns:
      `[B, H, W, C]` float32. The collection "intermediates", where it is
      mutable, gets the `dictionary`: of the stage, or of its `layers`.
    """
    _, h, w, c = x_BHWC.shape
    p = self.window_size
    shift = windows.shift_px(h, w, p) if self.shifted else (0, 0)
    x_BGNC = windows.partition(x_BHWC, p, shift)
    execution = self.execution
    implementation = choose_implementation(
      p * p,
      self.max_keys,
      implementation=execution.implementation,
      platform=execution.platform,
      dtype=execution.dtype,
    )
    execution = dataclasses.replace(execution, implementation=implementation)
    find_keys = functools.partial(
      self.key_search.find,
      regions=windows.regions(h, w, p, shift),
      max_keys=self.max_keys if implementation == "gather" else None,
      platform=execution.platform,
      dtype=execution.dtype,
    )
    keys = num_keys
    if not self.key_search.in_every_layer:
      keys = find_keys(x_BGNC, num_keys)
      self.sow("intermediates", "dictionary", keys)
      if implementation == "pallas":
        keys = with_words(keys)
    layers = scan_layers(TransformerLayer, self.depth, execution)(
      num_heads=self.num_heads,
      mlp_ratio=self.mlp_ratio,
      find_keys=find_keys if self.key_search.in_every_layer else None,
      execution=execution,
      name="layers",
    )
    flat = None
    if implementation == "pallas" and not self.is_initializing():
      layer = self.variables["params"]["layers"]
      bias = layer["attention"]["position_bias"]
      flat = flat_biases(bias, self.num_heads, p * p)
    x_BGNC, _ = layers(x_BGNC, branch_scales, keys, flat)
    features = windows.merge(x_BGNC, h, w, shift)
    return x_BHWC + Conv(c, dtype=execution.dtype, name="conv")(features)


def scan_layers(
  layer: type[TransformerLayer], depth: int, execution: Execution
) -> type[TransformerLayer]:
  """Returns the class of `depth` layers, their parameters stacked."""
  if execution.remat:
    # A loop keeps the forward and the recomputation apart by itself.
    on_tpu = execution.implementation == "pallas"
    names = KEPT_ON_TPU if on_tpu else KEPT
    policy = jax.checkpoint_policies.save_only_these_names(*names)
    layer = nn.remat(layer, prevent_cse=execution.unroll, policy=policy)
  return nn.scan(
    layer,
    variable_axes={"params": 0, "intermediates": 0},
    split_rngs={"params": True},
    # Flax documents a tree; its annotation is that of the default.
    in_axes=(1, nn.broadcast, 0),  # pyright: ignore[reportArgumentType]
    length=depth,
    unroll=depth if execution.unroll else 1,
  )
