"""The Triton attention: its cases in the interpreter, its choice, its memory.

What it computes is tested by tests/attention_triton_cases.py, in a process of
its own.
"""

import functools
import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import tune_attention
from semanir_jax import ops
from semanir_jax.ops import choose_implementation, triton_launch
from semanir_jax.ops.attention import tile_table, triton_vjp
from semanir_jax.ops.attention.tile_table import Tiles, choose_tiles
from tests import jaxprs, triton_interpreter

pytestmark = pytest.mark.slow

FIELDS = ("block_q", "block_k", "num_warps", "num_stages")
CASES = "tests/attention_triton_cases.py"


def test_kernels_equal_the_reference_in_the_interpreter():
  said = triton_interpreter.run_module("pytest", CASES)
  assert " passed" in said and " failed" not in said


@pytest.mark.skipif(not triton_interpreter.has_gpu(), reason="needs a GPU")
def test_kernels_equal_the_reference_on_the_gpu():
  said = triton_interpreter.run_module(
    "pytest", CASES, on_gpu=True, timeout_s=600.0
  )
  assert " passed" in said and " skipped" not in said


def test_gpus_run_the_kernel_where_it_can(monkeypatch):
  choose = choose_implementation
  monkeypatch.setattr(triton_launch, "why_unavailable", lambda: None)
  for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
    assert choose(64, 8, platform="gpu", dtype=dtype) == "triton"
  assert choose(4096, 512, platform="gpu") == "triton"
  assert choose(63, 8, platform="gpu") == "mask"
  with pytest.warns(match="mask form on this GPU: it computes float32"):
    assert choose(1024, 64, platform="gpu", dtype=jnp.float64) == "mask"
  assert choose(1024, 512, platform="cpu") == "mask"
  named = {"implementation": "triton", "platform": "gpu"}
  assert choose(9, 8, **named) == "triton"
  with pytest.raises(ValueError, match="float16, not float64"):
    choose(64, 8, **named, dtype=jnp.float64)
  with pytest.raises(ValueError, match="the program is for platform cpu"):
    choose(64, 8, implementation="triton")
  monkeypatch.setattr(triton_launch, "why_unavailable", lambda: "no GPU here")
  with pytest.warns(match="mask form on this GPU: no GPU here"):
    assert choose(1024, 512, platform="gpu") == "mask"
  with pytest.raises(ValueError, match="cannot run: no GPU here; or use None"):
    choose(1024, 512, **named)


def test_without_jax_triton_or_a_gpu_the_reason_is_said(monkeypatch):
  monkeypatch.setitem(sys.modules, "jax_triton", None)
  assert "jax_triton cannot be imported" in triton_launch.why_unavailable()
  monkeypatch.setitem(sys.modules, "jax_triton", np)  # any module
  assert "no NVIDIA GPU here" in triton_launch.why_unavailable()
  with triton_launch.compile_for(75):
    assert "7.5 is below 8.0" in triton_launch.why_unavailable()
  with triton_launch.compile_for(90):
    assert triton_launch.why_unavailable() is None
    assert triton_launch.compute_capability() == 90
  assert triton_launch.compute_capability() is None


def test_a_dictionary_of_the_wrong_form_is_refused():
  x = jnp.ones((1, 1, 4, 1, 2))
  dictionary = ops.build_dictionary(x[..., 0, :], 2, max_keys=2)
  arguments = {"scale": jnp.ones(1), "bias": jnp.zeros((1, 4, 4))}
  with pytest.raises(ValueError, match="'mask' does not take this form"):
    ops.key_semantic_attention(
      x, x, x, dictionary, **arguments, implementation="mask"
    )
  bits = ops.build_dictionary(x[..., 0, :], 2)
  with pytest.raises(ValueError, match="'gather' does not take this form"):
    ops.key_semantic_attention(
      x, x, x, bits, **arguments, implementation="gather"
    )


@pytest.mark.parametrize("kernel", tile_table.KERNELS)
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("capability", [75, 80, 86, 90, 120])
def test_every_window_has_tiles(kernel, itemsize, capability):
  for num_tokens in (1, 49, 64, 65, 256, 1024, 4096, 9999):
    tiles = choose_tiles(kernel, num_tokens, itemsize, capability)
    for block, least in ((tiles.block_q, 16), (tiles.block_k, 32)):
      assert block >= least and block & (block - 1) == 0
      assert block <= max(32, 2 * num_tokens)


def test_tiles_are_those_of_the_next_larger_window_and_older_gpu(
  monkeypatch, tmp_path
):
  rows = [
    {
      "kernel": "forward",
      "itemsize": 2,
      "compute_capability": capability,
      "num_tokens": n,
      "block_q": capability // 10,
      "block_k": n,
      "num_warps": 4,
      "num_stages": 2,
    }
    for capability in (80, 90)
    for n in (64, 1024)
  ]
  table = tmp_path / "tiles.json"
  table.write_text(json.dumps(rows))
  monkeypatch.setattr(tile_table, "TABLE", table)
  tile_table._table.cache_clear()
  try:
    for n, capability, wanted in (
      (64, 86, (8, 64)),
      (2048, 120, (9, 1024)),
      (65, 70, (8, 128)),
      (1024, 90, (9, 1024)),
    ):
      chosen = choose_tiles("forward", n, 2, capability)
      assert (chosen.block_q, chosen.block_k) == wanted
  finally:
    tile_table._table.cache_clear()


