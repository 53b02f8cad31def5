"""The options of ablations: whose keys, found how, in which windows."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax import checkpoint, weights
from semanir_jax.models import key_search, windows
from semanir_jax.models.semanir import SemanIR
from semanir_jax.ops.dictionary import unpack_bits
from tests import jaxprs, small

SMALL = {
  "dim": 8,
  "num_heads": 2,
  "depths": (2, 2),
  "window_size": 4,
  "num_keys": 5,
  "max_keys": 16,
}


@functools.cache
def _params(depths=(2, 2)):
  return small.params(SemanIR(**SMALL | {"depths": depths}))


def _restored(num_keys=None, side=8, mutable=False, **options):
  options = SMALL | options
  images = jax.random.uniform(jax.random.key(0), (1, side, side, 3))
  apply = functools.partial(SemanIR(**options).apply, mutable=mutable)
  run = jax.jit(functools.partial(apply, num_keys=num_keys))
  return run({"params": _params(options["depths"])}, images)


def test_options_leave_the_parameters_as_they_are():
  for options in ({"dictionary": "layer"}, {"dictionary": "random"}):
    params = small.params(SemanIR(**SMALL | options))
    small.assert_equal_trees(params, _params())


def test_stages_of_one_layer_need_no_search_of_their_own():
  expected = _restored(depths=(1, 1))
  out = _restored(depths=(1, 1), dictionary="layer")
  np.testing.assert_allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize("implementation", ["mask", "gather"])
def test_every_layer_finds_the_keys_of_its_own_input(implementation):
  options = {"dictionary": "layer", "implementation": implementation}
  out, found = _restored(**options, mutable="intermediates")
  stage = found["intermediates"]["stage_0"]
  assert "dictionary" not in stage  # none is found at the entry
  (own,) = stage["layers"]["dictionary"]
  # The first layer's is the one that the stage would have shared.
  _, shared = _restored(implementation=implementation, mutable="intermediates")
  (shared,) = shared["intermediates"]["stage_0"]["dictionary"]
  first = jax.tree.map(lambda x: x[0], own)
  small.assert_equal_trees(first, shared)
  second = jax.tree.map(lambda x: x[1], own)
  assert any(
    not np.array_equal(a, b)
    for a, b in zip(jax.tree.leaves(second), jax.tree.leaves(shared), strict=1)
  )
  assert np.abs(out - _restored(implementation=implementation)).max() > 1e-5


def test_the_search_of_a_layer_is_inside_the_scan():
  model = SemanIR(**SMALL, dictionary="layer", implementation="gather")
  images = jnp.zeros((1, 8, 8, 3))
  jaxpr = jax.make_jaxpr(model.apply)({"params": _params()}, images)

  def searches(jaxpr):
    equations = jaxprs.equations(jaxpr)
    return sum(e.primitive.name == "top_k" for e in equations)

  layers = [
    e
    for e in jaxprs.equations(jaxpr)
    if e.primitive.name == "scan" and searches(e.params["jaxpr"])
  ]
  assert [e.params["length"] for e in layers] == [2, 2]
  assert searches(jaxpr) == 2


def test_recomputed_layers_search_again_and_agree():
  images = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3))

  def gradient(**options):
    model = SemanIR(**SMALL, dictionary="layer", **options)
    loss = lambda p: jnp.mean(model.apply({"params": p}, images) ** 2)  # noqa: E731
    return jax.jit(jax.grad(loss))(_params())

  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-5),
    gradient(remat=True),
    gradient(),
  )


def test_with_all_keys_it_does_not_matter_how_they_are_found():
  expected = _restored(num_keys=16)
  for options in (
    {"dictionary": "layer"},
    {"dictionary": "random"},
    {"similarity": "cosine"},
  ):
    out = _restored(num_keys=16, **options)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    assert np.abs(_restored(num_keys=3, **options) - out).max() > 1e-5


def _mask(x, num_keys=3, **options):
  found = key_search.find_keys(x, num_keys, **options)
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
  indices = key_search.find_keys(x, num_keys, **options, max_keys=16)
  listed = np.zeros_like(mask)
  for place in np.argwhere(indices.valid):
    listed[(*place[:3], indices.indices[tuple(place)])] = True
  np.testing.assert_array_equal(listed, mask)


def test_random_keys_differ_from_token_to_token():
  mask = _mask(jnp.zeros((1, 1, 16, 1)), 5, dictionary="random")[0, 0]
  assert len({row.tobytes() for row in mask}) > 10


def test_without_a_shift_windows_never_mix():
  model = SemanIR(**SMALL | {"num_keys": 16})
  # Convolutions reach two or three windows far; their centre taps alone do not.
  params = jax.tree_util.tree_map_with_path(_center_tap_alone, _params())
  images = jax.random.uniform(jax.random.key(0), (1, 12, 12, 3))

  def reached(shift):
    def last_window(images):
      out = model.clone(shift=shift).apply({"params": params}, images)
      return jnp.sum(out[:, 8:, 8:] ** 2)

    return np.abs(jax.jit(jax.grad(last_window))(images)).sum((0, 3)) > 0

  expected = np.zeros((12, 12), bool)
  expected[8:, 8:] = True
  np.testing.assert_array_equal(reached("none"), expected)
  assert reached("stage")[4:, 4:].all()


def _center_tap_alone(path, leaf):
  if leaf.ndim == 4 and leaf.shape[:2] == (3, 3):
    return jnp.zeros_like(leaf).at[1, 1].set(leaf[1, 1])
  return leaf


def test_weights_of_before_these_options_are_of_the_default_network(tmp_path):
  model = SemanIR(**SMALL)
  options = {
    name: getattr(model, name)
    for name in SemanIR.__dataclass_fields__
    if name not in ("parent", "name", "dictionary", "similarity", "shift")
  }
  options["dtype"] = "float32"
  config = json.loads(json.dumps({"model": options}))
  path = tmp_path / "old.safetensors"
  weights.write_weights(path, _params(), config)
  read, params, _ = weights.read_weights(path)
  assert read == model.clone(dtype="float32")
  small.assert_equal_trees(params, _params())
  assert checkpoint.make_model(options | {"shift": "none"}).shift == "none"


@pytest.mark.parametrize("option", ["dictionary", "similarity", "shift"])
def test_a_misspelt_option_is_refused(option):
  with pytest.raises(ValueError, match=f"{option}='laier': use one of"):
    _restored(**{option: "laier"})
