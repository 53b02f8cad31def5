"""Where arrays lie, and that it does not change what is computed."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from semanir_jax.aot import hlo
from semanir_jax.machine import sharding
from semanir_jax.training.losses import make_loss
from semanir_jax.training.step import create_state, make_train_step
from tests import small

pytestmark = pytest.mark.slow

RULES = ((".*", "fsdp"),)


def _specs(
  shapes: dict[str, tuple[int, ...]], rules: Any, fsdp: int = 4
) -> dict[str, PartitionSpec]:
  mesh = sharding.make_mesh(data=-1, fsdp=fsdp)
  tree = {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in shapes.items()
  }
  placed = sharding.state_shardings(tree, mesh, rules)
  return {name: leaf.spec for name, leaf in placed.items()}


@pytest.mark.parametrize(
  ("shape", "spec"),
  [
    ((8, 16), (None, "fsdp")),
    ((16, 8), ("fsdp",)),
    ((3, 3, 8, 6), (None, None, "fsdp")),
    ((400, 5, 12), ("fsdp",)),
    ((402, 5, 12), (None, None, "fsdp")),  # 4 does not divide the largest
    ((8, 8), ("fsdp",)),  # the first of two equals
    ((3, 5), ()),
    ((), ()),
    ((0, 3), ()),
  ],
)
def test_fsdp_splits_the_largest_axis_that_can_be(shape, spec):
  assert _specs({"a": shape}, RULES)["a"] == PartitionSpec(*spec)


def test_one_device_along_fsdp_splits_nothing():
  assert _specs({"a": (8, 16)}, RULES, fsdp=1)["a"] == PartitionSpec()


def test_the_first_rule_that_is_found_decides():
  shapes = {"mlp_kernel": (8, 8), "mlp_bias": (8,), "norm_scale": (8,)}
  rules = (("bias$", "replicate"), ("mlp", "fsdp"), (".*", "replicate"))
  split, whole = PartitionSpec("fsdp"), PartitionSpec()
  assert _specs(shapes, rules) == {
    "mlp_kernel": split,
    "mlp_bias": whole,
    "norm_scale": whole,
  }
  assert _specs(shapes, rules[1:])["mlp_bias"] == split


def test_rules_see_the_path_from_the_state_down():
  mesh = sharding.make_mesh(data=-1, fsdp=4)
  rules = (
    ("^params/stage_0/layers/mlp/expand/kernel$", "fsdp"),
    ("^opt_state/1/mu/", "fsdp"),
    ("", "replicate"),
  )
  placed = sharding.state_shardings(small.state(small.USHAPE), mesh, rules)
  kernel = placed.params["stage_0"]["layers"]["mlp"]["expand"]["kernel"]
  assert kernel.spec == PartitionSpec(None, None, "fsdp")
  assert placed.opt_state[1].mu["conv_first"]["conv"]["bias"].spec == (
    PartitionSpec("fsdp")
  )
  assert placed.params["conv_first"]["conv"]["bias"].spec == PartitionSpec()


@pytest.mark.parametrize(
  ("rules", "message"),
  [
    ((("b", "fsdp"),), "no rule of config.mesh.rules matches a"),
    (((".*", "split"),), "placement 'split'; use 'fsdp' or 'replicate'"),
    ((("(", "fsdp"),), r"config.mesh.rules: '\(' is no regular expression"),
  ],
)
def test_rules_that_decide_nothing_are_refused(rules, message):
  with pytest.raises(ValueError, match=message):
    _specs({"a": (8,)}, rules)


@pytest.mark.parametrize(
  ("data", "fsdp", "shape"), [(-1, 1, (8, 1)), (-1, 4, (2, 4)), (1, 8, (1, 8))]
)
def test_a_mesh_takes_all_devices(data, fsdp, shape):
  mesh = sharding.make_mesh(data=data, fsdp=fsdp)
  assert tuple(mesh.shape.items()) == (("data", shape[0]), ("fsdp", shape[1]))


@dataclasses.dataclass(frozen=True)
class _Device:
  """What a mesh asks of a device."""

  id: int
  process_index: int
  platform: str = "tpu"


@pytest.mark.parametrize("fsdp", [1, 2, 16])
def test_a_mesh_goes_process_by_process(fsdp):
  # The hosts of a v6e slice of 4x8 have 2x2 of the grid of its chips each.
  devices = [
    _Device(8 * row + column, 4 * (row // 2) + column // 2)
    for row in range(4)
    for column in range(8)
  ]
  mesh = sharding.make_mesh(data=-1, fsdp=fsdp, devices=devices)
  processes = [device.process_index for device in mesh.devices.flat]
  assert processes == [i for i in range(8) for _ in range(4)]
  assert [d.id for d in mesh.devices.flat[:4]] == [0, 1, 8, 9]


@pytest.mark.parametrize(
  ("data", "fsdp"), [(4, 1), (-1, 3), (-1, 16), (0, 8), (8, 0), (-2, -4)]
)
def test_a_mesh_of_another_number_of_devices_is_refused(data, fsdp):
  with pytest.raises(ValueError, match="the 8 devices; set config.mesh.data"):
    sharding.make_mesh(data=data, fsdp=fsdp)


DROPPING = small.COLUMNAR.clone(depths=(2,), drop_path_rate=0.5)


@functools.cache
def _run(
  data: int, fsdp: int, accumulate: int
) -> tuple[Any, Any, Any, hlo.Traffic]:
  """Two steps from the seed on a mesh, or on one device where `data` is 0.

  Adam's epsilon is large, so that its division does not enlarge the rounding of
  gradients that are nearly zero.

  Returns:
    Initial and last state, last metrics, and the traffic of the program.
  """
  optimizer = small.optimizer(beta2=0.99, epsilon=1e-2)
  init = functools.partial(
    create_state, DROPPING, optimizer, seed=0, ema_decay=0.5
  )
  mesh = small.one_device_mesh()
  if data:
    mesh = sharding.make_mesh(data=data, fsdp=fsdp)
  place = sharding.state_shardings(jax.eval_shape(init), mesh, RULES)
  step = make_train_step(
    DROPPING,
    make_loss("charbonnier", form="squared", epsilon=1e-3, fft_weight=0.0),
    optimizer,
    lambda _: 1e-2,
    mesh,
    ema_decay=0.5,
    random_num_keys=(4, 12),
    accumulate=accumulate,
  )
  initial = state = jax.jit(init, out_shardings=place)()
  run = jax.jit(step, out_shardings=(place, None))
  rows = sharding.batch_sharding(mesh)
  batches = [
    sharding.to_global(small.batch(DROPPING, count=16, seed=seed), rows)
    for seed in range(2)
  ]
  run = run.lower(state, batches[0]).compile()
  for batch in batches:
    state, metrics = run(state, batch)
  return initial, state, metrics, hlo.analyse(run.as_text())


@pytest.mark.parametrize(
  ("data", "fsdp", "accumulate"), [(8, 1, 1), (2, 4, 1), (8, 1, 2), (2, 4, 2)]
)
def test_eight_devices_compute_what_one_does(data, fsdp, accumulate):
  """Images, drop path and k alike, in whole batches and in parts."""
  one, eight = _run(0, 0, 1)[:3], _run(data, fsdp, accumulate)[:3]
  small.assert_equal_trees(jax.device_get(one[0]), jax.device_get(eight[0]))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
    assert len(b.sharding.device_set) == 8
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("data", "fsdp"), [(8, 1), (2, 4)])
def test_parts_of_a_batch_cross_devices_together(data, fsdp):
  whole, parts = _run(data, fsdp, 1)[3], _run(data, fsdp, 2)[3]
  assert parts.collective_counts == whole.collective_counts
  assert parts.collective_bytes == whole.collective_bytes
  if fsdp == 1:
    # The gradient and the loss, once.
    params = _run(data, fsdp, 1)[0].params
    size = 4 * (1 + sum(leaf.size for leaf in jax.tree.leaves(params)))
    assert parts.collective_bytes == {"all-reduce": size}


def test_fsdp_stores_a_quarter_of_the_state_on_each_device():
  initial, state, _, _ = _run(2, 4, 1)
  for tree in (initial, state):
    for part in (tree.params, tree.ema_params, tree.opt_state[1].nu):
      leaf = part["stage_0"]["layers"]["mlp"]["expand"]["kernel"]
      assert leaf.shape == (2, 8, 16)
      assert leaf.addressable_shards[0].data.shape == (2, 8, 4)
    stored = sum(
      leaf.addressable_shards[0].data.size for leaf in jax.tree.leaves(tree)
    )
    whole = sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert stored < 0.3 * whole


def test_what_is_split_over_processes_is_gathered_by_one_program(
  monkeypatch, caplog
):
  monkeypatch.setattr(sharding, "_is_split", lambda leaf: True)
  mesh = sharding.make_mesh(data=2, fsdp=4)
  split = jax.device_put(np.zeros((8, 24)), sharding.batch_sharding(mesh))
  local = sharding.make_local_mesh()
  for compiled in (True, False):
    with jax.log_compiles():
      found = sharding.to_local([split], local)
    assert ("Compiling" in caplog.text) == compiled
    caplog.clear()
  np.testing.assert_array_equal(found[0], split)


def test_a_batch_is_split_over_all_devices():
  mesh = sharding.make_mesh(data=2, fsdp=4)
  rows = np.arange(16, dtype=np.float32).reshape(16, 1)
  split = sharding.to_global({"a": rows}, sharding.batch_sharding(mesh))["a"]
  assert [shard.data.shape for shard in split.addressable_shards] == [
    (2, 1)
  ] * 8
  np.testing.assert_array_equal(split, rows)
