"""Counts the arithmetic of a traced program."""

import math
from typing import Any

import jax


def count_flops(function: Any, *args: Any) -> int:
  """Counts a function's floating-point operations in products and convolutions.

  They are two per multiply-add, of `dot_general` and `conv_general_dilated`; a
  scan counts once per iteration, where the compilers' own analyses count its
  body once.
  Elementwise work is left out, as usual in the field.

  Args:
    function: to trace; nothing is computed.
    *args: arrays or `jax.ShapeDtypeStruct`.
  """
  return count_traced(jax.make_jaxpr(function)(*args))


def count_traced(jaxpr: Any) -> int:
  """Counts as `count_flops` in a program that is traced already.

  A Pallas kernel counts at every step of its grid, as it computes: with what it
  pads and computes again.
  """
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  total = 0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
      total += _dot_flops(equation)
    elif name == "conv_general_dilated":
      total += _conv_flops(equation)
    times = 1
    if name == "scan":
      times = params["length"]
    elif name == "shard_map":  # its body is what one device does
      times = params["mesh"].size
    elif name == "pallas_call":
      times = math.prod(params["grid_mapping"].grid)
    for value in params.values():
      for inner in value if isinstance(value, tuple | list) else [value]:
        if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
          total += times * count_traced(inner)
  return total


def _dot_flops(equation: Any) -> int:
  """Counts 2 x output elements x contracted length."""
  (contracted, _), _ = equation.params["dimension_numbers"]
  left = equation.invars[0].aval.shape
  length = math.prod(left[axis] for axis in contracted)
  return 2 * math.prod(equation.outvars[0].aval.shape) * length


def _conv_flops(equation: Any) -> int:
  """Counts 2 x output elements x kernel elements per output channel.

  So it does of the transposed convolutions of a backward pass, whose dilations
  only insert zeros; those products are counted, as a matrix unit does them.
  """
  numbers = equation.params["dimension_numbers"]
  kernel = equation.invars[1].aval.shape
  out_channels = kernel[numbers.rhs_spec[0]]
  per_output = math.prod(kernel) // out_channels
  return 2 * math.prod(equation.outvars[0].aval.shape) * per_output
