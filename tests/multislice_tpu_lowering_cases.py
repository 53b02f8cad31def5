"""What crosses between two TPU slices, compiled without one; see
tpu_lowering_test.py.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp

from semanir_jax.aot import hlo, topology
from semanir_jax.machine import sharding
from semanir_jax.training.gradient import make_mean_gradient
from semanir_jax.training.losses import make_loss

jax.config.update("jax_disable_most_optimizations", False)

DEVICES = 4  # of a slice


class Scaled:
  """Is a network as far as a gradient asks for one."""

  def apply(self, variables: Any, images: jax.Array, **_: Any) -> jax.Array:
    return images * sum(jnp.sum(leaf) for leaf in variables["params"].values())


def test_gradients_meet_in_a_slice_and_each_device_sends_its_part():
  devices = topology.topology_devices("tpu", "v5e:2x2", 2)
  mesh = sharding.make_mesh(data=-1, fsdp=1, slices=2, devices=devices)
  assert dict(mesh.shape) == {"slice": 2, "data": DEVICES, "fsdp": 1}
  loss = make_loss("charbonnier", form="squared", epsilon=1e-3, fft_weight=0)
  model: Any = Scaled()
  mean = make_mean_gradient(model, loss, mesh, accumulate=1)
  params = {
    "kernel": jax.ShapeDtypeStruct((180, 720), jnp.float32),
    "stacked": jax.ShapeDtypeStruct((6, 180, 180), jnp.float32),
  }
  images = jax.ShapeDtypeStruct((len(devices), 8, 8, 3), jnp.float32)
  num_keys = jax.ShapeDtypeStruct((), jnp.int32)
  arguments = (params, {"lq": images, "hq": images}, None, num_keys)
  text = jax.jit(mean).lower(*arguments).compile().as_text()
  groups = re.findall(r" all-reduce(?:-start)?\(.*groups=(\{\{.*?\}\})", text)
  assert groups and set(groups) == {"{{0,1,2,3}}"}, groups
  traffic = hlo.analyse(text)
  whole = 4 * sum(leaf.size for leaf in params.values())
  reduced = traffic.collective_bytes["all-reduce"]
  assert reduced >= whole and traffic.slice_counts >= 1
  # Filled up to whole tiles, and the loss.
  assert whole / DEVICES < traffic.slice_bytes < 1.5 * whole / DEVICES
