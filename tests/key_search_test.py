"""The options of ablations: whose keys, found how, in which windows."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.models import windows
from semanir_jax.models.ablations import make_key_search
from semanir_jax.models.parameters import abstract_params
from semanir_jax.models.sizes import default_options
from semanir_jax.models.stage import Stage
from semanir_jax.networks import build, safetensors_file
from semanir_jax.ops.bits import unpack_bits
from tests import jaxprs, small

SMALL = {
  "dim": 8,
  "num_heads": 2,
  "depths": (2,),
  "window_size": 4,
  "num_keys": 5,
  "max_keys": 16,
}


@functools.cache
def _stage(depth=2, mutable=False, **options):
  """A compiled shifted stage, and its parameters, the same for all options."""
  plain = Stage(depth, 2, 4, 16, shifted=True)
  x = jax.random.normal(jax.random.key(0), (2, 8, 8, 8))
  variables = jax.jit(plain.init)(jax.random.key(1), x, 5)
  stage = plain.clone(key_search=make_key_search(**options))
  run = jax.jit(functools.partial(stage.apply, variables, mutable=mutable))
  return lambda num_keys: run(x, num_keys)


def test_options_leave_the_parameters_as_they_are():
  expected = abstract_params(build.make_model(SMALL))
  for options in (
    {"dictionary": "layer"},
    {"dictionary": "random"},
    {"similarity": "cosine"},
    {"shift": "none"},
  ):
    params = abstract_params(build.make_model(SMALL | options))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, expected)


def test_stages_of_one_layer_need_no_search_of_their_own():
  out = _stage(1, dictionary="layer")(5)
  np.testing.assert_allclose(out, _stage(1)(5), atol=1e-6)


def test_every_layer_finds_the_keys_of_its_own_input():
  out, found = _stage(dictionary="layer", mutable="intermediates")(5)
  assert "dictionary" not in found["intermediates"]  # none at the entry
  (own,) = found["intermediates"]["layers"]["dictionary"]
  expected, found = _stage(mutable="intermediates")(5)
  (shared,) = found["intermediates"]["dictionary"]
  assert own.bits.shape == (2, *shared.bits.shape)
  # The first layer's is the one that the stage would have shared.
  np.testing.assert_array_equal(own.bits[0], shared.bits)
  assert not np.array_equal(own.bits[1], shared.bits)
  assert np.abs(out - expected).max() > 1e-5


@pytest.mark.parametrize("remat", [False, True])
def test_the_search_of_a_layer_is_inside_the_scan(remat):
  how = {"dictionary": "layer", "implementation": "gather", "remat": remat}
  model = build.make_model(SMALL | how)
  loss = lambda params, x: jnp.sum(model.apply({"params": params}, x))  # noqa: E731
  arguments = abstract_params(model), jnp.zeros((1, 8, 8, 3))

  def layers(function):
    return [
      (equation.params["length"], _searches(equation.params["jaxpr"]))
      for equation in jaxprs.equations(jax.make_jaxpr(function)(*arguments))
      if equation.primitive.name == "scan"
      and _searches(equation.params["jaxpr"])
    ]

  assert layers(loss) == [(2, 1)]
  # Layers that are computed again keep what they found.
  assert layers(jax.grad(loss)) == [(2, 1)]


def _searches(jaxpr):
  equations = jaxprs.equations(jaxpr)
  return sum(equation.primitive.name == "top_k" for equation in equations)


def test_with_all_keys_it_does_not_matter_how_they_are_found():
  expected = _stage()(16), _stage()(3)
  for options in (
    {"dictionary": "layer"},
    {"dictionary": "random"},
    {"similarity": "cosine"},
  ):
    run = _stage(**options)
    np.testing.assert_allclose(run(16), expected[0], atol=1e-6)
    assert np.abs(run(3) - expected[1]).max() > 1e-5


def _mask(x, num_keys=3, *, regions=None, **words):
  found = make_key_search(**words).find(x, num_keys, regions=regions)
  return np.asarray(unpack_bits(found.bits, x.shape[2]))


def test_cosine_is_the_dot_product_of_unit_length_tokens():
  x = jax.random.normal(jax.random.key(0), (2, 3, 16, 6))
  x = x * jnp.arange(1.0, 17.0)[:, None]  # long tokens are everybody's keys
  unit = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
  cosine = _mask(x, similarity="cosine")
  np.testing.assert_array_equal(cosine, _mask(unit))
  assert not np.array_equal(cosine, _mask(x))
  # A token is its own nearest by angle, whatever its length.
  assert cosine[:, :, np.arange(16), np.arange(16)].all()


@pytest.mark.parametrize("shift", [(0, 0), (2, 2)])
@pytest.mark.parametrize("num_keys", [1, 5, 16])
def test_random_keys_are_k_the_same_everywhere_and_hold_the_token(
  num_keys, shift
):
  regions = windows.regions(8, 12, 4, shift)
  x = jax.random.normal(jax.random.key(0), (2, 6, 16, 8))
  options = {"dictionary": "random", "regions": regions}
  find = make_key_search("random").find
  mask = _mask(x, num_keys, **options)
  same = np.ones((6, 16, 16), bool)
  if regions is not None:
    same = regions[:, :, None] == regions[:, None, :]
  counts = np.minimum(num_keys, same.sum(-1))
  np.testing.assert_array_equal(mask.sum(-1), np.stack([counts, counts]))
  assert mask[:, :, np.arange(16), np.arange(16)].all()
  assert not mask[:, ~same].any()
  np.testing.assert_array_equal(mask, _mask(-x[::-1], num_keys, **options))
  np.testing.assert_array_equal(mask[:, 0], mask[1:, 0].repeat(2, axis=0))
  indices = find(x, num_keys, regions=regions, max_keys=16)
  listed = np.zeros_like(mask)
  for place in np.argwhere(indices.valid):
    listed[(*place[:3], indices.indices[tuple(place)])] = True
  np.testing.assert_array_equal(listed, mask)


def test_random_keys_differ_from_token_to_token():
  mask = _mask(jnp.zeros((1, 1, 16, 1)), 5, dictionary="random")[0, 0]
  assert len({row.tobytes() for row in mask}) > 10


def test_without_a_shift_windows_never_mix():
  options = SMALL | {"depths": (1, 1), "num_keys": 16}
  model = build.make_model(options)
  # Convolutions reach beyond a window; their centre taps alone do not.
  params = jax.tree_util.tree_map_with_path(_center_tap, small.params(model))
  images = np.asarray(jax.random.uniform(jax.random.key(0), (1, 12, 12, 3)))
  changed = images.copy()
  changed[:, 4:8, 4:8] += 0.1

  def reached(shift):
    run = jax.jit(build.make_model(options | {"shift": shift}).apply)
    before, after = (run({"params": params}, x) for x in (images, changed))
    return (np.abs(before - after) > 1e-7).any((0, 3))

  own_window = np.zeros((12, 12), bool)
  own_window[4:8, 4:8] = True
  np.testing.assert_array_equal(reached("none"), own_window)
  assert reached("stage")[2:10, 2:10].all()


def _center_tap(path, leaf):
  if leaf.ndim == 4 and leaf.shape[:2] == (3, 3):
    return jnp.zeros_like(leaf).at[1, 1].set(leaf[1, 1])
  return leaf


def test_weights_of_before_these_options_are_of_the_default_network(tmp_path):
  model = build.make_model(SMALL)
  options = default_options() | SMALL
  for word in ("dictionary", "similarity", "shift"):
    del options[word]
  config = json.loads(json.dumps({"model": options}))
  path = tmp_path / "old.safetensors"
  params = small.params(model)
  safetensors_file.write_weights(path, params, config)
  found = safetensors_file.read_weights(path)
  assert found.model == model
  small.assert_equal_trees(found.params, params)


@pytest.mark.parametrize("option", ["dictionary", "similarity", "shift"])
def test_a_misspelt_option_is_refused(option):
  with pytest.raises(ValueError, match=f"{option}='laier': use one of"):
    build.make_model(SMALL | {option: "laier"})
