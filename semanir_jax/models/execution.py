"""How a network is computed; what it computes is the same."""

import dataclasses

import jax.numpy as jnp
from jax.typing import DTypeLike

from semanir_jax.ops import check_implementation

PLATFORMS = ("cpu", "gpu", "tpu")


@dataclasses.dataclass(frozen=True)
class Execution:
  """Says how a network is computed.

  No field changes a parameter's name, shape or type, and none but `dtype`
  changes a result beyond rounding.

  Attributes:
    implementation: form of the attention, None to choose
      (`ops.choose_implementation`).
    platform: "cpu", "gpu" or "tpu" where the program is compiled ahead of time
      for a machine of another kind; None for the platform JAX runs on.
    remat: keep of every layer the results of its products (`layers.KEPT`) and
      compute the rest again in the backward pass. Training takes a half to a
      fifth of the memory, less traffic and hardly more arithmetic by the
      compilers of TPUs and GPUs (docs/scaling.md), and no more time on a CPU.
    unroll: let the scan of a stage take all its layers in one turn. Between
      turns it copies what the backward pass needs into arrays of all layers and
      out of them again; without, training takes half the memory on a GPU or TPU
      by their compilers (docs/scaling.md), and compiles for longer. The
      parameters stay stacked.
    dtype: operand type of the matrix products ("bfloat16" or "float32", which
      TPUs and newer GPUs round unless `jax_default_matmul_precision` is set).

  Raises:
    ValueError: the implementation or the platform is unknown.
  """

  implementation: str | None = None
  platform: str | None = None
  remat: bool = True
  unroll: bool = False
  dtype: DTypeLike = jnp.float32

  def __post_init__(self) -> None:
    check_implementation(self.implementation)
    if self.platform not in (*PLATFORMS, None):
      raise ValueError(
        f"platform={self.platform!r}: use one of {(*PLATFORMS, None)}"
      )
