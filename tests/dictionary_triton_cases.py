"""What the Triton dictionary must do; run by tests/dictionary_triton_test.py.

Its own process, because the interpreter has to be chosen before the kernels are
imported. Without TRITON_INTERPRET=1 the same cases run on a GPU, and bfloat16
too, which the interpreter cannot multiply.
"""

import contextlib
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.ops import build_dictionary, triton_launch
from semanir_jax.ops.bits import unpack_bits
from semanir_jax.ops.dictionary import triton_kernel
from tests import reference, triton_interpreter

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED:
  jax.config.update("jax_platforms", "cuda,cpu")
  jax.config.update("jax_disable_most_optimizations", False)
DTYPES = ["float32", "float16"] + ([] if INTERPRETED else ["bfloat16"])


@pytest.fixture(autouse=True)
def capability():
  """Of a GPU that is not here, for the interpreter."""
  target = triton_launch.compile_for(90)
  with target if INTERPRETED else contextlib.nullcontext():
    yield


def compiled(**options):
  """The kernels under `jit`, by the interpreter where it is chosen."""
  if INTERPRETED:
    options["launcher"] = triton_interpreter.launch_in_jax
  return jax.jit(
    functools.partial(triton_kernel.build_dictionary_triton, **options)
  )


def build(features, num_keys, **options):
  built = compiled(**options)(features, num_keys)
  return jax.tree.map(np.asarray, built)


def mask_of(dictionary, num_tokens):
  return np.asarray(unpack_bits(dictionary.bits, num_tokens))


def by_xla(features, num_keys, regions=None):
  """Bool `[B, G, N, N]` of the form that XLA compiles."""
  with jax.default_device(jax.devices("cpu")[0]):
    dictionary = build_dictionary(
      np.asarray(features), num_keys, regions=regions, platform="cpu"
    )
  return mask_of(dictionary, features.shape[2])


def integers(seed, shape, high=3):
  """Their products are exact in any order, and many of them tie."""
  rng = np.random.default_rng(seed)
  return rng.integers(-high, high + 1, shape).astype(np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
  ("shape", "num_keys"),
  [
    ((2, 3, 16, 5), 3),
    ((1, 2, 49, 30), 20),  # two channel tiles of float16 hold 30
    ((1, 1, 100, 40), 64),  # two query tiles, four words with a part
    ((1, 1, 64, 3), 64),
  ],
)
def test_the_set_is_the_references_with_ties_and_regions(
  dtype, shape, num_keys
):
  features = integers(num_keys, shape)
  regions = np.random.default_rng(0).integers(0, 2, shape[1:3])
  for given in (None, regions):
    built = build(jnp.asarray(features, dtype), num_keys, regions=given)
    expected = reference.mask_of(
      reference.dictionary(features, num_keys, given)
    )
    np.testing.assert_array_equal(mask_of(built, shape[2]), expected)
    np.testing.assert_array_equal(expected, by_xla(features, num_keys, given))


def test_every_k_of_an_odd_window_without_recompiling():
  features = integers(1, (1, 2, 21, 4), high=1)
  regions = np.stack([np.zeros(21, int), np.arange(21) // 15])
  kernels = compiled(regions=regions)
  for num_keys in range(1, 22):
    mask = mask_of(kernels(features, num_keys), 21)
    expected = reference.mask_of(
      reference.dictionary(features, num_keys, regions)
    )
    np.testing.assert_array_equal(mask, expected)
  assert kernels._cache_size() == 1


def test_flat_area_keeps_exactly_k_of_the_lowest_indices():
  mask = mask_of(build(jnp.ones((1, 1, 70, 3)), 10), 70)
  expected = np.zeros((70, 70), bool)
  expected[:, :10] = True
  np.testing.assert_array_equal(mask[0, 0], expected)


def launch_at_once(kernel, grid, inputs, outputs, **constants):
  """Outside XLA's threads, where numpy would take denormals for zeros."""
  arrays = [np.array(x) for x in inputs]
  results = [np.zeros(x.shape, x.dtype) for x in outputs]
  triton_interpreter.launch(kernel, grid, *arrays, *results, **constants)
  return results


@pytest.mark.filterwarnings("ignore:overflow")
def test_zeros_denormals_and_infinite_scores():
  values = [0, -0.0, 1, -1, 1e-20, -1e-20, 1e-25, 1e20, -1e20, 3e38, 2, -0.0]
  features = np.zeros((1, 1, 24, 2), np.float32)
  features[0, 0, :12, 0] = values
  features[0, 0, 12:, 0] = -np.array(values)
  options = {"launcher": launch_at_once} if INTERPRETED else {}
  for num_keys in (1, 5, 12, 13, 20, 24):
    built = triton_kernel.build_dictionary_triton(features, num_keys, **options)
    np.testing.assert_array_equal(
      mask_of(built, 24), by_xla(features, num_keys)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_real_features_agree_with_float64_up_to_near_ties(dtype):
  rng = np.random.default_rng(2)
  features = jnp.asarray(rng.normal(size=(1, 2, 150, 90)), dtype)
  exact = np.asarray(features, np.float64)
  scores = exact @ exact.swapaxes(-1, -2)
  size = np.linalg.norm(exact, axis=-1)
  slack = 1e-6 * size[..., :, None] * size[..., None, :]
  for num_keys in (1, 75, 149):
    mask = mask_of(build(features, num_keys), 150)
    assert (mask.sum(-1) == num_keys).all()
    worst = np.where(mask, scores + slack, np.inf).min(-1)
    best_left = np.where(mask, -np.inf, scores - slack).max(-1)
    assert (worst >= best_left).all()


@pytest.mark.parametrize("rows", [1, 4])
def test_a_program_of_few_rows_changes_nothing(monkeypatch, rows):
  features = integers(4, (1, 1, 33, 7))
  monkeypatch.setattr(triton_kernel, "SCORES", 64 * rows)
  np.testing.assert_array_equal(
    mask_of(build(features, 13), 33), by_xla(features, 13)
  )


@pytest.mark.parametrize("num_keys", [1, 9, 17])
def test_indices_list_the_bits(num_keys):
  features = integers(5, (2, 2, 40, 3))
  regions = np.stack([np.zeros(40, int), np.arange(40) % 4])
  mask = mask_of(build(features, num_keys, regions=regions), 40)
  listed = build(features, num_keys, regions=regions, max_keys=17)
  assert listed.bits is None and listed.indices.dtype == np.int32
  for row in np.ndindex(mask.shape[:3]):
    keys = np.flatnonzero(mask[row])
    np.testing.assert_array_equal(listed.indices[row][: len(keys)], keys)
    assert listed.valid[row].sum() == len(keys)
    assert listed.valid[row][: len(keys)].all()
    # What fills the row may be gathered too.
    assert len(set(listed.indices[row])) == 17
  assert listed.indices.min() >= 0 and listed.indices.max() < 40
