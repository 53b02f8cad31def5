"""A network of SwinIR's class in torch, to time beside ours.

Written from the description of the architecture (Liang et al., 2021): 3x3
convolution, stages of layers with dense attention in 8x8 windows, every second
one shifted, a learned table of position biases, pre-norm, MLP ratio 2, a
convolution and a residual around every stage and around all of them, pixel
shuffle. Tokens lie as `[B, H, W, C]`, which is torch's `channels_last` for the
convolutions.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

RGB_MEAN = (0.4488, 0.4371, 0.4040)


class WindowAttention(nn.Module):
  """Dense attention inside windows of `size` x `size` tokens."""

  def __init__(self, dim: int, num_heads: int, size: int) -> None:
    super().__init__()
    self.num_heads, self.size = num_heads, size
    self.qkv = nn.Linear(dim, 3 * dim)
    self.project = nn.Linear(dim, dim)
    self.bias_table = nn.Parameter(torch.zeros((2 * size - 1) ** 2, num_heads))
    nn.init.trunc_normal_(self.bias_table, std=0.02)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    y, x = y.flatten(), x.flatten()
    offsets = (y[:, None] - y + size - 1) * (2 * size - 1)
    offsets = offsets + x[:, None] - x + size - 1
    self.register_buffer("offsets", offsets, persistent=False)

  def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """`[B, G, N, C]` to the same; `mask` `[G, 1, N, N]`, added to logits."""
    b, g, n, c = x.shape
    qkv = self.qkv(x).view(b, g, n, 3, self.num_heads, c // self.num_heads)
    query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)
    query = query * (c // self.num_heads) ** -0.5
    logits = query @ key.transpose(-2, -1)
    logits = logits + self.bias_table[self.offsets].permute(2, 0, 1)
    if mask is not None:
      logits = logits + mask
    weights = logits.softmax(-1).to(value.dtype)
    out = (weights @ value).transpose(2, 3).reshape(b, g, n, c)
    return self.project(out)


class Layer(nn.Module):
  """Attention and MLP, each with a norm before it and a residual."""

  def __init__(
    self, dim: int, num_heads: int, size: int, shift: int, drop_rate: float
  ) -> None:
    super().__init__()
    self.size, self.shift, self.drop_rate = size, shift, drop_rate
    self.norm_attention = nn.LayerNorm(dim)
    self.attention = WindowAttention(dim, num_heads, size)
    self.norm_mlp = nn.LayerNorm(dim)
    self.mlp = nn.Sequential(
      nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
    )

  def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`[B, H, W, C]` to the same; sides are multiples of the window's."""
    y = self.norm_attention(x)
    if self.shift:
      y = y.roll((-self.shift, -self.shift), (1, 2))
    y = self.attention(partition(y, self.size), mask if self.shift else None)
    y = merge(y, self.size, x.shape)
    if self.shift:
      y = y.roll((self.shift, self.shift), (1, 2))
    x = x + self._drop(y)
    return x + self._drop(self.mlp(self.norm_mlp(x)))

  def _drop(self, branch: torch.Tensor) -> torch.Tensor:
    """Drop path: leaves the branch out for some images, in training."""
    if not self.training or not self.drop_rate:
      return branch
    keep = 1 - self.drop_rate
    kept = torch.rand(branch.shape[0], 1, 1, 1, device=branch.device) < keep
    return branch * kept.to(branch.dtype) / keep


