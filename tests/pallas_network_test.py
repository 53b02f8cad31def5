"""A network with the TPU's kernels, interpreted, is the network without."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.aot import hlo
from semanir_jax.machine import sharding
from semanir_jax.models.key_search import KeySearch
from semanir_jax.models.semanir import SemanIR
from semanir_jax.ops import pallas_mode
from semanir_jax.training.gradient import make_mean_gradient
from semanir_jax.training.losses import make_loss
from semanir_jax.training.step import create_state
from tests import small

pytestmark = pytest.mark.slow

# Four windows of 64 tokens; those of the second stage are shifted.
MODEL = SemanIR(
  depths=(2, 1),
  scale=2,
  dim=12,
  num_heads=2,
  window_size=8,
  num_keys=20,
  max_keys=64,
).with_execution(platform="tpu", implementation="pallas")
LOSS = make_loss("charbonnier", form="squared", epsilon=1e-3, fft_weight=0.0)
SCALES = jnp.asarray(np.random.default_rng(0).uniform(0, 2, (2, 3, 2)))


@functools.cache
def _gradient(model, num_devices):
  """Loss, gradient and traffic of a batch of two on some devices."""
  mesh = sharding.make_mesh(
    data=num_devices, fsdp=1, devices=jax.devices()[:num_devices]
  )
  mean_gradient = make_mean_gradient(model, LOSS, mesh, accumulate=1)
  batch = jax.tree.map(jnp.asarray, small.batch(MODEL, side=16))
  arguments = (small.params(_mask()), batch, SCALES, jnp.asarray(20))
  with pallas_mode.interpret():
    compiled = jax.jit(mean_gradient).lower(*arguments).compile()
  return compiled(*arguments), hlo.analyse(compiled.as_text())


def _mask(model=MODEL):
  return model.with_execution(platform="cpu", implementation="mask")


def _assert_close(found, expected):
  for a, b in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    scale = max(np.abs(b).max(), 1e-3)
    np.testing.assert_allclose(a / scale, b / scale, atol=2e-4)


def test_loss_and_gradient_are_those_of_the_mask_form():
  _assert_close(_gradient(MODEL, 1)[0], _gradient(_mask(), 1)[0])


def test_two_devices_compute_what_one_does_and_reduce_once():
  found, traffic = _gradient(MODEL, 2)
  _assert_close(found, _gradient(MODEL, 1)[0])
  assert set(traffic.collective_counts) == {"all-reduce"}


@pytest.mark.parametrize("options", [{"remat": False}, {"unroll": True}])
def test_other_ways_to_train_compute_the_same(options):
  model = MODEL.with_execution(**options)
  _assert_close(_gradient(model, 1)[0], _gradient(MODEL, 1)[0])


def test_layers_that_find_their_own_keys():
  model = MODEL.clone(key_search=KeySearch(in_every_layer=True))
  _assert_close(_gradient(model, 1)[0], _gradient(_mask(model), 1)[0])


def test_parameters_are_those_of_every_form():
  images = jnp.zeros((1, 8, 8, 3))
  with pallas_mode.interpret():
    made = jax.eval_shape(MODEL.init, jax.random.key(0), images)
  assert jax.tree.map(lambda x: (x.shape, x.dtype), made["params"]) == (
    jax.tree.map(lambda x: (x.shape, x.dtype), small.params(_mask()))
  )


def test_a_state_is_made_on_several_tpus():
  init = functools.partial(
    create_state, MODEL, small.optimizer(), seed=0, ema_decay=0.5
  )
  mesh = sharding.make_mesh(data=2, fsdp=1, devices=jax.devices()[:2])
  make = jax.jit(init, out_shardings=sharding.replicated(mesh))
  traced = make.trace()
  # Unused kernels would be dropped from the program; here there are none.
  assert "pallas_call" not in str(traced.jaxpr)
  text = traced.lower(lowering_platforms=("tpu",)).as_text()
  assert "tpu_custom_call" not in text


def test_a_network_is_exported_for_a_tpu_with_its_kernels():
  large = MODEL.clone(window_size=16, max_keys=256)
  model = large.with_execution(implementation=None, dtype=jnp.bfloat16)
  run = jax.jit(lambda x: model.apply({"params": small.params(_mask())}, x))
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  program = jax.export.export(run, platforms=("tpu",))(images)
  text = program.mlir_module()
  # A dictionary of each stage, and the attention of its layers, a loop each.
  assert text.count("tpu_custom_call") == 4
  assert program.out_avals[0].shape == (1, 64, 64, 3)
