"""Times what a user of torch would take for attention over a dictionary.

SDPA with mask and position bias in one `[G, A, N, N]` array, and FlexAttention
with the bias in its score and the dictionary in its block mask. Both get more
than our kernel does: heads already padded with zeros from 30 to 32 numbers,
which torch's kernels want, already transposed to `[G, A, N, D]`, and the block
mask (the torch image of the dictionary) outside of the timed part.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo
import torch.nn.functional as F
from torch.nn.attention.flex_attention import (
  BlockMask,
  create_block_mask,
  flex_attention,
)

from benchmarks.attention_cases import (
  HEAD_SIZE,
  HEADS,
  Case,
  Rule,
  make_rule,
)
from benchmarks.timing import median_ms

# One function is compiled for many shapes; by default the ninth would run
# uncompiled, and nothing but the time would tell.
torch._dynamo.config.recompile_limit = 256
torch._dynamo.config.fail_on_recompile_limit_hit = True

PADDED_SIZE = 32
_BLOCK = 128  # tokens of a tile of the block mask, FlexAttention's own choice


def sdpa(
  query: torch.Tensor,
  key: torch.Tensor,
  value: torch.Tensor,
  mask: torch.Tensor,
  scale: torch.Tensor,
  bias: torch.Tensor,
) -> torch.Tensor:
  """`scaled_dot_product_attention` over a dictionary.

  Args:
    query: `[G, A, N, D]`, of length 1; key and value likewise.
    key: see query.
    value: see query.
    mask: `[G, 1, N, N]` bool.
    scale: `[A]` float32.
    bias: `[A, N, N]` float32.

  Returns:
    `[G, A, N, D]`. The sum of bias and mask is made anew, for the bias is
    another in every layer and every step.
  """
  logits = bias.to(query.dtype).masked_fill(~mask, -math.inf)
  query = query * scale.to(query.dtype)[:, None, None]
  return F.scaled_dot_product_attention(
    query, key, value, attn_mask=logits, scale=1.0
  )


def make_block_mask(words: torch.Tensor, num_tokens: int) -> BlockMask:
  """The dictionary as FlexAttention takes it.

  Args:
    words: `[G, N, N / 32]` int32, `Dictionary.bits`.
    num_tokens: N.
  """

  def selected(
    window: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: Any
  ) -> torch.Tensor:
    return ((words[window, query, key // 32] >> (key % 32)) & 1) != 0

  return create_block_mask(
    selected,
    B=words.shape[0],
    H=None,
    Q_LEN=num_tokens,
    KV_LEN=num_tokens,
    device=str(words.device),
    BLOCK_SIZE=_BLOCK,
  )


def flex(
  query: torch.Tensor,
  key: torch.Tensor,
  value: torch.Tensor,
  block_mask: BlockMask,
  scale: torch.Tensor,
  bias: torch.Tensor,
) -> torch.Tensor:
  """`flex_attention` over a dictionary; arguments as of `sdpa`.

  The scale is multiplied to the queries: as a part of the score its gradient
  would be summed by atomic additions to six numbers.
  """

  def add_bias(
    score: torch.Tensor,
    window: torch.Tensor,
    head: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
  ) -> torch.Tensor:
    return score + bias[head, query, key]

  query = query * scale.to(query.dtype)[:, None, None]
  return flex_attention(
    query, key, value, score_mod=add_bias, block_mask=block_mask, scale=1.0
  )


def pack_words(mask: torch.Tensor) -> torch.Tensor:
  """`[..., N]` bool to `[..., N / 32]` int32, low bit first."""
  lanes = mask.unflatten(-1, (-1, 32)).to(torch.int64)
  places = torch.arange(32, device=mask.device)
  # From 64 bits to 32: the highest bit becomes the sign.
  return (lanes << places).sum(-1).to(torch.int32)


def measure(fields: list[Any], platform: str) -> dict[str, Any]:
  """Times a case on the device here.

  Args:
    fields: of a `Case`.
    platform: of the rows beside it, "cpu" or "gpu".

  Returns:
    `ms` of a call; on a GPU also `peak_mib`, the allocator's peak less what lay
    there before.
  """
  case = Case(*fields)
  if platform == "gpu" and not torch.cuda.is_available():
    return {"skipped": "this torch sees no GPU"}
  device = torch.device("cuda" if platform == "gpu" else "cpu")
  torch.cuda.empty_cache()  # of the case before; does nothing without a GPU
  try:
    call = _make_call(case, device)
    call()
    if platform == "cpu":
      return {"ms": median_ms(call, lambda _: None)}
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    return {
      "ms": median_ms(call, lambda _: torch.cuda.synchronize()),
      "peak_mib": peak / 2**20,
    }
  except torch.OutOfMemoryError:
    return {"error": "out of memory"}
  except NotImplementedError as error:  # FlexAttention backward on a CPU
    return {"skipped": str(error)}


def _make_call(case: Case, device: torch.device) -> Callable[[], Any]:
  """The work of a case on new arrays."""
  torch.manual_seed(0)
  shape = (case.windows, HEADS, case.num_tokens, HEAD_SIZE)
  tokens = [
    _padded(F.normalize(torch.randn(shape, device=device), dim=-1))
    for _ in range(4)
  ]
  bias = torch.randn(HEADS, *(case.num_tokens,) * 2, device=device)
  scale = torch.full((HEADS,), 10.0, device=device)
  mask = _make_mask(case, device)
  if case.form == "sdpa":
    attend = sdpa
    selection: Any = mask[:, None]
  else:
    words = torch.cat([pack_words(rows[None]) for rows in mask])
    selection = make_block_mask(words, case.num_tokens)
    # Without compilation FlexAttention computes all pairs, for tests alone.
    attend = (
      torch.compile(flex, dynamic=False) if device.type == "cuda" else flex
    )
  del mask
  *arrays, cotangent = tokens
  if case.operation == "forward":

    def run() -> torch.Tensor:
      with torch.no_grad():
        return attend(*arrays, selection, scale, bias)

    return run
  leaves = [x.requires_grad_() for x in (*arrays, scale, bias)]

  def train() -> tuple[torch.Tensor, ...]:
    out = attend(*leaves[:3], selection, *leaves[3:])
    return torch.autograd.grad(out, leaves, cotangent)

  return train


def _padded(x: torch.Tensor) -> torch.Tensor:
  padding = PADDED_SIZE - x.shape[-1]
  return F.pad(x, (0, padding)).to(torch.bfloat16)


def _make_mask(case: Case, device: torch.device) -> torch.Tensor:
  """`[G, N, N]` bool, a window after the other, for they take int32."""
  n = case.num_tokens
  tokens = torch.arange(n, dtype=torch.int32, device=device)
  rule = Rule(
    *(torch.from_numpy(x).to(device) for x in make_rule(case.windows, n))
  )
  mask = torch.empty((case.windows, n, n), dtype=torch.bool, device=device)
  for g in range(case.windows):
    window = Rule(*(x[g : g + 1] for x in rule))
    mask[g] = window.mask(tokens, n, case.dictionary_keys)[0]
  return mask
