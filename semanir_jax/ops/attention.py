"""Attention over the key-semantic dictionary: one function, several forms."""

import jax

from semanir_jax.ops.attention_gather import gather_attention
from semanir_jax.ops.attention_mask import mask_attention
from semanir_jax.ops.dictionary import Dictionary

IMPLEMENTATIONS = ("mask", "gather")


def choose_implementation(
  num_tokens: int,
  max_keys: int,
  *,
  implementation: str | None = None,
  platform: str | None = None,
) -> str:
  """Names the form of attention to run, and with it the dictionary's form.

  Args:
    num_tokens: N, tokens of a window.
    max_keys: K, the most keys a token may keep.
    implementation: a name of `IMPLEMENTATIONS` to insist on, or None.
    platform: `cpu`, `gpu` or `tpu`; None is the platform JAX runs on. A program
      compiled ahead of time for another platform has to say so here.

  Returns:
    "mask" or "gather". Where the choice is ours: the matrix units do a dense
    N x N product faster than memory delivers N x K gathered rows, unless the
    dictionary is very sparse. The bound of K = N / 16 was measured on a CPU at
    N = 1024 (docs/design.md); at N = 256 it is too high. It serves TPU too
    until compiled programs have been compared there, and GPUs use the dense
    form until they have a kernel of their own.

  Raises:
    ValueError: the name is unknown.
  """
  if implementation is not None:
    if implementation not in IMPLEMENTATIONS:
      raise ValueError(
        f"unknown implementation {implementation!r}; use one of"
        f" {', '.join(IMPLEMENTATIONS)} or None"
      )
    return implementation
  platform = platform or jax.default_backend()
  return (
    "gather" if platform != "gpu" and 16 * max_keys <= num_tokens else "mask"
  )


def key_semantic_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  dictionary: Dictionary,
  *,
  scale: jax.Array,
  bias: jax.Array,
  platform: str | None = None,
) -> jax.Array:
  """Attention of every token over the keys its dictionary holds, and no others.

  out_i = softmax over j in D(i) of (scale * q_i . k_j + bias_ij) . v_j

  Args:
    query: `[B, G, N, A, D]` float, L2-normalised for cosine attention.
    key: same shape and dtype.
    value: same shape and dtype.
    dictionary: the selection for these windows, shared by all heads. Its form
      decides the computation: `bits` the dense one (mask), `indices` the sparse
      one (gather); see `choose_implementation`.
    scale: `[A]` float32, logit scale of every head.
    bias: `[A, N, N]` float32, position bias of every head, [query, key].
    platform: as in `choose_implementation`; decides how much is computed at
      once.

  Returns:
    `[B, G, N, A, D]`, dtype of `query`; logits, softmax and sums in float32.

  Raises:
    ValueError: shapes do not belong together.

  Source: SemanIR, NeurIPS 2024, section 3 (Torch-Mask, Torch-Gather) [paper].
  """
  b, g, n, a, _ = query.shape
  if key.shape != query.shape or value.shape != query.shape:
    raise ValueError(
      f"query {query.shape}, key {key.shape} and value {value.shape} must have"
      " one shape [B, G, N, A, D]"
    )
  if scale.shape != (a,) or bias.shape != (a, n, n):
    raise ValueError(
      f"scale {scale.shape} and bias {bias.shape} must be [{a}] and"
      f" [{a}, {n}, {n}] for {a} heads and {n} tokens"
    )
  form = dictionary.indices if dictionary.bits is None else dictionary.bits
  if form is None or form.shape[:3] != (b, g, n):
    raise ValueError(
      f"the dictionary {form if form is None else form.shape} was not built for"
      f" {b} images of {g} windows of {n} tokens"
    )
  if dictionary.bits is not None:
    return mask_attention(
      query, key, value, dictionary.bits, scale, bias, platform=platform
    )
  return gather_attention(
    query,
    key,
    value,
    dictionary.indices,
    dictionary.valid,
    scale,
    bias,
    platform=platform,
  )
