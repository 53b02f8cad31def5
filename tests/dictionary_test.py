"""The dictionary selects the same, right keys in both of its forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from semanir_jax.models import windows
from semanir_jax.ops import build_dictionary, chunks
from semanir_jax.ops.bits import unpack_bits
from semanir_jax.ops.dictionary import selection
from tests import jaxprs, reference


def _integers(seed: int, shape: tuple[int, ...], high: int = 3) -> np.ndarray:
  """Small integers: dot products are exact, and many of them tie."""
  rng = np.random.default_rng(seed)
  return rng.integers(-high, high + 1, shape).astype(np.float32)


def _mask_of_indices(indices: np.ndarray, valid: np.ndarray) -> np.ndarray:
  mask = np.zeros((*indices.shape[:3], indices.shape[2]), bool)
  for position in np.ndindex(indices.shape):
    if valid[position]:
      mask[position[:3]][indices[position]] = True
  return mask


@pytest.mark.parametrize("num_keys", [1, 2, 7, 15, 16])
@pytest.mark.parametrize("shift", [(0, 0), (2, 2), (0, 2)])
def test_both_forms_equal_the_reference_with_ties(num_keys, shift):
  features = _integers(num_keys, (2, 6, 16, 5))
  regions = windows.regions(8, 12, 4, shift)
  expected = reference.mask_of(
    reference.dictionary(features, num_keys, regions)
  )
  bits = build_dictionary(features, num_keys, regions=regions).bits
  np.testing.assert_array_equal(unpack_bits(bits, 16), expected)
  sparse = build_dictionary(features, num_keys, regions=regions, max_keys=16)
  np.testing.assert_array_equal(
    _mask_of_indices(np.asarray(sparse.indices), np.asarray(sparse.valid)),
    expected,
  )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_forms_agree_on_real_valued_features(dtype):
  features = jax.random.normal(jax.random.key(0), (2, 3, 49, 20), dtype)
  for num_keys in (1, 20, 49):
    bits = build_dictionary(features, num_keys).bits
    sparse = build_dictionary(features, num_keys, max_keys=49)
    np.testing.assert_array_equal(
      unpack_bits(bits, 49),
      _mask_of_indices(np.asarray(sparse.indices), np.asarray(sparse.valid)),
    )


def test_flat_area_keeps_exactly_k_of_the_lowest_indices():
  # All dot products tie: a threshold alone would keep all 64 keys.
  bits = build_dictionary(jnp.ones((1, 1, 64, 3)), 10).bits
  mask = np.asarray(unpack_bits(bits, 64))[0, 0]
  expected = np.zeros((64, 64), bool)
  expected[:, :10] = True
  np.testing.assert_array_equal(mask, expected)


def test_signed_zeros_tie_and_extremes_sort():
  least, most = np.finfo(np.float32).min, np.finfo(np.float32).max
  row = np.array([0.0, -0.0, -2e-38, 2e-38, most, least, -0.0, -np.inf])
  row = row.astype(np.float32)
  scores = selection.similarity(
    jnp.array([[[[1.0], [-0.0], [0.0]]]], jnp.float32)
  )
  assert not np.signbit(np.asarray(scores)).any()
  scores = jnp.where(row == 0, 0.0, row)[None]
  for num_keys in range(1, 9):
    order = np.argsort(-row, kind="stable")[: min(num_keys, 7)]
    bits = selection.select_bits(scores, num_keys)
    mask = unpack_bits(bits, 8)
    np.testing.assert_array_equal(np.flatnonzero(mask[0]), np.sort(order))


@pytest.mark.parametrize("max_keys", [None, 16])
def test_chunks_of_windows_change_nothing(monkeypatch, max_keys):
  features = jnp.asarray(_integers(5, (2, 6, 16, 5)))
  build = functools.partial(
    build_dictionary,
    features,
    7,
    regions=windows.regions(8, 12, 4, (2, 2)),
    max_keys=max_keys,
  )
  whole = build()
  monkeypatch.setattr(chunks, "CPU_ELEMENTS", 2 * 16 * 16 * 3)
  scans = [
    equation.params["length"]
    for equation in jaxprs.equations(jax.make_jaxpr(build)())
    if equation.primitive.name == "scan"
  ]
  assert 2 in scans  # two chunks of three windows
  jax.tree.map(np.testing.assert_array_equal, build(), whole)


def test_small_regions_give_rows_with_fewer_keys():
  regions = windows.regions(8, 8, 4, (2, 2))
  features = _integers(1, (1, 4, 16, 3))
  bits = build_dictionary(features, 9, regions=regions).bits
  counts = np.asarray(unpack_bits(bits, 16)).sum(-1)[0]
  # Window 0 is whole, windows 1 and 2 are cut in two, window 3 in four.
  np.testing.assert_array_equal(
    counts, np.array([9, 8, 8, 4])[:, None] * np.ones((1, 16), int)
  )


def test_similarity_accumulates_bfloat16_features_in_float32():
  # 1 + 2^-10 + ... + 2^-10 loses every small term in a bfloat16 sum.
  features = jnp.full((1, 1, 2, 257), 2.0**-5, jnp.bfloat16).at[..., 0].set(1)
  expected = 1 + 256 * 2.0**-10
  np.testing.assert_array_equal(
    selection.similarity(features), np.full((1, 1, 2, 2), expected)
  )


def test_no_gradient_flows_through_the_search():
  def loss(features):
    scores = selection.similarity(features)
    return jnp.sum(scores * features[..., :1])

  features = jnp.arange(8.0).reshape(1, 1, 4, 2)
  gradient = jax.grad(loss)(features)
  scores = selection.similarity(features)
  expected = jnp.zeros_like(features).at[..., 0].set(scores.sum(-1))
  np.testing.assert_allclose(gradient, expected)


@pytest.mark.parametrize("max_keys", [None, 32])
def test_another_k_does_not_recompile(max_keys):
  compiled = jax.jit(
    lambda features, num_keys: build_dictionary(
      features, num_keys, max_keys=max_keys
    )
  )
  features = jax.random.normal(jax.random.key(1), (1, 2, 64, 4))
  for num_keys in (1, 7, 32):
    traced = compiled(features, num_keys)
    direct = build_dictionary(features, num_keys, max_keys=max_keys)
    jax.tree.map(np.testing.assert_array_equal, traced, direct)
  assert compiled._cache_size() == 1


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_selection_equals_a_stable_top_k(platform):
  scores = jnp.round(jax.random.normal(jax.random.key(2), (3, 70, 70)) * 2) / 2
  scores = jnp.where(scores == 0, 0.0, scores)
  for num_keys in (1, 13, 64, 70):
    expected = np.zeros(scores.shape, bool)
    np.put_along_axis(
      expected, np.asarray(lax.top_k(scores, num_keys)[1]), True, -1
    )
    bits = selection.select_bits(scores, num_keys, platform=platform)
    np.testing.assert_array_equal(unpack_bits(bits, scores.shape[-1]), expected)


@pytest.mark.parametrize("num_tokens", [255 * 32, 256 * 32])
def test_as_many_ties_as_a_byte_can_count_and_more(num_tokens):
  num_keys = num_tokens - 5
  bits = selection.select_bits(jnp.zeros((2, num_tokens)), num_keys)
  expected = np.broadcast_to(np.arange(num_tokens) < num_keys, (2, num_tokens))
  np.testing.assert_array_equal(unpack_bits(bits, num_tokens), expected)


@pytest.mark.parametrize("max_keys", [None, 8])
def test_a_traced_k_outside_the_range_is_clipped(max_keys):
  features = jax.random.normal(jax.random.key(3), (1, 1, 16, 4))
  build = functools.partial(build_dictionary, features, max_keys=max_keys)
  for asked, meant in ((0, 1), (-3, 1), (99, 16 if max_keys is None else 8)):
    traced = jax.jit(build)(jnp.int32(asked))
    jax.tree.map(np.testing.assert_array_equal, traced, build(meant))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_keys": 17}, "num_keys=17 must lie in .1, 16."),
    ({"num_keys": 0}, "num_keys=0"),
    ({"num_keys": np.int64(17)}, "num_keys=17 must lie in .1, 16."),
    ({"num_keys": jnp.int32(0)}, "num_keys=0"),
    ({"num_keys": 3.7}, "num_keys=3.7: give a whole number"),
    ({"num_keys": True}, "num_keys=True: give a whole number"),
    ({"num_keys": "3"}, "num_keys='3': give a whole number"),
    ({"num_keys": 4, "max_keys": 17}, "max_keys=17"),
    ({"num_keys": 5, "max_keys": 4}, "num_keys=5 must lie in .1, 4."),
  ],
)
def test_k_outside_the_window_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    build_dictionary(jnp.ones((1, 1, 16, 2)), **options)
