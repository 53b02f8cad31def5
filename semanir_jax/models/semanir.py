"""SemanIR: the network, in its columnar and its U shape.

Letters: B batch, H and W height and width in pixels, C channels, G windows per
image, P window side, N = P * P tokens per window, K keys kept per token, A
heads, D channels per head, S scale.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from semanir_jax.models import windows
from semanir_jax.models.affine import Conv
from semanir_jax.models.layers import layer_norm
from semanir_jax.models.options import check_options
from semanir_jax.models.resampling import (
  Downsample,
  Upsample,
  Upsampler,
)
from semanir_jax.models.stage import Stage
from semanir_jax.ops import whole_number

# Mean of DIV2K in RGB, subtracted from colour images as EDSR, SwinIR, GRL do.
RGB_MEAN = np.array([0.4488, 0.4371, 0.4040], np.float32)


class SemanIR(nn.Module):
  """Restores images with attention over a key-semantic dictionary per stage.

  Attributes:
    architecture: "columnar" (Archi-V1: one resolution, for super-resolution,
      and for restoration where `scale` is 1) or "ushape" (Archi-V2: several
      resolutions with skip connections, for restoration).
    scale: S, output side over input side: 1, 2, 3, 4 or 8.
    in_channels: channels of the input image, 1 gray or 3 RGB.
    out_channels: channels of the output image.
    dim: C, channels at full resolution; doubled at every level of the U.
    depths: layers of every stage. Columnar: one number a stage. U: an even
      count 2L for L levels: L - 1 encoder stages, the bottom stage, L - 1
      decoder stages and the final stage.
    num_heads: A at full resolution; doubled at every level of the U.
    window_size: P.
    num_keys: k used where a call names none.
    max_keys: K, the largest k a call may ask for, at most P * P. It sizes the
      index tensors of the gather form.
    dictionary: "stage" (found at a stage's entry, shared by its layers), and
      for ablations "layer" (found again by every layer in its own input) or
      "random" (the same random keys in every window).
    similarity: by which keys are found, "dot" products or "cosine".
    shift: "stage" (every second stage has shifted windows) or "none".
    mlp_ratio: hidden width of the MLPs over C.
    drop_path_rate: rate of the last layer in training; linear from 0.
    upsampler: "pixelshuffle" or "pixelshuffledirect"; unused where S is 1.
    implementation: form of the attention, None to choose.
    platform: "cpu", "gpu" or "tpu" where the program is compiled ahead of time
      for a machine of another kind; None for the platform JAX runs on.
    remat: compute much of a layer again in the backward pass (`Stage`).
    unroll: compile a stage's layers one by one instead of as a loop (`Stage`).
    dtype: operand type of the matrix products ("bfloat16" or "float32", which
      TPUs and newer GPUs round unless `jax_default_matmul_precision` is set).

  Source: SemanIR, NeurIPS 2024; docs/design.md says what of it is published,
  reconstructed and ours.
  """

  architecture: str = "columnar"
  scale: int = 1
  in_channels: int = 3
  out_channels: int = 3
  dim: int = 180
  depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
  num_heads: int = 6
  window_size: int = 32
  num_keys: int = 512
  max_keys: int = 512
  dictionary: str = "stage"
  similarity: str = "dot"
  shift: str = "stage"
  mlp_ratio: float = 2.0
  drop_path_rate: float = 0.1
  upsampler: str = "pixelshuffle"
  implementation: str | None = None
  platform: str | None = None
  remat: bool = True
  unroll: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    *,
    num_keys: jax.Array | int | None = None,
    branch_scales: jax.Array | None = None,
  ) -> jax.Array:
    """Restores a batch of images.

    Args:
      images: `[B, H, W, in_channels]` float in [0, 1]; any H and W >= 1.
      num_keys: k in [1, max_keys]; may be traced. None means the attribute.
      branch_scales: `[B, layers, 2]` float32 of
        `drop_path.draw_branch_scales`, in training; None at inference.

    Returns:
      `[B, H * scale, W * scale, out_channels]` float32, nominally in [0, 1],
      not clipped.

    Raises:
      ValueError: a hyper-parameter, k or the channel count does not fit.
    """
    num_keys = whole_number(self.num_keys if num_keys is None else num_keys)
    check_options(self, images, num_keys)
    if not isinstance(num_keys, int):
      num_keys = jnp.clip(num_keys, 1, self.max_keys)
    _, h, w, _ = images.shape
    mean = RGB_MEAN if self.in_channels == self.out_channels == 3 else 0.0
    x = images.astype(jnp.float32) - mean
    x = windows.pad_to_multiple(x, self.size_multiple)
    trunk = self._columnar if self.architecture == "columnar" else self._ushape
    features = trunk(x, num_keys, branch_scales)
    if self.scale > 1:
      upsampler = Upsampler(
        self.scale,
        self.out_channels,
        self.upsampler,
        dtype=self.dtype,
        name="upsampler",
      )
      y = upsampler(features).astype(jnp.float32)
    else:
      last = Conv(self.out_channels, dtype=self.dtype, name="conv_last")
      y = last(features).astype(jnp.float32)
      if self.in_channels == self.out_channels:
        y = y + x
    return y[:, : h * self.scale, : w * self.scale] + mean

  @property
  def size_multiple(self) -> int:
    """Sides are padded to multiples of this many pixels."""
    if self.architecture == "columnar":
      return self.window_size
    return self.window_size * 2 ** (len(self.depths) // 2 - 1)

  def _columnar(
    self,
    x: jax.Array,
    num_keys: jax.Array | int,
    branch_scales: jax.Array | None,
  ) -> jax.Array:
    """Archi-V1 without its tail: `[B, H, W, 3]` to `[B, H, W, C]`."""
    shallow = Conv(self.dim, dtype=self.dtype, name="conv_first")(x)
    shallow = shallow.astype(jnp.float32)
    x = layer_norm("norm_first")(shallow)
    for i in range(len(self.depths)):
      x = self._stage(i, 0, x, num_keys, branch_scales)
    x = layer_norm("norm_last")(x)
    return shallow + Conv(self.dim, dtype=self.dtype, name="conv_body")(x)

  def _ushape(
    self,
    x: jax.Array,
    num_keys: jax.Array | int,
    branch_scales: jax.Array | None,
  ) -> jax.Array:
    """Archi-V2 without its tail: `[B, H, W, 3]` to `[B, H, W, C]`."""
    bottom = len(self.depths) // 2 - 1
    x = Conv(self.dim, dtype=self.dtype, name="conv_first")(x)
    x = layer_norm("norm_first")(x)
    skips = []
    for level in range(bottom):
      x = self._stage(level, level, x, num_keys, branch_scales)
      skips.append(x)
      x = Downsample(dtype=self.dtype, name=f"down_{level}")(x)
      x = x.astype(jnp.float32)
    x = self._stage(bottom, bottom, x, num_keys, branch_scales)
    for level in reversed(range(bottom)):
      x = Upsample(dtype=self.dtype, name=f"up_{level}")(x)
      x = jnp.concatenate([x.astype(jnp.float32), skips[level]], axis=-1)
      reduce = Conv(
        self.dim << level, kernel_size=1, dtype=self.dtype, name=f"fuse_{level}"
      )
      x = reduce(x).astype(jnp.float32)
      index = 2 * bottom - level
      x = self._stage(index, level, x, num_keys, branch_scales)
    x = self._stage(2 * bottom + 1, 0, x, num_keys, branch_scales)
    return layer_norm("norm_last")(x)

  def _stage(
    self,
    index: int,
    level: int,
    x: jax.Array,
    num_keys: jax.Array | int,
    branch_scales: jax.Array | None,
  ) -> jax.Array:
    """Runs stage `index`, in order of execution, at a level of the U."""
    first, depth = sum(self.depths[:index]), self.depths[index]
    if branch_scales is not None:
      branch_scales = branch_scales[:, first : first + depth]
    stage = Stage(
      depth=depth,
      num_heads=self.num_heads << level,
      window_size=self.window_size,
      max_keys=self.max_keys,
      shifted=self.shift == "stage" and index % 2 == 1,
      mlp_ratio=self.mlp_ratio,
      dictionary=self.dictionary,
      similarity=self.similarity,
      implementation=self.implementation,
      platform=self.platform,
      remat=self.remat,
      unroll=self.unroll,
      dtype=self.dtype,
      name=f"stage_{index}",
    )
    return stage(x, num_keys, branch_scales)
