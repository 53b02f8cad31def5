"""Times our forms of attention, and reads what memory they take."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.attention_cases import (
  HEAD_SIZE,
  HEADS,
  Case,
  Rule,
  make_rule,
)
from benchmarks.timing import median_ms
from semanir_jax.ops import (
  Dictionary,
  choose_implementation,
  key_semantic_attention,
)
from semanir_jax.ops.attention.gather import attend_chunk
from semanir_jax.ops.attention.mask import attend_windows
from semanir_jax.ops.bits import WORD, pack_bits

# The paper's Torch-Mask and Torch-Gather: all windows at once, whose logits or
# gathered rows the backward pass keeps. Ours take the same functions in chunks.
WHOLE_FORMS = ("whole mask", "whole gather")


def dictionary_shape(
  form: str, windows: int, num_tokens: int, num_keys: int
) -> Dictionary:
  """A dictionary without values, as the form takes it."""
  array, rows = jax.ShapeDtypeStruct, (1, windows, num_tokens)
  if form.endswith("gather"):
    shape = (*rows, num_keys)
    return Dictionary(indices=array(shape, jnp.int32), valid=array(shape, bool))
  return Dictionary(bits=array((*rows, -(-num_tokens // WORD)), jnp.uint32))


def make_program(
  operation: str,
  form: str,
  windows: int,
  num_tokens: int,
  num_keys: int,
  platform: str,
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """A form of attention as a function, and its arguments without values.

  Args:
    operation: "forward"; or "training", with the backward pass.
    form: of `IMPLEMENTATIONS` or `WHOLE_FORMS`.
    windows: G, of one image.
    num_tokens: N.
    num_keys: K of a gather form.
    platform: that it is for.
  """
  n, array = num_tokens, jax.ShapeDtypeStruct
  heads = array((1, windows, n, HEADS, HEAD_SIZE), jnp.bfloat16)
  scale = array((HEADS,), jnp.float32)
  bias = array((HEADS, n, n), jnp.float32)
  dictionary = dictionary_shape(form, windows, n, num_keys)
  arguments = (dictionary, heads, heads, heads, scale, bias)
  attend = functools.partial(_attend, form, platform)
  if operation == "forward":
    return attend, arguments

  def train(cotangent: jax.Array, dictionary: Dictionary, *arrays: jax.Array):
    out, pull = jax.vjp(lambda *a: attend(dictionary, *a), *arrays)
    return out, pull(cotangent)

  return train, (heads, *arguments)


def _attend(
  form: str, platform: str, dictionary: Dictionary, *arrays: jax.Array
) -> jax.Array:
  query, key, value, scale, bias = arrays
  if form == "whole mask":
    return attend_windows(query, key, value, dictionary.bits, scale, bias)[0]
  if form == "whole gather":
    rows = jnp.concatenate([key, value], axis=-1)
    rows = rows.reshape(*query.shape[:3], -1)
    chunk = (query, dictionary.indices, dictionary.valid)
    return attend_chunk(rows, scale, (*chunk, bias.transpose(1, 2, 0)))
  return key_semantic_attention(
    query,
    key,
    value,
    dictionary,
    scale=scale,
    bias=bias,
    implementation=form,
    platform=platform,
  )


def memory_mib(compiled: Any) -> dict[str, float]:
  """What a program takes besides its arguments, by its compiler's account."""
  memory = compiled.memory_analysis()
  return {
    "temporaries_mib": memory.temp_size_in_bytes / 2**20,
    # Those that take the place of a donated argument are none.
    "outputs_mib": (memory.output_size_in_bytes - memory.alias_size_in_bytes)
    / 2**20,
  }


def measure(fields: list[Any]) -> dict[str, Any]:
  """Times a case on the device here.

  Args:
    fields: of a `Case`.

  Returns:
    What `memory_mib` says, and `ms` of a call; or why there are no figures.
  """
  case = Case(*fields)
  return _try(case, lambda run: {"ms": median_ms(run, jax.block_until_ready)})


