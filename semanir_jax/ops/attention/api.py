"""Attention over the key-semantic dictionary: one function, several forms."""

import math
import warnings

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from semanir_jax.ops import pallas_mode, triton_launch
from semanir_jax.ops.attention.gather import gather_attention
from semanir_jax.ops.attention.mask import mask_attention
from semanir_jax.ops.attention.offsets import expand_offsets
from semanir_jax.ops.chunks import ATTENDED
from semanir_jax.ops.dictionary.selection import Dictionary

IMPLEMENTATIONS = ("mask", "gather", "triton", "pallas")

# Fewer tokens do not fill one tile of the kernel.
LEAST_TRITON_TOKENS = 64
# With fewer, the mask form takes less time by the compiler (docs/kernels.md).
LEAST_PALLAS_TOKENS = 256

# N / K from which on rows are gathered. CPU: measured at N = 1024 and 256
# (docs/design.md). TPU: from compiled programs (docs/kernels.md).
_GATHER_FROM = {"cpu": 32, "tpu": 256}


def check_implementation(name: str | None) -> None:
  """Raises ValueError unless it is None or names a form of attention."""
  if name not in (*IMPLEMENTATIONS, None):
    raise ValueError(
      f"unknown implementation {name!r}; use one of"
      f" {', '.join(IMPLEMENTATIONS)} or None"
    )


def choose_implementation(
  num_tokens: int,
  max_keys: int,
  *,
  implementation: str | None = None,
  platform: str | None = None,
  dtype: DTypeLike = jnp.float32,
) -> str:
  """Names the form of attention to run, and with it the dictionary's form.

  Args:
    num_tokens: N, tokens of a window.
    max_keys: K, the most keys a token may keep.
    implementation: a name of `IMPLEMENTATIONS` to insist on, or None.
    platform: `cpu`, `gpu` or `tpu`; None is the platform JAX runs on. A program
      compiled ahead of time for another platform has to say so here, and for a
      GPU that is not here say which (`triton_launch.compile_for`).
    dtype: of query, key and value.

  Returns:
    A name of `IMPLEMENTATIONS`; the dictionary's indices serve "gather", its
    bits the others. Where the choice is ours, a GPU runs the Triton kernel if
    it can, for it stores nothing of size N x N, and else the mask, with a
    warning. Elsewhere the matrix units do a dense N x N product faster than
    memory delivers N x K gathered rows, unless the dictionary is very sparse:
    `_GATHER_FROM` says how sparse. A TPU does that product in the Pallas
    kernel if it can, from `LEAST_PALLAS_TOKENS` on.

  Raises:
    ValueError: the name is unknown, or the form named cannot run.
  """
  check_implementation(implementation)
  platform = platform or jax.default_backend()
  reason = None
  if implementation == "triton":
    reason = _why_not_triton(platform, dtype)
  elif implementation == "pallas":
    reason = pallas_mode.why_unavailable(platform, num_tokens, dtype)
  if reason is not None:
    raise ValueError(
      f"implementation={implementation!r} cannot run: {reason}; or use None,"
      " which takes another form"
    )
  if implementation is not None:
    return implementation
  if platform == "gpu":
    return _choose_on_gpu(num_tokens, dtype)
  sparse = _GATHER_FROM.get(platform, 256) * max_keys <= num_tokens
  if sparse:
    return "gather"
  large = num_tokens >= LEAST_PALLAS_TOKENS
  if large and pallas_mode.why_unavailable(platform, num_tokens, dtype) is None:
    return "pallas"
  return "mask"


def _choose_on_gpu(num_tokens: int, dtype: DTypeLike) -> str:
  """Chooses the kernel if it can run; warns where but the set-up forbids it."""
  if num_tokens < LEAST_TRITON_TOKENS:
    return "mask"
  reason = _why_not_triton("gpu", dtype)
  if reason is None:
    return "triton"
  warnings.warn(
    f"attention takes its mask form on this GPU: {reason}", stacklevel=2
  )
  return "mask"


def _why_not_triton(platform: str, dtype: DTypeLike) -> str | None:
  """Says why the Triton kernel cannot run; None if it can."""
  if platform != "gpu":
    return f"it needs an NVIDIA GPU and the program is for platform {platform}"
  if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16, jnp.float16):
    return f"it computes float32, bfloat16 and float16, not {jnp.dtype(dtype)}"
  return triton_launch.why_unavailable()


