"""Arithmetic of a network by k: what the method needs, what a form does."""

import functools

import jax
import jax.numpy as jnp

from semanir_jax.machine.flops import count_flops
from semanir_jax.models.parameters import abstract_params
from semanir_jax.models.semanir import SemanIR


def gigaflops(
  model: SemanIR, sides: tuple[int, int], num_keys: int
) -> dict[str, float]:
  """Products and convolutions of one forward pass, 1e9 operations.

  A multiply-add is two. Elementwise work, the ranking of the similarities and
  memory are left out.

  Args:
    model: the network.
    sides: height and width of the input, px.
    num_keys: k.

  Returns:
    "gigaflops": every query meets k keys, as the method promises and as the
    gather form with room for k keys does it. "gigaflops_mask": the mask form,
    which computes all N x N logits whatever k is. Both hold the N x N
    similarities of every dictionary.
  """
  sparse = model.clone(num_keys=num_keys, max_keys=num_keys)
  sparse = sparse.with_execution(implementation="gather")
  dense = model.with_execution(implementation="mask")
  return {
    "gigaflops": _count(sparse, sides),
    "gigaflops_mask": _count(dense, sides),
  }


@functools.cache  # of the mask form at every k
def _count(model: SemanIR, sides: tuple[int, int]) -> float:
  model = model.with_execution(platform="cpu")
  image = jax.ShapeDtypeStruct((1, *sides, model.in_channels), jnp.float32)
  params = abstract_params(model)
  apply = lambda params, image: model.apply({"params": params}, image)  # noqa: E731
  return count_flops(apply, params, image) / 1e9