class Stage(nn.Module):
  """Layers, a convolution, a residual."""

  def __init__(
    self, dim: int, num_heads: int, size: int, drop_rates: list[float]
  ) -> None:
    super().__init__()
    self.layers = nn.ModuleList(
      Layer(dim, num_heads, size, size // 2 * (i % 2), rate)
      for i, rate in enumerate(drop_rates)
    )
    self.conv = nn.Conv2d(dim, dim, 3, padding=1)

  def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    y = x
    for layer in self.layers:
      y = layer(y, mask)
    return x + convolve(self.conv, y)


class DenseWindowNetwork(nn.Module):
  """Restores images: 11.9 M parameters at x4, 11.5 M at x1."""

  def __init__(
    self,
    scale: int,
    *,
    dim: int = 180,
    depths: tuple[int, ...] = (6,) * 6,
    num_heads: int = 6,
    window_size: int = 8,
    drop_path_rate: float = 0.1,
  ) -> None:
    super().__init__()
    self.scale, self.window_size = scale, window_size
    self.register_buffer("mean", torch.tensor(RGB_MEAN), persistent=False)
    self.conv_first = nn.Conv2d(3, dim, 3, padding=1)
    self.norm_first, self.norm_last = nn.LayerNorm(dim), nn.LayerNorm(dim)
    rates = torch.linspace(0, drop_path_rate, sum(depths)).split(list(depths))
    self.stages = nn.ModuleList(
      Stage(dim, num_heads, window_size, r.tolist()) for r in rates
    )
    self.conv_body = nn.Conv2d(dim, dim, 3, padding=1)
    tail: list[nn.Module] = [nn.Conv2d(dim, 3, 3, padding=1)]
    if scale > 1:
      tail = [nn.Conv2d(dim, 64, 3, padding=1), nn.LeakyReLU()]
      for _ in range(int(math.log2(scale))):
        tail += [nn.Conv2d(64, 256, 3, padding=1), nn.PixelShuffle(2)]
      tail.append(nn.Conv2d(64, 3, 3, padding=1))
    self.tail = nn.Sequential(*tail)
    for module in self.modules():
      if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """`[B, H, W, 3]` in [0, 1] to `[B, H * scale, W * scale, 3]`."""
    _, h, w, _ = images.shape
    padding = (0, -w % self.window_size, 0, -h % self.window_size)
    x = (images - self.mean).permute(0, 3, 1, 2)
    x = F.pad(x, padding, mode="reflect").permute(0, 2, 3, 1)
    shallow = convolve(self.conv_first, x)
    mask = shift_mask(*x.shape[1:3], self.window_size, x)
    features = self.norm_first(shallow)
    for stage in self.stages:
      features = stage(features, mask)
    features = convolve(self.conv_body, self.norm_last(features)) + shallow
    y = convolve(self.tail, features)
    if self.scale == 1:
      y = y + x
    return y[:, : h * self.scale, : w * self.scale] + self.mean


def convolve(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
  """A layer of torch's images on `[B, H, W, C]`; copies nothing."""
  return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def partition(x: torch.Tensor, size: int) -> torch.Tensor:
  """`[B, H, W, C]` to windows `[B, G, size * size, C]`."""
  b, h, w, c = x.shape
  x = x.view(b, h // size, size, w // size, size, c).transpose(2, 3)
  return x.reshape(b, -1, size * size, c)


def merge(x: torch.Tensor, size: int, shape: torch.Size) -> torch.Tensor:
  """Inverse of `partition`."""
  b, h, w, c = shape
  x = x.view(b, h // size, w // size, size, size, c).transpose(2, 3)
  return x.reshape(shape)


def shift_mask(
  height: int, width: int, size: int, like: torch.Tensor
) -> torch.Tensor:
  """`[G, 1, N, N]` of shifted windows: -100 between parts that do not touch."""
  regions = torch.zeros(1, height, width, 1, device=like.device)
  for axis, length in ((1, height), (2, width)):
    place = torch.arange(length, device=like.device)
    part = (place >= length - size).int() + (place >= length - size // 2).int()
    regions = 3 * regions + part.view(
      [-1 if i == axis else 1 for i in range(4)]
    )
  windows = partition(regions, size)[0, :, :, 0]
  apart = windows[:, None, :] != windows[:, :, None]
  return (apart.to(like.dtype) * -100)[:, None]
