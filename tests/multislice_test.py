"""Several TPU slices, played by CPU devices.

multislice_tpu_lowering_cases.py reads what crosses between them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.machine import sharding
from semanir_jax.training.gradient import make_mean_gradient
from semanir_jax.training.losses import make_loss
from tests import small

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class _Device:
  """What a mesh asks of a device."""

  id: int
  process_index: int
  slice_index: int
  platform: str = "tpu"


def test_each_slice_is_a_row_of_its_own():
  # Processes may be numbered across slices.
  devices = [_Device(i, i // 2 % 4, i % 2) for i in range(8)]
  mesh = sharding.make_mesh(data=-1, fsdp=2, slices=2, devices=devices)
  assert dict(mesh.shape) == {"slice": 2, "data": 2, "fsdp": 2}
  for number, row in enumerate(mesh.devices):
    assert {device.slice_index for device in row.flat} == {number}
  with pytest.raises(ValueError, match="slices=4, but .* of 2 slices"):
    sharding.make_mesh(data=-1, fsdp=1, slices=4, devices=devices)


def test_a_number_of_slices_that_does_not_divide_is_refused():
  with pytest.raises(ValueError, match="mesh slices=3 x data=2 x fsdp=1 does"):
    sharding.make_mesh(data=-1, fsdp=1, slices=3)


def test_the_gradient_of_two_slices_is_that_of_one_device():
  model = small.COLUMNAR
  state = small.state(model)
  rng = np.random.default_rng(0)
  batch = {
    name: jnp.asarray(rng.random((8, side, side, 3)), jnp.float32)
    for name, side in (("lq", 8), ("hq", 8 * model.scale))
  }

  def gradient(mesh: jax.sharding.Mesh):
    loss = make_loss("charbonnier", form="squared", epsilon=1e-3, fft_weight=0)
    mean = make_mean_gradient(model, loss, mesh, accumulate=1)
    rows = sharding.batch_sharding(mesh)
    here = jax.device_put(batch, rows)
    params = jax.device_put(state.params, sharding.replicated(mesh))
    k = jnp.asarray(model.num_keys)
    return jax.jit(mean)(params, here, None, k)

  loss, grads = gradient(sharding.make_mesh(data=-1, fsdp=1, slices=2))
  one_loss, one_grads = gradient(small.one_device_mesh())
  np.testing.assert_allclose(loss, one_loss, rtol=1e-5)
  for a, b in zip(
    jax.tree.leaves(grads), jax.tree.leaves(one_grads), strict=True
  ):
    largest = np.abs(b).max()
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * largest)
