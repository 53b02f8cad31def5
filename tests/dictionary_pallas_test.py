"""The dictionary of a TPU, in Pallas's interpreter, and when it is taken."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from semanir_jax.ops import build_dictionary, pallas_mode
from semanir_jax.ops.dictionary import api, pallas_kernel
from semanir_jax.ops.dictionary.words import to_words
from tests import jaxprs


@functools.cache
def compiled(has_regions: bool):
  """The kernel and XLA's selection, as mask words, of a traced k."""

  def both(features, num_keys, *regions):
    options = {"regions": regions[0] if has_regions else None}
    expected = build_dictionary(
      features, num_keys, implementation="xla", platform="cpu", **options
    )
    built = pallas_kernel.build_words(
      features, num_keys, interpret=True, **options
    )
    return built, to_words(expected.bits)

  return jax.jit(both)


def assert_equal_words(features, num_keys, *regions):
  """That the kernel selects what XLA does; returns the words."""
  built, expected = compiled(bool(regions))(features, num_keys, *regions)
  assert built.dtype == jnp.int32
  differing = np.count_nonzero(np.asarray(built) != np.asarray(expected))
  assert differing == 0, f"k={num_keys}"
  return np.asarray(built)


def make_features(shape, ties, dtype):
  """Small integers, whose products are exact and tie, or real numbers."""
  rng = np.random.default_rng(sum(shape))
  if ties:
    return jnp.asarray(rng.integers(-1, 2, shape), dtype)
  return jnp.asarray(rng.normal(size=shape), dtype)


def make_regions(shape):
  """Of every window others, the smallest of a few tokens."""
  _, g, n, _ = shape
  tokens = np.arange(n)
  return jnp.asarray([(tokens % 7 > 2) + i * (tokens > 5) for i in range(g)])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("ties", [False, True])
def test_no_word_differs_from_xlas(ties, dtype):
  shape = (3, 2, 64, 5)
  features, regions = make_features(shape, ties, dtype), make_regions(shape)
  for num_keys in (1, 32, 64):
    words = assert_equal_words(features, num_keys)
    total = np.bitwise_count(words.view(np.uint32)).sum()
    assert total == 3 * 2 * 64 * num_keys
    assert_equal_words(features, num_keys, regions)
    assert_equal_words(features, num_keys, regions[1:])  # for both windows


