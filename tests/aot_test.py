"""Ahead-of-time reports: arithmetic, traffic, and what crosses devices."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from jax import lax
from jax.sharding import PartitionSpec

from configs import base
from semanir_jax.aot import hlo, report, topology
from semanir_jax.machine import devices, flops, sharding
from semanir_jax.networks.build import make_model
from semanir_jax.ops import Dictionary, chunks, key_semantic_attention
from semanir_jax.training.setup import make_step

pytestmark = pytest.mark.slow

if not flags.FLAGS.is_parsed():
  flags.FLAGS(sys.argv[:1])


def test_flops_of_a_scanned_product_count_every_iteration():
  def loop(x, w):
    return lax.scan(lambda c, _: (c @ w, None), x, None, length=5)[0]

  x, w = jnp.zeros((3, 4)), jnp.zeros((4, 4))
  assert flops.count_flops(loop, x, w) == 5 * 2 * 3 * 4 * 4


def test_flops_of_a_sharded_function_are_those_of_all_devices():
  mesh = sharding.make_mesh(data=8, fsdp=1)
  rows, whole = PartitionSpec("data"), PartitionSpec()
  product = jax.shard_map(
    lambda x, w: x @ w, mesh=mesh, in_specs=(rows, whole), out_specs=rows
  )
  x, w = jnp.zeros((16, 4)), jnp.zeros((4, 5))
  assert flops.count_flops(product, x, w) == 2 * 16 * 4 * 5


def test_flops_of_a_convolution_and_a_batched_product():
  conv = lambda x, w: lax.conv_general_dilated(  # noqa: E731
    x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  x, w = jnp.zeros((2, 5, 7, 3)), jnp.zeros((3, 3, 3, 11))
  assert flops.count_flops(conv, x, w) == 2 * (2 * 5 * 7 * 11) * (9 * 3)
  product = lambda a, b: jnp.einsum("bnc,bmc->bnm", a, b)  # noqa: E731
  a, b = jnp.zeros((2, 3, 5)), jnp.zeros((2, 7, 5))
  assert flops.count_flops(product, a, b) == 2 * (2 * 3 * 7) * 5


@pytest.mark.parametrize(
  ("limit", "note"),
  [("3", ""), ("99", ', backend_config={"known_trip_count":{"n":"3"}}')],
)
def test_traffic_of_a_written_program(limit, note):
  text = """HloModule m

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%region_1 (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %r = f32[8,4]{1,0} all-reduce(%x), replica_groups={}, to_apply=%add
  ROOT %t = (s32[], f32[8,4]{1,0}) tuple(%x, %r)
}

