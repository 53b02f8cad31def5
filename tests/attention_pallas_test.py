"""The attention's kernels for TPUs, interpreted, equal a float64 reference."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.models import windows
from semanir_jax.ops import (
  Dictionary,
  build_dictionary,
  choose_implementation,
  key_semantic_attention,
  pallas_mode,
)
from semanir_jax.ops.bits import pack_bits
from tests import reference

NAMES = ("query", "key", "value", "scale", "offsets")


def _case(seed, shape, dtype=jnp.float32):
  """Random inputs `[B, G, N, A, D]`, in numbers that `dtype` holds exactly.

  Query and key have unit length, as in the network.
  """
  rng = np.random.default_rng(seed)
  b, g, n, a, _ = shape
  m = 2 * round(n**0.5) - 1
  round_to = lambda x: np.asarray(jnp.asarray(x, dtype), np.float64)  # noqa: E731
  normal = lambda: rng.normal(size=shape)  # noqa: E731
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
  return {
    "query": round_to(unit(normal())),
    "key": round_to(unit(normal())),
    "value": round_to(normal()),
    "scale": rng.uniform(5.0, 20.0, a).astype(np.float32),
    "offsets": rng.normal(size=(m, m, a)).astype(np.float32),
    "features": rng.integers(-2, 3, (b, g, n, 4)).astype(np.float64),
    "cotangent": round_to(normal()),
  }


def _pairs(num_tokens):
  """Offset of every pair: rows and columns of a table, `[N, N]` each."""
  side = round(num_tokens**0.5)
  y, x = np.divmod(np.arange(num_tokens), side)
  difference = lambda z: z[:, None] - z[None, :] + side - 1  # noqa: E731
  return difference(y), difference(x)


def _attend(q, k, v, scale, offsets, dictionary):
  with pallas_mode.interpret():
    return key_semantic_attention(
      q,
      k,
      v,
      dictionary,
      scale=scale,
      bias=offsets,
      implementation="pallas",
      platform="tpu",
    )


def _arguments(case, dtype):
  types = (dtype, dtype, dtype, jnp.float32, jnp.float32)
  return [jnp.asarray(case[n], t) for n, t in zip(NAMES, types, strict=True)]


def _check(case, mask, dictionary, dtype):
  """Compares output and gradients over the keys of `mask [B, G, N, N]`."""
  rows, columns = _pairs(mask.shape[-1])
  bias = np.moveaxis(case["offsets"][rows, columns], -1, 0).astype(np.float64)
  arguments = [case[name] for name in NAMES[:3]] + [mask, case["scale"], bias]
  expected = reference.attention_gradients(*arguments, case["cotangent"])
  table = np.zeros_like(case["offsets"], np.float64)
  np.add.at(table, (rows, columns), np.moveaxis(expected["bias"], 0, -1))
  expected |= {"out": reference.attention(*arguments), "offsets": table}

  @jax.jit
  def both(cotangent, *inputs):
    out, pullback = jax.vjp(lambda *x: _attend(*x, dictionary), *inputs)
    return out, *pullback(cotangent)

  found = both(jnp.asarray(case["cotangent"], dtype), *_arguments(case, dtype))
  assert found[0].dtype == dtype
  for name, array in zip(("out", *NAMES), found, strict=True):
    error = np.abs(np.asarray(array, np.float64) - expected[name]).max()
    bound = 1e-5 if dtype == jnp.float32 else 2e-2
    # Gradients of logits are 0 where k is 1: what cancels has this size.
    least = 1.0 if name in ("out", "value", "offsets") else case["scale"].max()
    size = max(np.abs(expected[name]).max(), least)
    assert error <= bound * size, (name, error, size)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
  ("shape", "num_keys", "shift"),
  [
    ((1, 1, 64, 2, 30), 1, None),
    ((3, 4, 64, 1, 10), 23, (4, 4)),
    ((1, 1, 256, 2, 30), 97, None),
    pytest.param((1, 3, 64, 2, 32), 64, None, marks=pytest.mark.slow),
    pytest.param((1, 4, 256, 1, 7), 256, (0, 8), marks=pytest.mark.slow),
  ],
)
def test_forward_and_backward_equal_the_reference(
  dtype, shape, num_keys, shift
):
  case = _case(sum(shape), shape, dtype)
  side, regions = round(shape[2] ** 0.5), None
  if shift:
    regions = windows.regions(2 * side, 2 * side, side, shift)
  dictionary = build_dictionary(
    jnp.asarray(case["features"], jnp.float32), num_keys, regions=regions
  )
  sets = reference.dictionary(case["features"], num_keys, regions)
  _check(case, reference.mask_of(sets), dictionary, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_largest_window_in_several_tiles(dtype):
  case = _case(0, (1, 1, 1024, 1, 30), dtype)
  mask = np.random.default_rng(1).random((1, 1, 1024, 1024)) < 0.3
  mask |= np.eye(1024, dtype=bool)
  dictionary = Dictionary(bits=pack_bits(jnp.asarray(mask)))
  _check(case, mask, dictionary, dtype)


def test_a_row_without_keys_gives_a_mean_and_takes_no_gradient():
  case = _case(2, (1, 1, 64, 1, 16))
  mask = np.random.default_rng(3).random((1, 1, 64, 64)) < 0.5
  mask[..., 5, :] = False
  dictionary = Dictionary(bits=pack_bits(jnp.asarray(mask)))
  inputs = _arguments(case, jnp.float32)
  out, pullback = jax.vjp(lambda *x: _attend(*x, dictionary), *inputs)
  mean = case["value"].mean(axis=2)
  np.testing.assert_allclose(out[:, :, 5], mean, atol=1e-5)
  cotangent = jnp.zeros_like(out).at[:, :, 5].set(1e3)
  for gradient in pullback(cotangent):
    assert not np.asarray(gradient).any()


def test_no_gradient_reaches_an_unselected_key():
  case = _case(4, (1, 1, 64, 1, 16))
  mask = np.ones((1, 1, 64, 64), bool)
  mask[..., 40] = False
  dictionary = Dictionary(bits=pack_bits(jnp.asarray(mask)))
  inputs = _arguments(case, jnp.float32)

  def loss(key, value):
    return jnp.sum(_attend(inputs[0], key, value, *inputs[3:], dictionary) ** 2)

  for gradient in jax.grad(loss, (0, 1))(*inputs[1:3]):
    assert not np.asarray(gradient[:, :, 40]).any()
    assert np.asarray(gradient[:, :, 39]).all()


def test_the_choice_on_a_tpu():
  choose = choose_implementation
  for n, k, expected in (
    (64, 64, "mask"),
    (256, 128, "pallas"),
    (1024, 512, "pallas"),
    (1024, 5, "pallas"),
    (1024, 4, "gather"),
    (400, 200, "mask"),
    (4096, 512, "mask"),
  ):
    assert choose(n, k, platform="tpu") == expected, (n, k)
  assert choose(1024, 512, platform="tpu", dtype=jnp.float16) == "mask"
  assert choose(1024, 512, platform="tpu", dtype=jnp.bfloat16) == "pallas"
  assert choose(64, 9, platform="tpu", implementation="pallas") == "pallas"


@pytest.mark.parametrize(
  ("options", "reason"),
  [
    ({"platform": "cpu"}, "it needs a TPU and the program is for platform cpu"),
    ({"num_tokens": 49}, "window side of 8, 16, 32 and these .* 49 tokens"),
    ({"dtype": jnp.float16}, "computes float32 and bfloat16, not float16"),
  ],
)
def test_an_explicit_choice_that_cannot_run_says_why(options, reason):
  options = {"num_tokens": 64, "platform": "tpu"} | options
  with pytest.raises(ValueError, match=f"'pallas' cannot run: .*{reason}"):
    choose_implementation(max_keys=4, implementation="pallas", **options)


def test_the_bias_of_all_pairs_is_refused():
  case = _case(5, (1, 1, 64, 1, 16))
  inputs = _arguments(case, jnp.float32)
  dictionary = build_dictionary(jnp.asarray(case["features"], jnp.float32), 4)
  inputs[4] = jnp.zeros((1, 64, 64))
  with pytest.raises(ValueError, match="one number per offset"):
    _attend(*inputs, dictionary)


def test_a_bias_of_all_pairs_leads_to_another_form():
  array = jax.ShapeDtypeStruct
  attend = lambda q, bits: key_semantic_attention(  # noqa: E731
    q,
    q,
    q,
    Dictionary(bits=bits),
    scale=jnp.ones(1),
    bias=jnp.zeros((1, 256, 256)),
    platform="tpu",
  )
  heads, bits = (1, 1, 256, 1, 16), array((1, 1, 256, 8), jnp.uint32)
  text = str(jax.make_jaxpr(attend)(array(heads, jnp.float32), bits))
  assert "pallas_call" not in text and "exp" in text


def test_other_forms_take_a_bias_by_offset_too():
  case = _case(6, (1, 2, 64, 2, 8))
  *inputs, offsets = _arguments(case, jnp.float32)
  dictionary = build_dictionary(jnp.asarray(case["features"], jnp.float32), 9)
  rows, columns = _pairs(64)
  pairs = jnp.moveaxis(offsets[rows, columns], -1, 0)
  outs = [
    key_semantic_attention(*inputs[:3], dictionary, scale=inputs[3], bias=bias)
    for bias in (offsets, pairs)
  ]
  np.testing.assert_allclose(*outs, atol=1e-6)
  with_kernel = _attend(*inputs, offsets, dictionary)
  np.testing.assert_allclose(with_kernel, outs[0], atol=1e-5)


@pytest.mark.parametrize("num_tokens", [64, 256, 1024])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_is_exported_for_a_tpu_from_a_machine_without_one(num_tokens, dtype):
  def loss(q, scale, offsets, bits):
    out = key_semantic_attention(
      q,
      q,
      q,
      Dictionary(bits=bits),
      scale=scale,
      bias=offsets,
      implementation="pallas",
      platform="tpu",
    )
    return out.astype(jnp.float32).sum()

  m = 2 * round(num_tokens**0.5) - 1
  program = jax.export.export(jax.jit(jax.grad(loss)), platforms=("tpu",))(
    jax.ShapeDtypeStruct((1, 3, num_tokens, 2, 30), dtype),
    jax.ShapeDtypeStruct((2,), jnp.float32),
    jax.ShapeDtypeStruct((m, m, 2), jnp.float32),
    jax.ShapeDtypeStruct((1, 3, num_tokens, num_tokens // 32), jnp.uint32),
  )
  again = jax.export.deserialize(bytearray(program.serialize()))
  assert again.mlir_module().count("tpu_custom_call") >= 2