def key_semantic_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  dictionary: Dictionary,
  *,
  scale: jax.Array,
  bias: jax.Array,
  implementation: str | None = None,
  platform: str | None = None,
) -> jax.Array:
  """Attends from every token to the keys its dictionary holds, and no others.

  out_i = softmax over j in D(i) of (scale * q_i . k_j + bias_ij) . v_j

  Args:
    query: `[B, G, N, A, D]` float, L2-normalised for cosine attention.
    key: same shape and dtype.
    value: same shape and dtype.
    dictionary: the selection for these windows, shared by all heads, in the
      form that the implementation takes (`choose_implementation`).
    scale: `[A]` float32, logit scale of every head.
    bias: position bias of every head, float32: `[A, N, N]`, [query, key]; or
      `[2P-1, 2P-1, A]` for windows of P x P tokens, one number per offset, as
      `offsets.expand_offsets` takes it. "pallas" takes the latter alone.
    implementation: a name of `IMPLEMENTATIONS`; None for one that takes the
      dictionary and the bias as they are.
    platform: as in `choose_implementation`; decides the size of chunks.

  Returns:
    `[B, G, N, A, D]`, dtype of `query`; logits and softmax in float32, and the
    sums of products (but for those of `gather`'s gradients of key and value,
    which have the dtype of `query`). Named `chunks.ATTENDED`.

  Raises:
    ValueError: shapes do not belong together, the dictionary has not the form
      that the implementation takes, or it cannot run.

  Source: SemanIR, section 3 (Torch-Mask, Torch-Gather, Triton) [paper].
  """
  _check_shapes(query, key, value, dictionary, scale, bias)
  n = query.shape[2]
  of_pairs = bias.shape[1] == n
  form = _choose_for_arrays(
    query, dictionary, of_pairs, implementation, platform
  )
  arrays, bits = (query, key, value), dictionary.bits
  if form == "pallas":
    # Imported late, as Triton's is: other platforms do not need it.
    from semanir_jax.ops.attention import pallas_vjp

    return pallas_vjp.key_semantic_attention_pallas(
      *arrays, dictionary, scale, bias
    )
  if not of_pairs:
    bias = expand_offsets(bias, math.isqrt(n))
  if bits is None:
    indices, valid = dictionary.indices, dictionary.valid
    assert indices is not None and valid is not None  # the other form
    out = gather_attention(
      *arrays, indices, valid, scale, bias, platform=platform
    )
    return checkpoint_name(out, ATTENDED)
  if form == "triton":
    # Imported late: it needs Triton, which only Linux has.
    from semanir_jax.ops.attention import triton_vjp

    return triton_vjp.key_semantic_attention_triton(*arrays, bits, scale, bias)
  return mask_attention(*arrays, bits, scale, bias, platform=platform)


def _choose_for_arrays(
  query: jax.Array,
  dictionary: Dictionary,
  of_pairs: bool,
  implementation: str | None,
  platform: str | None,
) -> str:
  """Names the form to run on arrays as they are.

  Raises:
    ValueError: the form asked for does not take them, or cannot run.
  """
  n = query.shape[2]
  asked = implementation
  if asked is None and dictionary.bits is None:
    asked = "gather"
  form = choose_implementation(
    n, n, implementation=asked, platform=platform, dtype=query.dtype
  )
  if (form == "gather") != (dictionary.bits is None):
    raise ValueError(
      f"implementation={form!r} does not take this form of the"
      " dictionary: give build_dictionary max_keys for 'gather' alone"
    )
  if form == "pallas" and of_pairs:
    if asked is None:
      return "mask"
    raise ValueError(
      "implementation='pallas' takes the bias as one number per offset,"
      " [2P-1, 2P-1, A], and not as [A, N, N]"
    )
  return form


def _check_shapes(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  dictionary: Dictionary,
  scale: jax.Array,
  bias: jax.Array,
) -> None:
  """Raises ValueError unless they belong together."""
  b, g, n, a, _ = query.shape
  if key.shape != query.shape or value.shape != query.shape:
    raise ValueError(
      f"query {query.shape}, key {key.shape} and value {value.shape} must have"
      " one shape [B, G, N, A, D]"
    )
  side = math.isqrt(n)
  shapes = [(a, n, n)]
  if side**2 == n:
    shapes.append((2 * side - 1, 2 * side - 1, a))
  if scale.shape != (a,) or bias.shape not in shapes:
    raise ValueError(
      f"scale {scale.shape} and bias {bias.shape} must be {(a,)} and"
      f" {' or '.join(map(str, shapes))} for {a} heads and {n} tokens"
    )
  form = dictionary.indices if dictionary.bits is None else dictionary.bits
  if form is None or form.shape[:3] != (b, g, n):
    raise ValueError(
      f"the dictionary {form if form is None else form.shape} was not built for"
      f" {b} images of {g} windows of {n} tokens"
    )
