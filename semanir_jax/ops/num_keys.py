"""k, as callers give it."""

import operator

import jax


def whole_number(num_keys: jax.Array | int) -> jax.Array | int:
  """k as an int, whatever type it has; a traced k as it is.

  Raises:
    ValueError: it is no whole number.
  """
  if isinstance(num_keys, jax.core.Tracer):
    return num_keys
  try:
    if isinstance(num_keys, bool):  # an int to Python, hardly meant as k = 1
      raise TypeError("a truth value")
    return operator.index(num_keys)
  except TypeError as error:
    raise ValueError(f"num_keys={num_keys!r}: give a whole number") from error
