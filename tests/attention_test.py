"""Every form of the attention equals the float64 reference, both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.models import windows
from semanir_jax.ops import (
  Dictionary,
  build_dictionary,
  choose_implementation,
  chunks,
  key_semantic_attention,
)
from tests import jaxprs, reference

NAMES = ("query", "key", "value", "scale", "bias")


def _case(seed, *, shape=(2, 4, 16, 3, 5), dtype=np.float32):
  """Random inputs `[B, G, N, A, D]`, in numbers that `dtype` holds exactly."""
  rng = np.random.default_rng(seed)
  b, g, n, a, _ = shape
  round_to = lambda x: np.asarray(jnp.asarray(x, dtype), np.float64)  # noqa: E731
  return {
    "query": round_to(rng.normal(size=shape)),
    "key": round_to(rng.normal(size=shape)),
    "value": round_to(rng.normal(size=shape)),
    "scale": rng.uniform(0.5, 3.0, a),
    "bias": rng.normal(size=(a, n, n)),
    "features": rng.integers(-2, 3, (b, g, n, 4)).astype(np.float64),
    "cotangent": round_to(rng.normal(size=shape)),
  }


def _dictionary(features, num_keys, implementation, regions=None):
  num_tokens = features.shape[2]
  return build_dictionary(
    jnp.asarray(features, jnp.float32),
    num_keys,
    regions=regions,
    max_keys=num_tokens if implementation == "gather" else None,
  )


def _apply(case, dictionary, dtype=jnp.float32):
  q, k, v = (jnp.asarray(case[name], dtype) for name in NAMES[:3])
  scale, bias = (jnp.asarray(case[name], jnp.float32) for name in NAMES[3:])
  return q, k, v, scale, bias, dictionary


def _attend(q, k, v, scale, bias, dictionary):
  return key_semantic_attention(q, k, v, dictionary, scale=scale, bias=bias)


@pytest.mark.parametrize("implementation", ["mask", "gather"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
  ("seed", "shape", "num_keys", "shift"),
  [
    (0, (2, 4, 16, 3, 5), 1, (0, 0)),
    (1, (1, 4, 16, 2, 30), 7, (2, 2)),
    (2, (2, 4, 16, 3, 5), 16, (2, 0)),
    (3, (1, 2, 49, 1, 4), 20, (0, 0)),
  ],
)
def test_forward_and_backward_equal_the_reference(
  implementation, dtype, seed, shape, num_keys, shift
):
  case = _case(seed, shape=shape, dtype=dtype)
  side = round(shape[2] ** 0.5)
  regions = windows.regions(2 * side, 2 * side, side, shift)
  dictionary = _dictionary(case["features"], num_keys, implementation, regions)
  mask = reference.mask_of(
    reference.dictionary(case["features"], num_keys, regions)
  )
  arrays = [case[name] for name in NAMES[:3]]
  expected = reference.attention(*arrays, mask, case["scale"], case["bias"])
  out, pullback = jax.vjp(
    lambda *inputs: _attend(*inputs, dictionary),
    *_apply(case, dictionary, dtype)[:5],
  )
  assert out.dtype == dtype
  # bfloat16 keeps 8 bits: of the softmax weights, whose errors average out
  # over the keys, and of the result.
  tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
  np.testing.assert_allclose(
    np.asarray(out, np.float64), expected, atol=tolerance, rtol=tolerance
  )
  gradients = pullback(jnp.asarray(case["cotangent"], dtype))
  expected = reference.attention_gradients(
    *arrays, mask, case["scale"], case["bias"], case["cotangent"]
  )
  for name, gradient in zip(NAMES, gradients, strict=True):
    size = np.abs(expected[name]).max()
    np.testing.assert_allclose(
      np.asarray(gradient, np.float64),
      expected[name],
      atol=2 * tolerance * max(size, 1.0),
      err_msg=name,
    )


@pytest.mark.parametrize("implementation", ["mask", "gather"])
def test_all_keys_equal_full_window_attention(implementation):
  case = _case(4)
  inputs = _apply(case, _dictionary(case["features"], 16, implementation))
  full = np.ones((2, 4, 16, 16), bool)
  expected = reference.attention(
    *(case[name] for name in NAMES[:3]), full, case["scale"], case["bias"]
  )
  np.testing.assert_allclose(_attend(*inputs), expected, atol=1e-5)


def test_order_of_the_keys_is_irrelevant():
  case = _case(5)
  dictionary = _dictionary(case["features"], 9, "gather")
  order = np.random.default_rng(0).permutation(16)
  shuffled = Dictionary(
    indices=dictionary.indices[..., order], valid=dictionary.valid[..., order]
  )
  np.testing.assert_allclose(
    _attend(*_apply(case, dictionary)),
    _attend(*_apply(case, shuffled)),
    atol=1e-6,
  )


@pytest.mark.parametrize("implementation", ["mask", "gather"])
def test_no_gradient_reaches_an_unselected_key(implementation):
  case = _case(6)
  # Token 3 has the opposite sign of all others: nobody's first choice but its
  # own.
  case["features"] = np.ones_like(case["features"])
  case["features"][:, :, 3] = -1
  inputs = _apply(case, _dictionary(case["features"], 5, implementation))

  def loss(key, value):
    out = _attend(inputs[0], key, value, *inputs[3:])
    return jnp.sum(out[:, :, [0, 1, 2, 4, 9]] ** 2)

  for gradient in jax.grad(loss, (0, 1))(inputs[1], inputs[2]):
    assert not np.asarray(gradient[:, :, 3]).any()
    assert np.asarray(gradient[:, :, 0]).all()


def test_a_row_without_any_key_is_a_mean_and_passes_no_gradient_on():
  case = _case(11)
  dictionary = _dictionary(case["features"], 5, "mask")
  broken = dictionary.replace(bits=dictionary.bits.at[:, :, 3].set(0))
  *arrays, _ = _apply(case, broken)

  def row(*arrays):
    return _attend(*arrays, broken)[:, :, 3]

  value = np.asarray(arrays[2])
  np.testing.assert_allclose(row(*arrays), value.mean(2), atol=1e-6)
  gradients = jax.grad(lambda *a: jnp.sum(row(*a) ** 2), range(5))(*arrays)
  assert not any(np.asarray(gradient).any() for gradient in gradients)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_logits_are_computed_again_in_the_backward_pass(platform):
  def kept(num_windows):
    q = jnp.ones((1, num_windows, 256, 1, 8))
    dictionary = build_dictionary(q[..., 0, :], 4)

    def attend(q):
      return key_semantic_attention(
        q,
        q,
        q,
        dictionary,
        scale=jnp.ones(1),
        bias=jnp.zeros((1, 256, 256)),
        platform=platform,
      )

    pullback = jax.eval_shape(lambda q: jax.vjp(attend, q)[1], q)
    return max(leaf.size for leaf in jax.tree.leaves(pullback))

  assert kept(2) < 2 * 256 * 256
  # 128 windows have 2^23 logits: one chunk on a TPU, two on a CPU.
  assert kept(128) < 128 * 256 * 256 / 8


@pytest.mark.parametrize(
  ("implementation", "elements"),
  [
    ("gather", 2 * 4 * 16 * 16 * 2 * 15),  # B G N K 2AD: keys and values
    ("mask", 2 * 4 * 3 * 16 * 16),  # B G A N N: logits
  ],
)
def test_chunks_bound_what_is_live_and_change_nothing(
  monkeypatch, implementation, elements
):
  case = _case(7, shape=(2, 4, 16, 3, 5))
  dictionary = _dictionary(case["features"], 16, implementation)
  inputs = _apply(case, dictionary)

  def loss(*arrays):
    return jnp.sum(_attend(*arrays, dictionary) ** 2)

  gradient = jax.grad(loss, (0, 1, 2, 3, 4))
  whole = gradient(*inputs[:5])
  monkeypatch.setattr(chunks, "CPU_ELEMENTS", elements // 4)
  jaxpr = jax.make_jaxpr(gradient)(*inputs[:5])
  sizes = [
    output.aval.size
    for equation in jaxprs.equations(jaxpr)
    for output in equation.outvars
  ]
  assert max(sizes) <= max(elements // 4, inputs[0].size)
  for a, b in zip(gradient(*inputs[:5]), whole, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-4)


def test_wrong_shapes_are_refused():
  case = _case(8)
  q, k, v, scale, bias, dictionary = _apply(
    case, _dictionary(case["features"], 4, "mask")
  )
  with pytest.raises(ValueError, match="must have one shape"):
    _attend(q, k[:, :1], v, scale, bias, dictionary)
  with pytest.raises(ValueError, match=r"bias \(3, 15, 16\)"):
    _attend(q, k, v, scale, bias[:, 1:], dictionary)
  with pytest.raises(ValueError, match="was not built for 2 images"):
    wrong = Dictionary(bits=dictionary.bits[:1])
    _attend(q, k, v, scale, bias, wrong)
  with pytest.raises(ValueError, match="None was not built"):
    _attend(q, k, v, scale, bias, Dictionary())


def test_choice_of_implementation():
  assert choose_implementation(1024, 32, platform="cpu") == "gather"
  assert choose_implementation(1024, 33, platform="cpu") == "mask"
  assert choose_implementation(1024, 4, platform="tpu") == "gather"
  assert choose_implementation(1024, 5, platform="tpu") == "pallas"
  assert choose_implementation(64, 64, implementation="gather") == "gather"
  with pytest.raises(ValueError, match="unknown implementation 'dense'"):
    choose_implementation(64, 64, implementation="dense")
