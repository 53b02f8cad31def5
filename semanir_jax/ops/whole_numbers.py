"""Whole numbers, as k, the way callers give them."""

import operator

import jax
from jax import core


def whole_number(
  value: jax.Array | int, name: str = "num_keys"
) -> jax.Array | int:
  """Returns a number as an int, whatever type it has; a traced one as it is.

  Raises:
    ValueError: it is no whole number.
  """
  if isinstance(value, core.Tracer):
    return value
  try:
    if isinstance(value, bool):  # an int to Python, hardly meant as k = 1
      raise TypeError("a truth value")
    return operator.index(value)
  except TypeError as error:
    raise ValueError(f"{name}={value!r}: give a whole number") from error
