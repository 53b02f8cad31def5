"""What a GPU is given, compiled without one; run by tests/gpu_lowering_test.py.

Its own process, because JAX looks for its compilers once. Nothing is executed.
"""

import os
import pathlib
import re
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from benchmarks import attention_memory
from benchmarks.attention_cases import Case
from benchmarks.result_file import ResultFile
from semanir_jax.aot import hlo, topology
from semanir_jax.machine import sharding
from semanir_jax.models.execution import Execution
from semanir_jax.models.stage import Stage
from semanir_jax.networks.build import make_model
from semanir_jax.ops import triton_launch
from semanir_jax.ops.attention import triton_vjp
from semanir_jax.ops.dictionary import triton_kernel
from semanir_jax.training.setup import place_step
from tests import jaxprs, small

jax.config.update("jax_disable_most_optimizations", False)
# jax_triton leaves the assembly of every kernel there.
DUMP = pathlib.Path(os.environ["JAX_TRITON_DUMP_DIR"])
DEVICES = topology.h200_devices(4)
# Bytes of shared memory that a program may have (CUDA programming guide).
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10}
ARCHITECTURE = {80: "sm_80", 90: "sm_90a"}


def assembled(capability, function, *arguments):
  """Lowers to PTX, assembles that, and names the kernels it found."""
  before = set(DUMP.glob("*/*.ptx"))
  with triton_launch.compile_for(capability):
    traced = jax.jit(function).trace(*arguments)
    traced.lower(lowering_platforms=("cuda",))
  written = set(DUMP.glob("*/*.ptx")) - before
  for ptx in written:
    assert f".target {ARCHITECTURE[capability]}" in ptx.read_text()
    assemble = ["ptxas", f"--gpu-name={ARCHITECTURE[capability]}", ptx]
    subprocess.run([*assemble, "-o", os.devnull], check=True)
    text = ptx.with_suffix(".compile_info").read_text()
    shared = int(re.search(r"shared_mem_bytes: (\d+)", text).group(1))
    assert shared <= SHARED_MEMORY[capability], ptx.stem
  return {ptx.stem for ptx in written}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
  ("num_tokens", "dtype", "max_keys"),
  [
    (64, jnp.bfloat16, 40),
    (1024, jnp.float32, None),
    (4096, jnp.float32, None),
  ],
)
def test_dictionary_kernels_are_compiled(
  capability, num_tokens, dtype, max_keys
):
  def build(features, num_keys):
    return triton_kernel.build_dictionary_triton(
      features, num_keys, max_keys=max_keys
    )

  features = jax.ShapeDtypeStruct((2, 3, num_tokens, 180), dtype)
  num_keys = jax.ShapeDtypeStruct((), jnp.int32)
  names = assembled(capability, build, features, num_keys)
  expected = {"select_kernel"} | ({"list_keys_kernel"} if max_keys else set())
  assert names == expected


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
  ("num_tokens", "dtype"),
  [(64, jnp.float32), (1024, jnp.bfloat16)],
)
def test_attention_kernels_are_compiled(capability, num_tokens, dtype):
  def loss(query, key, value, bits, scale, bias):
    out = triton_vjp.key_semantic_attention_triton(
      query, key, value, bits, scale, bias
    )
    return jnp.sum(out.astype(jnp.float32))

  n = num_tokens
  tokens = jax.ShapeDtypeStruct((1, 3, n, 6, 30), dtype)
  arrays = (
    *(tokens, tokens, tokens),
    jax.ShapeDtypeStruct((1, 3, n, n // 32), jnp.uint32),
    jax.ShapeDtypeStruct((6,), jnp.float32),
    jax.ShapeDtypeStruct((6, n, n), jnp.float32),
  )
  gradient = jax.grad(loss, (0, 1, 2, 4, 5))
  assert assembled(capability, gradient, *arrays) == {
    "forward_kernel",
    "query_gradient_kernel",
    "key_value_gradient_kernel",
    "bias_gradient_kernel",
  }


def test_layers_that_are_computed_again_keep_the_attention():
  stage = Stage(
    depth=2,
    num_heads=6,
    window_size=8,
    max_keys=32,
    shifted=False,
    execution=Execution(platform="gpu", remat=True),
  )
  images = jax.ShapeDtypeStruct((1, 16, 16, 180), jnp.float32)
  with triton_launch.compile_for(90):
    params = jax.eval_shape(stage.init, jax.random.key(0), images, 32)
    loss = lambda *arguments: jnp.sum(stage.apply(*arguments))  # noqa: E731
    program = jax.make_jaxpr(jax.grad(loss))(params, images, 32)
  launched = [
    equation.params["fn"].__name__
    for equation in jaxprs.equations(program)
    if equation.primitive.name == "triton_kernel_call"
  ]
  assert launched.count("forward_kernel") == 1, launched
  assert launched.count("query_gradient_kernel") == 1, launched


def compile_train_step(config, side):
  """The program of the train step on four H200, an image each."""
  mesh = Mesh(
    np.array(DEVICES).reshape(4, 1),
    sharding.DATA_AXES,
    axis_types=(AxisType.Auto,) * 2,
  )
  model = make_model(config.model).with_execution(platform="gpu")
  images = jax.ShapeDtypeStruct((4, side, side, 3), jnp.float32)
  with triton_launch.compile_for(topology.H200_CAPABILITY):
    placed = place_step(config, model, mesh)
    train_step, state = placed.train_step, placed.shapes
    lowered = train_step.lower(state, {"lq": images, "hq": images})
  return state, lowered.compile()


def test_the_sharded_train_step_is_compiled_for_four_h200():
  config = small.config(
    model__architecture="columnar",
    model__dim=60,
    model__depths=(2,),
    model__num_heads=2,
    model__window_size=16,
    model__num_keys=64,
    model__max_keys=128,
    model__dtype="bfloat16",
  )
  n, num_windows = 256, 16
  state, compiled = compile_train_step(config, side=64)
  text = compiled.as_text()
  # A dictionary, and in its layers a forward and three backward kernels.
  calls = re.findall(r'custom_call_target="(triton_kernel_call\w*)"', text)
  assert len(calls) >= 1 + 4
  traffic = hlo.analyse(text)
  assert set(traffic.collective_counts) == {"all-reduce"}
  gradient = 4 * sum(leaf.size for leaf in jax.tree.leaves(state.params))
  moved = traffic.collective_bytes["all-reduce"]
  np.testing.assert_allclose(moved, gradient, rtol=0.02)
  # No array has a number for every pair of tokens of every window: with these
  # sizes the count of such a one alone is a multiple of 2^20.
  shapes = re.findall(r"\b[a-z]+\d+\[([\d,]+)\]", text)
  counts = {np.prod([int(s) for s in shape.split(",")]) for shape in shapes}
  assert max(counts) > n * n  # the bias was seen
  assert not [c for c in counts if c and c % (num_windows * n * n) == 0]


def test_the_kernel_takes_a_quarter_of_the_mask_forms_memory(monkeypatch):
  few = [
    Case("forward", form, "patches", 256, 8, 0) for form in ("triton", "mask")
  ]
  monkeypatch.setattr(attention_memory, "cases", lambda quick: few)
  results = ResultFile(None)
  attention_memory.compile_for_h200(results, quick=True)
  assert results.runs[0]["device_kind"] == "NVIDIA H200"
  kernel, mask = (
    row["temporaries_mib"] + row["outputs_mib"] for row in results.rows
  )
  assert 0 < 4 * kernel < mask
