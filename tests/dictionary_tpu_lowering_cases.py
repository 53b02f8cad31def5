"""The dictionary on a TPU, compiled without one; see tpu_lowering_test.py."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.aot import hlo, kernels, schedule
from semanir_jax.ops import build_dictionary
from semanir_jax.ops.dictionary.words import to_words
from tests import tpu_compiler

jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("generation", tpu_compiler.SLICES)
@pytest.mark.parametrize(
  ("num_tokens", "dtype", "has_regions", "channels"),
  [(64, jnp.float32, False, 30), (1024, jnp.bfloat16, True, 384)],
)
def test_the_dictionary_stores_nothing_for_every_pair(
  generation, num_tokens, dtype, has_regions, channels
):
  n, windows = num_tokens, 3
  regions = np.zeros((windows, n), np.uint8) if has_regions else None

  def build(features, num_keys):
    dictionary = build_dictionary(
      features, num_keys, regions=regions, platform="tpu"
    )
    return dictionary.bits, to_words(dictionary.bits)

  features = jax.ShapeDtypeStruct((1, windows, n, channels), dtype)
  num_keys = jax.ShapeDtypeStruct((), jnp.int32)
  compiled = tpu_compiler.compile_for(generation, build, features, num_keys)
  text = compiled.as_text()
  shapes = re.findall(r"\b[a-z]+\d+\[([\d,]+)\]", text)
  most = max(math.prod(map(int, shape.split(","))) for shape in shapes)
  assert most < windows * n * n
  # The program's call is the one that the trace has.
  found = kernels.find_kernels(jax.jit(build).trace(features, num_keys).jaxpr)
  traffic = hlo.analyse(text, found)
  assert traffic.kernel_calls == {found[0]: 1} and not traffic.unknown_kernels


def test_the_compiler_writes_the_kernels_schedule():
  features = jax.ShapeDtypeStruct((1, 8, 64, 8), jnp.bfloat16)
  program = jax.jit(
    lambda features: build_dictionary(features, 5, platform="tpu").bits
  )
  found = kernels.find_kernels(program.trace(features).jaxpr)
  (counted,) = schedule.schedules(found, tpu_compiler.SLICES["v5e"])
  assert isinstance(counted, schedule.Schedule), counted
  # The bisection takes 32 turns, that of ties 7; both take most of the time.
  assert counted.cycles > 32 * 50 and counted.branches > 7 * 20
