"""Parts of a layer against plain float64 forms of their definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike

from semanir_jax.models import affine, layers, position_bias
from semanir_jax.ops import build_dictionary
from semanir_jax.ops.attention.offsets import expand_offsets
from semanir_jax.ops.dictionary import selection
from tests import jaxprs, reference


def _attention(logit_scale):
  """An attention of 2 heads over 4 keys of 9 tokens, its parameters, input."""
  x = jax.random.normal(jax.random.key(0), (1, 2, 9, 8))
  dictionary = build_dictionary(x, 4)
  module = layers.KeySemanticAttention(num_heads=2)
  params = module.init(jax.random.key(1), x, dictionary)["params"]
  params = {**params, "logit_scale": jnp.asarray(logit_scale)}
  return module, params, x, dictionary


def _expected(params, x, scale):
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  x = np.asarray(x, np.float64)
  qkv = x @ params["qkv"]["kernel"] + params["qkv"]["bias"]
  query, key, value = np.split(qkv, 3, axis=-1)
  heads = (*x.shape[:3], 2, 4)
  query, key, value = (a.reshape(heads) for a in (query, key, value))
  query, key = (
    a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (query, key)
  )
  coordinates = np.asarray(position_bias.relative_coordinates(3), np.float64)
  hidden = params["position_bias"]["hidden"]
  table = np.maximum(coordinates @ hidden["kernel"] + hidden["bias"], 0)
  table = table @ params["position_bias"]["heads"]["kernel"]
  table = 16 / (1 + np.exp(-table))
  bias = np.zeros((2, 9, 9))
  for i, j in np.ndindex(9, 9):
    bias[:, i, j] = table[i // 3 - j // 3 + 2, i % 3 - j % 3 + 2]
  mask = reference.mask_of(reference.dictionary(x, 4))
  out = reference.attention(query, key, value, mask, scale, bias)
  projection = params["projection"]
  return out.reshape(x.shape) @ projection["kernel"] + projection["bias"]


@pytest.mark.parametrize("scales", [(10.0, 40.0), (99.0, 1000.0)])
def test_attention_is_its_definition_and_its_scale_at_most_100(scales):
  module, params, x, dictionary = _attention(np.log(np.float32(scales)))
  # Larger biases than the initial ones, all near to 8.
  heads = params["position_bias"]["heads"]
  heads["kernel"] = 50 * heads["kernel"]
  out = module.apply({"params": params}, x, dictionary)
  expected = _expected(params, x, np.minimum(scales, 100))
  np.testing.assert_allclose(out, expected, rtol=1e-3, atol=2e-5)


def test_a_zero_vector_stays_zero_and_has_a_finite_gradient():
  x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
  np.testing.assert_allclose(
    layers.unit_length(x), [[0, 0], [0.6, 0.8]], rtol=1e-6
  )
  gradient = jax.grad(lambda x: layers.unit_length(x).sum())(x)
  assert np.isfinite(gradient).all()


def test_the_gelu_of_the_mlp_is_the_exact_one():
  x = np.linspace(-3, 3, 32, dtype=np.float32)[:, None]
  mlp = layers.Mlp(hidden=1)
  params = {
    name: {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    for name in ("expand", "reduce")
  }
  expected = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x[:, 0]]
  out = mlp.apply({"params": params}, x)
  # The form with tanh is off by up to 5e-4.
  np.testing.assert_allclose(out[:, 0], expected, atol=2e-6)


def test_products_that_choose_or_copy_are_exact_on_accelerators_too():
  """They would be rounded to bfloat16 or TF32 there, which a CPU does not."""
  features = jnp.ones((1, 1, 4, 3))
  table = jnp.ones((3, 3, 2))
  programs = (
    jax.make_jaxpr(selection.similarity)(features),
    jax.make_jaxpr(lambda t: expand_offsets(t, 2))(table),
  )
  for program, count in zip(programs, (1, 2), strict=True):
    products = [
      equation.params["precision"]
      for equation in jaxprs.equations(program)
      if equation.primitive.name == "dot_general"
    ]
    assert products == [(lax.Precision.HIGHEST,) * 2] * count


class _Linear(nn.Module):
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return affine.linear(x, 2, dtype=self.dtype, name="linear")


@pytest.mark.parametrize(
  "module", [affine.Conv(2, 3, jnp.bfloat16), _Linear(jnp.bfloat16)]
)
def test_the_gradient_of_a_bias_is_a_float32_sum(module):
  # bfloat16 has 8 binary digits: ones added one by one stop at 256 there.
  x = jnp.ones((1, 160, 160, 4))
  params = module.init(jax.random.key(0), x)["params"]

  def loss(params):
    out = module.apply({"params": params}, x)
    assert out.dtype == jnp.bfloat16
    return out.astype(jnp.float32).sum()

  (layer,) = jax.grad(loss)(params).values()
  assert layer["bias"].dtype == jnp.float32
  np.testing.assert_array_equal(layer["bias"], 160.0**2)
