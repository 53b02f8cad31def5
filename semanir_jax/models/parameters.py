"""Shapes of a network's parameters; nothing is computed."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from semanir_jax.models.semanir import SemanIR


def abstract_params(model: SemanIR) -> Mapping[str, Any]:
  """Returns shapes and types of a model's parameters, by a trace."""
  side = model.size_multiple
  images = jax.ShapeDtypeStruct((1, side, side, model.in_channels), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), images)["params"]
