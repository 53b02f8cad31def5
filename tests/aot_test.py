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
from semanir_jax import flops, sharding
from semanir_jax.checkpoint import make_model
from semanir_jax.training import aot, hlo
from semanir_jax.training.loop import make_step

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


@pytest.mark.parametrize("fsdp", [1, 4])
def test_only_reductions_and_fsdp_gathers_cross_devices(fsdp):
  config = base.get_config("smoke")
  config.mesh.fsdp = fsdp
  steps = aot.compile_steps(config, jax.devices(), "cpu")
  rows = {s[0]: aot.describe(*s, 8, aot.CHIPS["v5e"]) for s in steps}
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
  assert train["fits"] and train["roofline_ms"] > 0
  json.dumps(rows)


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


def test_unknown_topology_is_refused():
  with pytest.raises(ValueError, match="v5e:4x8; known chips"):
    aot.topology_devices("tpu", "h100:8")