%region_2 (p: (s32[], f32[8,4])) -> pred[] {
  %limit = s32[] constant(LIMIT), metadata={}
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (q: bf16[16]) -> bf16[16] {
  %q = bf16[16]{0} parameter(0)
  %n = bf16[16]{0} negate(%q)
  %s = (s32[], f32[8,4]{1,0}) fusion(%n), kind=kLoop, calls=%add
  ROOT %w = (s32[], f32[8,4]) while(%s), condition=%region_2, body=%region_1NOTE
}
"""
  text = text.replace("LIMIT", limit).replace("NOTE", note)
  traffic = hlo.analyse(text)
  assert traffic.collective_counts == {"all-reduce": 3}
  assert traffic.collective_bytes == {"all-reduce": 3 * 128}
  negate, fusion, reduce = 32 + 32, 132 + 32, 128 + 128
  assert traffic.memory_bytes == negate + fusion + 3 * reduce


def test_traffic_of_a_tpu_program_counts_tiles_and_leaves_out_fast_memory():
  text = """ENTRY %main (p: bf16[6,30]) -> bf16[6,30] {
  %p = bf16[6,30]{1,0:T(8,128)(2,1)} parameter(0)
  %a = bf16[6,30]{1,0:T(8,128)(2,1)S(1)} copy(%p), \
backend_config={"window_config":{"estimated_cycles":"70"}}
  %b = f32[6,30]{0,1:T(8,128)} convert(%a), \
backend_config={"window_config":{"estimated_cycles":"5"}}
  ROOT %c = f32[200]{0:T(256)} slice(%b)
}
"""
  traffic = hlo.analyse(text)
  bfloat16, float32, flat = 8 * 128 * 2, 32 * 128 * 4, 256 * 4
  assert traffic.memory_bytes == bfloat16 + float32 + (float32 + flat)
  assert traffic.cycles == 75


def test_a_started_gather_counts_its_result_alone():
  text = """ENTRY %main (p: f32[4]) -> f32[32] {
  %p = f32[4]{0} parameter(0)
  %s = (f32[4]{0}, f32[32]{0}) all-gather-start(%p), dimensions={0}
  ROOT %d = f32[32]{0} all-gather-done(%s)
}
"""
  traffic = hlo.analyse(text)
  assert traffic.collective_counts == {"all-gather": 1}
  assert traffic.collective_bytes == {"all-gather": 128}


def _report(config, steps=("train", "inference"), chip="TPU v5 lite"):
  """Rows of a config compiled for the CPU devices here, by step."""
  compiled = report.compile_steps(
    config, jax.devices(), "cpu", steps, inference_side=256
  )
  chip = devices.chip_of(chip)
  rows = [report.describe(*step, 8, chip) for step in compiled]
  json.dumps(rows)
  return rows


@pytest.mark.parametrize("fsdp", [1, 4])
def test_only_reductions_and_fsdp_gathers_cross_devices(fsdp):
  config = base.get_config("smoke")
  config.mesh.fsdp = fsdp
  rows = {row["step"]: row for row in _report(config)}
  mesh = sharding.make_mesh(data=-1, fsdp=fsdp)
  _, init = make_step(config, make_model(config.model), mesh)
  params = jax.eval_shape(init).params
  megabytes = sum(leaf.size for leaf in jax.tree.leaves(params)) * 4e-6
  train = rows["train"]
  if fsdp == 1:
    assert set(train["collectives"]) == {"all-reduce"}
    # The gradients once, and scalars: nothing of a batch's size.
    moved = train["collective_mb"]["all-reduce"]
    np.testing.assert_allclose(moved, megabytes, rtol=0.02)
    assert rows["inference"]["collectives"] == {}
  else:
    allowed = {"all-reduce", "all-gather", "reduce-scatter", "all-to-all"}
    assert set(train["collectives"]) <= allowed
    assert "all-gather" in train["collectives"]
    assert sum(train["collective_mb"].values()) < 6 * megabytes
  assert train["fits"] and 0 < train["memory_share"] < 1
  assert train["roofline_ms"] >= train["arithmetic_ms"] > 0
  used = train["arguments_mib"] + train["temporaries_mib"]
  assert train["memory_mib"] == pytest.approx(used, rel=0.1)


def test_the_train_step_is_compiled_for_every_phase():
  config = base.get_config("smoke")
  config.train.progressive = ((3, 16, 8), (1, 24, 16))
  rows = _report(config, steps=("train",))
  sizes = [(row["batch_size"], row["patch_size"]) for row in rows]
  assert sizes == [(8, 16), (16, 24)]


def test_a_batch_that_the_devices_cannot_share_is_refused():
  config = base.get_config("smoke")
  config.train.batch_size = 12
  with pytest.raises(
    ValueError, match="train.batch_size=12 must be a multiple"
  ):
    _report(config)
  config.mesh.fsdp = 3
  with pytest.raises(ValueError, match="fsdp=3 does not use the 8 devices"):
    _report(config)


def test_a_program_that_the_compiler_finds_too_large_is_a_row():
  class Lowered:
    def __init__(self, message):
      self.message = message

    def compile(self):
      raise jax.errors.JaxRuntimeError(self.message)

  message = report._compile(Lowered("RESOURCE_EXHAUSTED: 20.1G of 15.75G\nSee"))
  row = report.describe({"step": "train"}, message, 10**9, (), 8, None)
  assert row["fits"] is False
  assert row["compiler_error"] == "RESOURCE_EXHAUSTED: 20.1G of 15.75G"
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
    report._compile(Lowered("INTERNAL: broken"))


def test_parameters_are_split_over_fsdp_in_memory():
  config = base.get_config("smoke")
  mesh = sharding.make_mesh(data=1, fsdp=8)
  _, init = make_step(config, make_model(config.model), mesh)
  shapes = jax.eval_shape(init)
  placed = sharding.state_shardings(shapes, mesh, config.mesh.rules)

  def local_size(shape, where):
    return np.prod(where.shard_shape(shape.shape), dtype=int)

  local = sum(jax.tree.leaves(jax.tree.map(local_size, shapes, placed)))
  whole = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert local < 0.25 * whole


@pytest.mark.parametrize("name", ["h100:8", "v5e:3x9", None])
def test_unknown_topology_is_refused(name):
  with pytest.raises(ValueError, match="name a TPU slice, as v5e:4x8"):
    topology.topology_devices("tpu", name)


def test_a_cpu_has_no_topology():
  assert topology.topology_devices("cpu", None) == jax.devices("cpu")
  with pytest.raises(ValueError, match="v5e:4x8: --platform=cpu compiles for"):
    topology.topology_devices("cpu", "v5e:4x8")


def test_gpus_are_named_by_kind_and_number():
  for name in ("h100:8", "h200", "h200:two", None):
    with pytest.raises(ValueError, match="name H200 GPUs, as h200:8"):
      topology.topology_devices("cuda", name)


def test_devices_that_are_halves_of_chips_are_refused(monkeypatch):
  class Device:
    coords = [0, 0, 0]

  class Description:
    devices = (Device(), Device())

  monkeypatch.setattr(
    topology.topologies, "get_topology_desc", lambda **_: Description()
  )
  with pytest.raises(ValueError, match="v4:2x2x1: its devices are halves"):
    topology.topology_devices("tpu", "v4:2x2x1")


def _attention_bytes(num_tokens, num_keys, windows, *, backward):
  """Temporaries of the gather form, of one head, compiled for the CPU."""
  array = jax.ShapeDtypeStruct
  heads = array((1, windows, num_tokens, 1, 30), jnp.float32)
  shape = (1, windows, num_tokens, num_keys)
  dictionary = Dictionary(
    indices=array(shape, jnp.int32), valid=array(shape, bool)
  )

  def attend(dictionary, q, k, v, scale, bias):
    out = key_semantic_attention(
      q, k, v, dictionary, scale=scale, bias=bias, platform="cpu"
    )
    return out.sum() if backward else out

  function = jax.grad(attend, argnums=(1, 2, 3, 5)) if backward else attend
  square = array((1, num_tokens, num_tokens), jnp.float32)
  lowered = jax.jit(function).lower(
    dictionary, heads, heads, heads, array((1,), jnp.float32), square
  )
  return lowered.compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("backward", [False, True])
def test_gather_needs_memory_for_a_chunk_and_not_for_the_image(
  monkeypatch, backward
):
  """What is live: K keys and values of the queries of one chunk."""
  n, k, row = 256, 128, 2 * 30 * 4  # tokens, keys, bytes of a key and a value
  small = _attention_bytes(n, k, 16, backward=backward)
  large = _attention_bytes(n, k, 64, backward=backward)
  more_gathered = (64 - 16) * n * k * row
  assert large - small < 0.1 * more_gathered
  # Half the keys in chunks of twice the queries. The chunks are large here, or
  # the indices, which half the keys halve, would be most of it.
  monkeypatch.setattr(chunks, "CPU_ELEMENTS", 1 << 22)
  large, half = (
    _attention_bytes(n, keys, 64, backward=backward) for keys in (k, k // 2)
  )
  assert large < 1.3 * half