@pytest.mark.slow
@pytest.mark.parametrize(
  ("shape", "ties", "dtype", "has_regions"),
  [
    ((1, 3, 256, 6), True, jnp.float32, True),
    ((1, 3, 256, 6), False, jnp.bfloat16, False),
    ((1, 1, 1024, 4), True, jnp.bfloat16, True),
    ((1, 1, 1024, 4), False, jnp.float32, False),
  ],
)
def test_no_word_of_larger_windows_differs(shape, ties, dtype, has_regions):
  features = make_features(shape, ties, dtype)
  regions = (make_regions(shape),) if has_regions else ()
  for num_keys in (1, shape[2] // 2, shape[2]):
    assert_equal_words(features, num_keys, *regions)


def test_zeros_denormals_and_infinite_scores():
  values = [0, -0.0, 1, -1, 1e-20, -1e-20, 1e-25, 1e20, -1e20, 3e38, 2, -0.0]
  # Of one channel: a sum of several would make +0 of -0.
  features = np.zeros((1, 1, 64, 1), np.float32)
  features[0, 0, :24, 0] = values + [-value for value in values]
  for num_keys in (1, 5, 20, 45, 62, 64):
    assert_equal_words(jnp.asarray(features), num_keys)


def test_flat_area_keeps_exactly_k_of_the_lowest_indices():
  words = assert_equal_words(jnp.ones((1, 1, 64, 3)), 10)
  # Of the first row of keys all 8, of the second 2.
  np.testing.assert_array_equal(
    words[0], np.broadcast_to([[3]] * 2 + [[1]] * 6, (8, 64))
  )


def test_devices_select_in_shard_map_what_one_selects():
  features = make_features((2, 2, 64, 5), True, jnp.float32)
  regions = make_regions(features.shape)
  build = functools.partial(pallas_kernel.build_words, interpret=True)
  mesh = Mesh(np.array(jax.devices()[:2]), "data")
  rows, whole = PartitionSpec("data"), PartitionSpec()
  sharded = jax.shard_map(
    lambda *arrays: build(arrays[0], arrays[1], regions=arrays[2]),
    mesh=mesh,
    in_specs=(rows, whole, whole),
    out_specs=rows,
    # As the steps have it: the kernel says not what its result varies over.
    check_vma=False,
  )
  words = jax.jit(sharded)(features, jnp.int32(9), regions)
  assert len(words.sharding.device_set) == 2
  _, expected = compiled(True)(features, 9, regions)
  np.testing.assert_array_equal(words, expected)


@pytest.fixture
def interpreted():
  """A TPU's programs run by the interpreter."""
  with pallas_mode.interpret():
    yield


def test_a_tpu_takes_the_kernel_with_k_in_range(interpreted):
  features = make_features((3, 2, 64, 5), True, jnp.float32)
  regions = np.asarray(make_regions(features.shape))

  def build(num_keys, **options):
    return build_dictionary(features, num_keys, regions=regions, **options).bits

  on_tpu = jax.jit(functools.partial(build, platform="tpu"))
  for asked, meant in ((0, 1), (7, 7), (99, 64)):
    bits = on_tpu(jnp.int32(asked))
    np.testing.assert_array_equal(bits, build(meant))
  assert on_tpu._cache_size() == 1


def runs_the_kernel(shape, dtype=jnp.float32, **options):
  """Whether the dictionary of a TPU is the kernel's."""
  features = jax.ShapeDtypeStruct(shape, dtype)
  build = functools.partial(
    build_dictionary, num_keys=5, **({"platform": "tpu"} | options)
  )
  program = jax.make_jaxpr(build)(features)
  names = [equation.primitive.name for equation in jaxprs.equations(program)]
  return "pallas_call" in names


def test_what_the_kernel_cannot_do_is_xlas():
  assert runs_the_kernel((1, 2, 256, 8))
  assert runs_the_kernel((1, 2, 256, 8), implementation="pallas")
  assert runs_the_kernel((1, 2, 256, api._MOST_PALLAS_CHANNELS), jnp.bfloat16)
  assert not runs_the_kernel((1, 2, 256, 8), implementation="xla")
  assert not runs_the_kernel((1, 2, 256, 8), platform="cpu")
  assert not runs_the_kernel((1, 2, 256, 8), max_keys=9)
  assert not runs_the_kernel((1, 2, 256, 8), jnp.float16)
  assert not runs_the_kernel((1, 2, 144, 8))
  assert not runs_the_kernel((1, 2, 256, api._MOST_PALLAS_CHANNELS + 1))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"platform": "cpu"}, "pallas' .* needs a TPU and .* for platform cpu"),
    ({"max_keys": 9}, "makes bits, not indices; leave max_keys=9 out"),
    (
      {"shape": (1, 2, 144, 8)},
      "window side of 8, 16, 32 and these windows have 144",
    ),
    ({"shape": (1, 2, 64, 385)}, "at most 384 channels of a window, not 385"),
    ({"dtype": jnp.float16}, "computes float32 and bfloat16, not float16"),
    ({"implementation": "triton"}, "triton' .* needs an NVIDIA GPU"),
    (
      {"implementation": "mask"},
      "'mask' of the dictionary; use one of xla, tr",
    ),
  ],
)
def test_an_explicit_choice_that_cannot_run_says_why(options, message):
  options = {"shape": (1, 2, 64, 8), "implementation": "pallas"} | options
  with pytest.raises(ValueError, match=message) as error:
    runs_the_kernel(**options)
  assert "\n" not in str(error.value)
