"""Looks into traced programs."""

from collections.abc import Iterator
from typing import Any


def equations(jaxpr: Any) -> Iterator[Any]:
  """All equations of a jaxpr and of the jaxprs inside it (scan, jit, ...)."""
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  for equation in jaxpr.eqns:
    yield equation
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple | list) else [value]:
        if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
          yield from equations(inner)