def measure_memory(fields: list[Any]) -> dict[str, Any]:
  """Runs a case once, in a process that has run nothing before.

  Args:
    fields: of a `Case`.

  Returns:
    What `memory_mib` says, and `peak_mib`: the peak of the device's allocator
    less what lay there before, if the device tells, and unless compiling (which
    tries products) took more.
  """
  case = Case(*fields)

  def read_peak(run: Callable[[], Any]) -> dict[str, float]:
    before = jax.devices()[0].memory_stats()
    jax.block_until_ready(run())
    after = jax.devices()[0].memory_stats()
    if not before:
      return {}
    peak = (after["peak_bytes_in_use"] - before["bytes_in_use"]) / 2**20
    raised = after["peak_bytes_in_use"] > before["peak_bytes_in_use"]
    return {"peak_mib": peak} if raised else {}

  return _try(case, read_peak)


def _try(
  case: Case, read: Callable[[Callable[[], Any]], dict[str, float]]
) -> dict[str, Any]:
  """Compiles a case, reads what a function finds of it, or says why not."""
  platform = jax.default_backend()
  if case.form == "triton":
    try:
      choose_implementation(64, 64, implementation="triton")
    except ValueError as error:
      return {"skipped": str(error)}
  keys = case.dictionary_keys
  function, shapes = make_program(
    *case[:2], case.windows, case.num_tokens, keys, platform
  )
  try:
    compiled = jax.jit(function).lower(*shapes).compile()
    arrays = make_arrays(shapes, case)
    return memory_mib(compiled) | read(lambda: compiled(*arrays))
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return {"error": "out of memory"}


def make_arrays(shapes: tuple[Any, ...], case: Case) -> tuple[Any, ...]:
  """Values of a program's arguments: tokens of length 1, a bias of variance 1,
  the dictionary of `make_rule`.

  A window after the other, for the programs that make them must not need more
  memory than those that are measured.
  """
  *tokens, scale, bias = shapes
  training = case.operation == "training"
  dictionary = tokens.pop(1 if training else 0)
  arrays = [_make_tokens(seed, x.shape) for seed, x in enumerate(tokens)]
  arrays.insert(
    1 if training else 0,
    _make_dictionary(
      make_rule(case.windows, case.num_tokens),
      case.dictionary_keys,
      dictionary.bits is None,
    ),
  )
  return (
    *arrays,
    jnp.full(scale.shape, 10.0),
    _make_bias(bias.shape),
  )


@functools.partial(jax.jit, static_argnums=1)
def _make_tokens(seed: int, shape: tuple[int, ...]) -> jax.Array:
  keys = jax.random.split(jax.random.key(seed), shape[1])

  def window(key: jax.Array) -> jax.Array:
    x = jax.random.normal(key, shape[2:])
    x /= jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x.astype(jnp.bfloat16)

  return lax.map(window, keys)[None]


@functools.partial(jax.jit, static_argnums=0)
def _make_bias(shape: tuple[int, ...]) -> jax.Array:
  keys = jax.random.split(jax.random.key(0), shape[:2])
  row = lambda key: jax.random.normal(key, shape[2:])  # noqa: E731
  return lax.map(jax.vmap(row), keys)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _make_dictionary(rule: Rule, num_keys: int, gathered: bool) -> Dictionary:
  n = rule.first.shape[1]
  if gathered:
    indices = rule.indices(jnp.arange(num_keys, dtype=jnp.int32), n)[None]
    return Dictionary(indices=indices, valid=jnp.ones(indices.shape, bool))

  def pack_window(rule: Rule) -> jax.Array:
    return pack_bits(rule.mask(jnp.arange(n, dtype=jnp.int32), n, num_keys))

  return Dictionary(bits=lax.map(pack_window, rule)[None])
