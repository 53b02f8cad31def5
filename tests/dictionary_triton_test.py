"""The Triton dictionary, in the interpreter, and when it is taken."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.ops import Dictionary, build_dictionary, triton_launch
from tests import triton_interpreter

pytestmark = pytest.mark.slow


def test_kernels_in_the_interpreter():
  out = triton_interpreter.run_module(
    "pytest", "-p", "no:cacheprovider", "tests/dictionary_triton_cases.py"
  )
  assert "passed" in out and "skipped" not in out


@pytest.mark.skipif(not triton_interpreter.has_gpu(), reason="needs a GPU")
def test_kernels_on_the_gpu():
  out = triton_interpreter.run_module(
    "pytest", "tests/dictionary_triton_cases.py", on_gpu=True
  )
  assert "passed" in out and "skipped" not in out


@pytest.fixture
def taken(monkeypatch):
  """What the kernel was called with, on a machine where it can run."""
  triton_kernel = pytest.importorskip(
    "semanir_jax.ops.dictionary.triton_kernel"
  )
  calls = []

  def record(features, num_keys, **options):
    calls.append((features.shape, options))
    return Dictionary(bits=jnp.asarray(num_keys))

  monkeypatch.setattr(triton_kernel, "build_dictionary_triton", record)
  monkeypatch.setattr(triton_kernel, "MOST_TOKENS", 32)
  monkeypatch.setattr(triton_launch, "why_unavailable", lambda: None)
  return calls


def test_a_gpu_takes_the_kernel_with_k_in_range(taken):
  features, regions = jnp.ones((1, 2, 32, 4)), np.zeros((2, 32), int)
  build = functools.partial(
    build_dictionary, features, regions=regions, max_keys=9, platform="gpu"
  )
  assert jax.jit(build)(jnp.int32(99)).bits == 9
  options = {"regions": regions, "max_keys": 9}
  assert taken == [((1, 2, 32, 4), options)]


def test_others_and_larger_windows_take_xla(taken, monkeypatch):
  assert build_dictionary(jnp.ones((1, 2, 32, 4)), 9).bits is not None
  assert build_dictionary(jnp.ones((1, 2, 32, 4)), 9, platform="tpu").bits.size
  assert build_dictionary(jnp.ones((1, 2, 33, 4)), 9, platform="gpu").bits.size
  monkeypatch.setattr(triton_launch, "why_unavailable", lambda: "no GPU")
  assert build_dictionary(jnp.ones((1, 2, 32, 4)), 9, platform="gpu").bits.size
  assert not taken
