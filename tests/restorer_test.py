"""Restoring batches: padding, devices and k change nothing but the speed."""

import functools
import re
from typing import Any

import jax
import numpy as np
import pytest

from semanir_jax.inference import restorer
from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine import sharding
from semanir_jax.models.semanir import SemanIR
from tests import small


def _images(model: SemanIR, *shape: int) -> np.ndarray:
  rng = np.random.RandomState(0)
  return rng.uniform(0, 1, (*shape, model.in_channels)).astype(np.float32)


@functools.cache
def _apply(model: SemanIR) -> Any:
  """The network as it is, with its own padding."""
  return jax.jit(
    lambda images, num_keys: model.apply(
      {"params": small.params(model)}, images, num_keys=num_keys
    )
  )


@pytest.mark.parametrize(
  ("model", "size"),
  [
    (small.USHAPE, (1, 1)),
    (small.DEEP_USHAPE, (9, 7)),
    (small.COLUMNAR, (1, 6)),
    (small.COLUMNAR, (8, 4)),
  ],
)
def test_padding_on_the_host_equals_padding_in_the_model(model, size):
  images = _images(model, 2, *size)
  restored = Restorer(model, small.params(model))(images)
  height, width = (side * model.scale for side in size)
  assert restored.shape == (2, height, width, model.out_channels)
  assert restored.dtype == np.float32
  expected = _apply(model)(images, model.num_keys)
  np.testing.assert_allclose(restored, expected, atol=1e-5)


def _programs() -> int:
  """Programs compiled for restorers so far."""
  return restorer._run._cache_size()


def test_sizes_from_1_to_65_share_five_programs():
  model = small.USHAPE.clone(window_size=16)
  restorer = Restorer(model, small.params(small.USHAPE))
  before = _programs()
  for size in range(1, 66):
    images = _images(model, 1, size, size)
    restored = restorer(images)
    assert restored.shape == (1, size, size, 3)
    # Of random weights, but added to the input: up to 1.83 over these sizes.
    assert 0 < np.abs(restored - images).max() < 3
  assert _programs() - before <= 5  # of sides 16, 32, 48, 64 and 80


def test_another_restorer_of_the_same_network_compiles_nothing():
  params = small.params(small.USHAPE)
  images = _images(small.USHAPE, 1, 4, 4)
  a = Restorer(small.USHAPE, params)(images, num_keys=3)
  before = _programs()
  doubled = jax.tree.map(lambda x: 2 * x, params)
  b = Restorer(small.USHAPE.clone(), doubled)(images, num_keys=16)
  assert _programs() == before
  assert (a != b).any()


@pytest.mark.parametrize("count", [1, 8, 11])
def test_a_mesh_restores_any_number_of_images_alike(count):
  # The parameters lie on one device, where a checkpoint is loaded to.
  params = jax.device_put(small.params(small.USHAPE), jax.devices()[0])
  images = _images(small.USHAPE, count, 5, 7)
  mesh = sharding.make_mesh(data=-1, fsdp=1)
  restored = Restorer(small.USHAPE, params, mesh=mesh)(images, num_keys=5)
  assert restored.shape == images.shape
  single = Restorer(small.USHAPE, params)
  for i in range(0, count, 5):
    expected = single(images[i : i + 1], num_keys=5)[0]
    np.testing.assert_allclose(restored[i], expected, atol=1e-5)


def test_parameters_split_over_devices_are_made_whole():
  params = small.params(small.USHAPE)
  rules = ((".*", "fsdp"),)
  mesh = sharding.make_mesh(data=2, fsdp=4)
  places = sharding.state_shardings(params, mesh, rules)
  split = jax.device_put(params, places)
  local = sharding.make_local_mesh()
  restorer = Restorer(small.USHAPE, split, mesh=local)
  assert all(x.is_fully_replicated for x in jax.tree.leaves(restorer.params))
  small.assert_equal_trees(restorer.params, params)
  images = _images(small.USHAPE, 3, 4, 4)
  expected = Restorer(small.USHAPE, params)(images)
  np.testing.assert_allclose(restorer(images), expected, atol=1e-5)


def test_devices_restore_without_asking_each_other():
  model, mesh = small.USHAPE, sharding.make_local_mesh()
  images = _images(model, mesh.size, 8, 8)
  step = jax.jit(restorer.forward(model, mesh))
  text = (
    step.lower(small.params(model), images, np.int32(8)).compile().as_text()
  )
  assert not re.search("all-|collective-|reduce-scatter", text)
  assert re.search(r"f32\[1,8,8,3\]", text)  # one image per device


def test_k_is_the_one_asked_for():
  restorer = Restorer(small.USHAPE, small.params(small.USHAPE))
  images = _images(small.USHAPE, 2, 4, 4)
  own = restorer(images)
  np.testing.assert_array_equal(own, restorer(images, num_keys=8))
  for k in (1, 16):
    np.testing.assert_allclose(
      restorer(images, num_keys=k), _apply(small.USHAPE)(images, k), atol=1e-5
    )
    assert (restorer(images, num_keys=k) != own).any()


@pytest.mark.parametrize("num_keys", [0, -1, np.int64(17)])
def test_k_out_of_range_is_refused(num_keys):
  restorer = Restorer(small.USHAPE, small.params(small.USHAPE))
  with pytest.raises(ValueError, match=rf"num_keys={num_keys} .*\[1, 16\]"):
    restorer(_images(small.USHAPE, 1, 4, 4), num_keys=num_keys)


def test_a_k_that_is_no_whole_number_is_refused():
  restorer = Restorer(small.USHAPE, small.params(small.USHAPE))
  with pytest.raises(ValueError, match=r"num_keys=12\.5: give a whole number"):
    restorer(_images(small.USHAPE, 1, 4, 4), num_keys=12.5)


def test_other_channels_are_refused():
  restorer = Restorer(small.USHAPE, small.params(small.USHAPE))
  with pytest.raises(ValueError, match="of 1 channels; this network takes 3"):
    restorer(_images(small.USHAPE, 1, 4, 4)[..., :1])
