"""A stage: one dictionary, found at its entry and shared by all its layers."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from semanir_jax.models import windows
from semanir_jax.models.affine import Conv
from semanir_jax.models.key_search import SearchingLayer, find_keys
from semanir_jax.models.layers import KEPT, TransformerLayer
from semanir_jax.ops import choose_implementation


class Stage(nn.Module):
  """Dictionary, scanned layers, conv 3x3, residual.

  Attributes:
    depth: number of layers.
    num_heads: A.
    window_size: P, side of a window in tokens.
    max_keys: K, static bound of the keys a token keeps, at most N = P * P.
    shifted: whether the windows are shifted by half their side.
    mlp_ratio: hidden width of the MLPs over C.
    dictionary: "stage", or "layer" and "random" in ablations (`SemanIR`).
    similarity: "dot" or "cosine".
    implementation: form of the attention, None to choose
      (`ops.choose_implementation`).
    platform: that the program is compiled for; None for the one JAX runs on.
    remat: keep of every layer the results of its products (`layers.KEPT`) and
      compute the rest again in the backward pass. Training takes a half to a
      fifth of the memory, less traffic and hardly more arithmetic by the
      compilers of TPUs and GPUs (docs/scaling.md), and no more time on a CPU.
    unroll: let the scan take all its layers in one turn. Between turns it
      copies what the backward pass needs into arrays of all layers and out of
      them again; without, training takes half the memory on a GPU or TPU by
      their compilers (docs/scaling.md), and compiles for longer. The parameters
      stay stacked.
    dtype: operand type of the matrix products.
  """

  depth: int
  num_heads: int
  window_size: int
  max_keys: int
  shifted: bool
  mlp_ratio: float = 2.0
  dictionary: str = "stage"
  similarity: str = "dot"
  implementation: str | None = None
  platform: str | None = None
  remat: bool = True
  unroll: bool = False
  dtype: DTypeLike = jnp.float32

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
    implementation = choose_implementation(
      p * p,
      self.max_keys,
      implementation=self.implementation,
      platform=self.platform,
      dtype=self.dtype,
    )
    search = functools.partial(
      find_keys,
      dictionary=self.dictionary,
      similarity=self.similarity,
      regions=windows.regions(h, w, p, shift),
      max_keys=self.max_keys if implementation == "gather" else None,
      platform=self.platform,
      dtype=self.dtype,
    )
    if self.dictionary == "layer":
      layer, own, keys = SearchingLayer, {"find_keys": search}, num_keys
    else:
      layer, own, keys = TransformerLayer, {}, search(x_BGNC, num_keys)
      self.sow("intermediates", "dictionary", keys)
    if self.remat:
      # A loop keeps the forward and the recomputation apart by itself.
      policy = jax.checkpoint_policies.save_only_these_names(*KEPT)
      layer = nn.remat(layer, prevent_cse=self.unroll, policy=policy)
    layers = nn.scan(
      layer,
      variable_axes={"params": 0, "intermediates": 0},
      split_rngs={"params": True},
      in_axes=(1, nn.broadcast),
      length=self.depth,
      unroll=self.depth if self.unroll else 1,
    )(
      num_heads=self.num_heads,
      mlp_ratio=self.mlp_ratio,
      implementation=implementation,
      platform=self.platform,
      dtype=self.dtype,
      name="layers",
      **own,
    )
    x_BGNC, _ = layers(x_BGNC, branch_scales, keys)
    features = windows.merge(x_BGNC, h, w, shift)
    return x_BHWC + Conv(c, dtype=self.dtype, name="conv")(features)