@pytest.mark.parametrize(("n", "windows"), [(1024, 225), (64, 1024), (49, 9)])
def test_no_array_grows_with_windows_times_pairs(n, windows):
  a, d = 6, 30
  spec = jax.ShapeDtypeStruct
  x = spec((2, windows, n, a, d), jnp.bfloat16)
  bits = spec((2, windows, n, -(-n // 32)), jnp.uint32)
  scale, bias = spec((a,), jnp.float32), spec((a, n, n), jnp.float32)
  launched = []

  def launcher(kernel, grid, inputs, outputs, **constants):
    launched.append(grid)
    return tuple(jnp.zeros(x.shape, x.dtype) for x in outputs)

  def both(q, k, v, bits, scale, bias):
    def attend(q, k, v, scale, bias):
      return triton_vjp.key_semantic_attention_triton(
        q,
        k,
        v,
        bits,
        scale,
        bias,
        launcher=launcher,
      )

    out, pullback = jax.vjp(attend, q, k, v, scale, bias)
    return pullback(out)

  with triton_launch.compile_for(90):
    jaxpr = jax.make_jaxpr(both)(x, x, x, bits, scale, bias)
  largest = max(
    math.prod(variable.aval.shape)
    for equation in jaxprs.equations(jaxpr)
    for variable in equation.outvars
  )
  assert len(launched) == 4
  assert all(0 < y <= 65535 for _, y in launched)
  # No larger than the query, or than one bias for every 8 windows.
  assert largest <= max(x.size, a * n * n * max(1, 2 * windows // 8))


def test_tuning_replaces_the_rows_of_the_gpu_here(monkeypatch, tmp_path):
  table = tmp_path / "tiles.json"
  table.write_bytes(tile_table.TABLE.read_bytes())
  before = json.loads(table.read_text())
  tried = []

  def measure(kernel, num_tokens, itemsize, tiles):
    tried.append((kernel, num_tokens, itemsize, tiles))
    assert max(tiles.block_q, tiles.block_k) <= num_tokens
    if tiles.block_q == 64:
      return None
    wrong = (tiles.block_q != 32) + (tiles.block_k != 64)
    return 1.0 + wrong + (tiles.num_warps != 8) + (tiles.num_stages != 3)

  monkeypatch.setattr(tune_attention, "measure", measure)
  with triton_launch.compile_for(90):
    tune_attention.tune(str(table))
  after = json.loads(table.read_text())
  assert [list(row) for row in after] == [list(row) for row in before]
  for old, new in zip(before, after, strict=True):
    if old["compute_capability"] == 90:
      assert Tiles(*(new[name] for name in FIELDS)) == Tiles(32, 64, 8, 3)
      assert new["time"].startswith("1.000 ms, ")
    else:
      assert new == old
  # A run that was cut off goes on, and makes no row twice.
  assert len(tried) == len(set(tried)) > 8 * 4 * 2
  count = len(tried)
  cut = [
    old if new["kernel"] == "bias_gradient" else new
    for old, new in zip(before, after, strict=True)
  ]
  table.write_text(json.dumps(cut))
  with triton_launch.compile_for(90):
    tune_attention.tune(str(table))
  assert json.loads(table.read_text()) == after
  assert {kernel for kernel, *_ in tried[count:]} == {"bias_gradient"}
  with pytest.raises(ValueError, match="no NVIDIA GPU here"):
    tune_attention.tune(str(table))


@pytest.fixture
def launched(monkeypatch):
  """Blocks of the kernels that tuning launches; what they find is a number."""
  launched = []

  def launcher(kernel, grid, inputs, outputs, **constants):
    blocks = (constants["BLOCK_Q"], constants["BLOCK_K"])
    launched.append(blocks)
    found = 2.0 if blocks == (32, 32) else 1.0
    return tuple(jnp.full(x.shape, found, x.dtype) for x in outputs)

  run = functools.partial(
    triton_vjp.key_semantic_attention_triton, launcher=launcher
  )
  monkeypatch.setattr(triton_vjp, "key_semantic_attention_triton", run)
  monkeypatch.setattr(tune_attention, "_TOKENS", 128)
  tune_attention._make_arrays.cache_clear()
  tune_attention._expected.cache_clear()
  with triton_launch.compile_for(90):
    yield launched


def test_tuning_times_a_pass_with_the_candidate_in_its_kernel_alone(launched):
  tiles = Tiles(16, 128, num_warps=4, num_stages=2)
  assert tune_attention.measure("forward", 64, 2, tiles) > 0
  candidate, table = launched
  assert candidate == (16, 128) != table
  launched.clear()
  assert tune_attention.measure("key_value_gradient", 64, 4, tiles) > 0
  found = [blocks == (16, 128) for blocks in launched]
  assert found == [0, 0, 1, 0] + 4 * [0]


def test_tuning_leaves_out_tiles_that_find_something_else_or_do_not_fit(
  launched, monkeypatch
):
  wrong = Tiles(32, 32, num_warps=4, num_stages=2)
  assert tune_attention.measure("forward", 64, 2, wrong) is None
  assert launched[0] == (32, 32)

  def fail(*unused):
    raise RuntimeError("out of resource: shared memory")

  monkeypatch.setattr(tune_attention, "_compile", fail)
  assert tune_attention.measure("forward", 64, 2, wrong) is None
