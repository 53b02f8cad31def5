"""SemanIR whose windows reach through time, for `studies.time`.

Letters as in `semanir_jax.models.semanir`, and T frames, S = P * P tokens of
a window in one of them, N = T * S tokens of a window in all of them. Tokens
are numbered frame by frame, so token t * S + s is token s of frame t.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from semanir_jax.models import windows
from semanir_jax.models.affine import Conv, linear
from semanir_jax.models.execution import Execution
from semanir_jax.models.layers import (
  KeySemanticAttention,
  TransformerLayer,
  layer_norm,
)
from semanir_jax.models.position_bias import (
  BIAS_BOUND,
  BIAS_HIDDEN,
  relative_coordinates,
)
from semanir_jax.models.semanir import RGB_MEAN, SemanIR
from semanir_jax.models.stage import scan_layers
from semanir_jax.ops import build_dictionary
from semanir_jax.ops.attention.offsets import expand_offsets

NEIGHBOURS = ("keys", "none", "channels")


class TimeSemanIR(SemanIR):
  """Restores the middle one of T frames; columnar, scale 1, RGB.

  With one frame it is SemanIR: same parameters, same result. With more, each
  frame goes through the same layers and convolutions, and only attention joins
  them. The tail works on the middle frame alone.

  Attributes:
    frames: T, odd.
    neighbours: how the middle frame sees the others. "keys": a window holds
      the tokens of all frames, and its dictionary is found over all of them.
      "none": the keys of a token are of its own frame, so the result depends
      on the middle frame alone. "channels": the first convolution takes all
      frames as 3 T channels, and windows hold one frame.

  `in_channels` is 3 T, `num_keys` and `max_keys` are at most N.

  Raises:
    ValueError: at construction, a field does not fit.
  """

  frames: int = 1
  neighbours: str = "keys"

  def __post_init__(self) -> None:
    # Not SemanIR's own checks, for which a window has P * P tokens.
    super(SemanIR, self).__post_init__()
    if self.neighbours not in NEIGHBOURS:
      raise ValueError(
        f"neighbours={self.neighbours!r}: use one of {NEIGHBOURS}"
      )
    if self.frames % 2 != 1 or self.in_channels != 3 * self.frames:
      raise ValueError(
        f"frames={self.frames}, in_channels={self.in_channels}: give an odd"
        " number of frames, and 3 channels for each"
      )
    num_tokens = self.window_frames * self.window_size**2
    if not 1 <= self.num_keys <= self.max_keys <= num_tokens:
      raise ValueError(
        f"num_keys={self.num_keys}, max_keys={self.max_keys}: give 1 <="
        f" num_keys <= max_keys <= {num_tokens}, the tokens of a window"
      )

  @property
  def window_frames(self) -> int:
    """Returns the frames that a window holds."""
    return 1 if self.neighbours == "channels" else self.frames

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    *,
    num_keys: jax.Array | int | None = None,
    branch_scales: jax.Array | None = None,
  ) -> jax.Array:
    """Restores the middle frames of a batch.

    Args:
      images: `[B, H, W, 3 T]` float in [0, 1], frame after frame.
      num_keys: k in [1, max_keys]; may be traced. None means the attribute.
      branch_scales: None; there is no drop path.

    Returns:
      `[B, H, W, 3]` float32, nominally in [0, 1], not clipped. The collection
      "intermediates", where it is mutable, gets the dictionary of each stage.
    """
    assert branch_scales is None  # the rate is 0
    num_keys = self.num_keys if num_keys is None else num_keys
    _, h, w, _ = images.shape
    mean = np.tile(RGB_MEAN, self.frames)
    x = windows.pad_to_multiple(
      images.astype(jnp.float32) - mean, self.size_multiple
    )
    first = 3 * (self.frames // 2)
    middle = x[..., first : first + 3]
    dtype = self.execution.dtype
    shallow = Conv(self.dim, dtype=dtype, name="conv_first")(self._unfold(x))
    shallow = shallow.astype(jnp.float32)
    x = layer_norm("norm_first")(shallow)
    for i, depth in enumerate(self.depths):
      x = TimeStage(
        depth=depth,
        num_heads=self.num_heads,
        window_size=self.window_size,
        max_keys=self.max_keys,
        shifted=self.shift_windows and i % 2 == 1,
        mlp_ratio=self.mlp_ratio,
        frames=self.window_frames,
        alone=self.neighbours == "none",
        execution=self.execution,
        name=f"stage_{i}",
      )(x, num_keys)
    x = layer_norm("norm_last")(self._take_middle(x))
    body = Conv(self.dim, dtype=dtype, name="conv_body")(x)
    features = self._take_middle(shallow) + body
    y = Conv(3, dtype=dtype, name="conv_last")(features).astype(jnp.float32)
    return (y + middle)[:, :h, :w] + RGB_MEAN

  def _unfold(self, x: jax.Array) -> jax.Array:
    """Makes the windows' frames images of their own: `[B T, H, W, C]`."""
    t = self.window_frames
    frames = x.reshape(*x.shape[:3], t, -1)
    return jnp.moveaxis(frames, 3, 1).reshape(
      -1, *x.shape[1:3], x.shape[3] // t
    )

  def _take_middle(self, x: jax.Array) -> jax.Array:
    """Returns the middle ones of `[B T, H, W, C]`, `[B, H, W, C]`."""
    return x[self.window_frames // 2 :: self.window_frames]


class TimeStage(nn.Module):
  """Does what `models.stage.Stage` does, with windows of several frames.

  Attributes:
    depth: number of layers; the other fields as of `models.stage.Stage`.
    frames: T.
    alone: whether the keys of a token are of its own frame.
  """

  depth: int
  num_heads: int
  window_size: int
  max_keys: int
  shifted: bool
  mlp_ratio: float
  frames: int
  alone: bool
  execution: Execution = Execution()

  @nn.compact
  def __call__(self, x: jax.Array, num_keys: jax.Array | int) -> jax.Array:
    """Maps `[B T, H, W, C]` float32, frame after frame, to the same shape."""
    _, h, w, c = x.shape
    p, t = self.window_size, self.frames
    shift = windows.shift_px(h, w, p) if self.shifted else (0, 0)
    # The kernels of TPUs take a position bias of squares alone.
    implementation = self.execution.implementation or "mask"
    execution = dataclasses.replace(
      self.execution, implementation=implementation
    )
    tokens = join_frames(windows.partition(x, p, shift), t)
    keys = build_dictionary(
      tokens.astype(execution.dtype),
      num_keys,
      regions=regions(h, w, p, shift, frames=t, alone=self.alone),
      max_keys=self.max_keys if implementation == "gather" else None,
      platform=execution.platform,
    )
    self.sow("intermediates", "dictionary", keys)
    layers = scan_layers(TimeLayer, self.depth, execution)(
      num_heads=self.num_heads,
      mlp_ratio=self.mlp_ratio,
      frames=t,
      execution=execution,
      name="layers",
    )
    tokens, _ = layers(tokens, None, keys, None)
    features = windows.merge(split_frames(tokens, t), h, w, shift)
    return x + Conv(c, dtype=execution.dtype, name="conv")(features)


def join_frames(x: jax.Array, frames: int) -> jax.Array:
  """Makes windows of all frames: `[B T, G, S, C]` to `[B, G, T S, C]`."""
  bt, g, s, c = x.shape
  x = x.reshape(bt // frames, frames, g, s, c)
  return x.swapaxes(1, 2).reshape(bt // frames, g, frames * s, c)


def split_frames(x: jax.Array, frames: int) -> jax.Array:
  """Undoes `join_frames`."""
  b, g, n, c = x.shape
  x = x.reshape(b, g, frames, n // frames, c).swapaxes(1, 2)
  return x.reshape(b * frames, g, n // frames, c)


def regions(
  height: int,
  width: int,
  window_size: int,
  shift: tuple[int, int],
  *,
  frames: int,
  alone: bool,
) -> np.ndarray | None:
  """Numbers the tokens that may see each other: `[G, N]`, or None for all.

  Args:
    height: see `windows.regions`, and `width`, `window_size` and `shift`.
    width: see `height`.
    window_size: see `height`.
    shift: see `height`.
    frames: T.
    alone: whether each frame is a region of its own.
  """
  found = windows.regions(height, width, window_size, shift)
  if not alone:
    return None if found is None else np.tile(found, (1, frames))
  if found is None:
    count = height * width // window_size**2
    found = np.zeros((count, window_size**2), np.uint8)
  # A window has at most four regions, 0 to 3.
  return np.concatenate([found + 4 * i for i in range(frames)], axis=1)


class TimeLayer(TransformerLayer):
  """Is SemanIR's layer, in windows of several frames."""

  frames: int = 1

  @nn.nowrap
  def _make_attention(self) -> KeySemanticAttention:
    """Makes the attention of this layer."""
    return TimeAttention(
      self.num_heads, self.execution, frames=self.frames, name="attention"
    )


class TimeAttention(KeySemanticAttention):
  """Attends as SemanIR does, with a position bias of place and time."""

  frames: int = 1

  @nn.nowrap
  def _offsets(self, num_tokens: int) -> jax.Array:
    """Returns the position bias of every pair, `[A, N, N]`."""
    bias = TimePositionBias(self.num_heads, self.frames, name="position_bias")
    return bias(math.isqrt(num_tokens // self.frames))


class TimePositionBias(nn.Module):
  """Computes a bias of offsets in place and time, as `PositionBias` of place.

  Its first layer takes a third coordinate, which is 512 parameters more. With
  one frame there is none, and the parameters are those of `PositionBias`.
  """

  num_heads: int
  frames: int

  @nn.compact
  def __call__(self, window_size: int) -> jax.Array:
    """Returns `[A, N, N]` float32 in (0, 16), [query, key]."""
    x = jnp.asarray(offset_coordinates(self.frames, window_size))
    x = nn.relu(linear(x, BIAS_HIDDEN, dtype=jnp.float32, name="hidden"))
    table = linear(
      x, self.num_heads, dtype=jnp.float32, name="heads", bias=False
    )
    table = BIAS_BOUND * nn.sigmoid(table)
    blocks = jax.vmap(lambda place: expand_offsets(place, window_size))(table)
    time = np.arange(self.frames)
    offset = time[:, None] - time[None, :] + self.frames - 1
    selects = offset[..., None] == np.arange(2 * self.frames - 1)
    # A product with zeros and ones, as in `expand_offsets`: exact.
    pairs = jnp.einsum(
      "dapq,ijd->aipjq",
      blocks,
      jnp.asarray(selects, blocks.dtype),
      precision=lax.Precision.HIGHEST,
    )
    num_tokens = self.frames * window_size**2
    return pairs.reshape(self.num_heads, num_tokens, num_tokens)


def offset_coordinates(frames: int, window_size: int) -> np.ndarray:
  """Returns `[2T-1, 2P-1, 2P-1, 3]` float32, the offsets (dy, dx, dt).

  Each is log-spaced as `relative_coordinates` says, a frame of T as a token of
  P. With one frame the last axis is 2, (dy, dx).
  """
  place = relative_coordinates(window_size)[None]
  if frames == 1:
    return place
  time = relative_coordinates(frames)[:, 0, 0]
  shape = (len(time), *place.shape[1:3])
  return np.concatenate(
    [
      np.broadcast_to(place, (*shape, 2)),
      np.broadcast_to(time[:, None, None, None], (*shape, 1)),
    ],
    axis=-1,
  )
