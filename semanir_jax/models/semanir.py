"""SemanIR: the network, in its columnar and its U shape.

Letters: B batch, H and W height and width in pixels, C channels, G windows per
image, P window side, N = P * P tokens per window, K keys kept per token, A
heads, D channels per head, S scale.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from semanir_jax.models import windows
from semanir_jax.models.affine import Conv
from semanir_jax.models.execution import Execution
from semanir_jax.models.key_search import KeySearch
from semanir_jax.models.layers import layer_norm
from semanir_jax.models.resampling import (
  UPSAMPLERS,
  Downsample,
  Upsample,
  Upsampler,
)
from semanir_jax.models.stage import Stage
from semanir_jax.ops import whole_number

ARCHITECTURES = ("columnar", "ushape")
SCALES = (1, 2, 3, 4, 8)
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
    mlp_ratio: hidden width of the MLPs over C.
    drop_path_rate: rate of the last layer in training; linear from 0.
    upsampler: "pixelshuffle" or "pixelshuffledirect"; unused where S is 1.
    shift_windows: whether every second stage has shifted windows.
    key_search: how and where the dictionaries are found.
    execution: how the network is computed.

  Raises:
    ValueError: at construction, a field does not fit; at a call, k or the
      images do not.

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
  mlp_ratio: float = 2.0
  drop_path_rate: float = 0.1
  upsampler: str = "pixelshuffle"
  shift_windows: bool = True
  key_search: KeySearch = KeySearch()
  execution: Execution = Execution()

  def __post_init__(self) -> None:
    _check_names(self)
    _check_sizes(self)
    super().__post_init__()

  @nn.nowrap
  def with_execution(self, **changes: Any) -> "SemanIR":
    """Returns the same network, computed in another way.

    Args:
      **changes: fields of `Execution`; the others stay.

    Raises:
      ValueError: a value is unknown.
    """
    execution = dataclasses.replace(self.execution, **changes)
    return self.clone(execution=execution)

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
      ValueError: k or the images do not fit.
    """
    num_keys = whole_number(self.num_keys if num_keys is None else num_keys)
    _check_num_keys(num_keys, self.max_keys)
    _check_images(images, self.in_channels)
    dtype = self.execution.dtype
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
        dtype=dtype,
        name="upsampler",
      )
      y = upsampler(features).astype(jnp.float32)
    else:
      last = Conv(self.out_channels, dtype=dtype, name="conv_last")
      y = last(features).astype(jnp.float32)
      if self.in_channels == self.out_channels:
        y = y + x
    return y[:, : h * self.scale, : w * self.scale] + mean

  @property
  def size_multiple(self) -> int:
    """Returns the pixels that sides are padded to multiples of."""
    if self.architecture == "columnar":
      return self.window_size
    return self.window_size * 2 ** (len(self.depths) // 2 - 1)

  def _columnar(
    self,
    x: jax.Array,
    num_keys: jax.Array | int,
    branch_scales: jax.Array | None,
  ) -> jax.Array:
    """Runs Archi-V1 without its tail: `[B, H, W, 3]` to `[B, H, W, C]`."""
    dtype = self.execution.dtype
    shallow = Conv(self.dim, dtype=dtype, name="conv_first")(x)
    shallow = shallow.astype(jnp.float32)
    x = layer_norm("norm_first")(shallow)
    for i in range(len(self.depths)):
      x = self._stage(i, 0, x, num_keys, branch_scales)
    x = layer_norm("norm_last")(x)
    return shallow + Conv(self.dim, dtype=dtype, name="conv_body")(x)

  def _ushape(
    self,
    x: jax.Array,
    num_keys: jax.Array | int,
    branch_scales: jax.Array | None,
  ) -> jax.Array:
    """Runs Archi-V2 without its tail: `[B, H, W, 3]` to `[B, H, W, C]`."""
    dtype = self.execution.dtype
    bottom = len(self.depths) // 2 - 1
    x = Conv(self.dim, dtype=dtype, name="conv_first")(x)
    x = layer_norm("norm_first")(x)
    skips = []
    for level in range(bottom):
      x = self._stage(level, level, x, num_keys, branch_scales)
      skips.append(x)
      x = Downsample(dtype=dtype, name=f"down_{level}")(x)
      x = x.astype(jnp.float32)
    x = self._stage(bottom, bottom, x, num_keys, branch_scales)
    for level in reversed(range(bottom)):
      x = Upsample(dtype=dtype, name=f"up_{level}")(x)
      x = jnp.concatenate([x.astype(jnp.float32), skips[level]], axis=-1)
      reduce = Conv(
        self.dim << level, kernel_size=1, dtype=dtype, name=f"fuse_{level}"
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
      shifted=self.shift_windows and index % 2 == 1,
      mlp_ratio=self.mlp_ratio,
      key_search=self.key_search,
      execution=self.execution,
      name=f"stage_{index}",
    )
    return stage(x, num_keys, branch_scales)


def _check_names(model: SemanIR) -> None:
  """Raises ValueError unless the fields that are names are known."""
  choices = (("architecture", ARCHITECTURES), ("upsampler", UPSAMPLERS))
  for field, known in choices:
    if getattr(model, field) not in known:
      raise ValueError(f"{field}={getattr(model, field)!r}: use one of {known}")


# Messages are made where they are raised: Flax makes a module anew whenever it
# is cloned, bound or applied.
def _check_sizes(model: SemanIR) -> None:
  """Raises ValueError unless the sizes fit together; names the remedy."""
  ushape = model.architecture == "ushape"
  depths, dim, side = model.depths, model.dim, model.window_size
  if (
    not isinstance(model.scale, int)
    or model.scale not in SCALES
    or (model.scale > 1 and ushape)
  ):
    raise ValueError(
      f"scale={model.scale}: use 1, 2, 3, 4 or 8 (1 with the U shape)"
    )
  if ushape and len(depths) % 2 == 1:
    raise ValueError(
      f"depths={depths}: the U shape needs an even count of stages"
    )
  if not depths or min(depths) < 1:
    raise ValueError(f"depths={depths}: every stage needs a layer")
  if min(model.num_heads, dim) < 1 or dim % model.num_heads != 0:
    raise ValueError(f"num_heads={model.num_heads} must divide dim={dim}")
  if ushape and dim % 2 == 1:
    raise ValueError(
      f"dim={dim}: the U shape halves and doubles it, give an even one"
    )
  if dim * model.mlp_ratio < 1:
    raise ValueError(f"mlp_ratio={model.mlp_ratio}: an MLP needs a channel")
  if not 0 <= model.drop_path_rate < 1:
    raise ValueError(
      f"drop_path_rate={model.drop_path_rate} must lie in [0, 1)"
    )
  if side < 2:
    raise ValueError(f"window_size={side}: a window needs 2 tokens a side")
  if not 1 <= model.max_keys <= side**2:
    raise ValueError(
      f"max_keys={model.max_keys} must lie in [1, {side**2}], the tokens of a"
      f" {side}x{side} window"
    )
  _check_num_keys(whole_number(model.num_keys), model.max_keys)


def _check_num_keys(num_keys: jax.Array | int, max_keys: int) -> None:
  """Raises ValueError unless k lies in [1, max_keys], where it is known."""
  if isinstance(num_keys, int) and not 1 <= num_keys <= max_keys:
    raise ValueError(
      f"num_keys={num_keys} must lie in [1, {max_keys}] (max_keys); use"
      " fewer keys or a larger window"
    )


def _check_images(images: jax.Array, channels: int) -> None:
  """Raises ValueError unless images are `[B, H, W, channels]` float."""
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(
      f"images of {images.dtype}: give floats in [0, 1], as uint8 / 255"
    )
  if images.ndim != 4 or images.shape[-1] != channels:
    raise ValueError(
      f"images {images.shape} must be [B, H, W, {channels}]; set"
      " in_channels to theirs"
    )
