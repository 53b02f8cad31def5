"""Training losses: pure functions of prediction and target."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Mean absolute error of two arrays of one shape; a float32 scalar."""
  return jnp.mean(jnp.abs(prediction - target))


def charbonnier(
  prediction: jax.Array, target: jax.Array, *, epsilon: float
) -> jax.Array:
  """Mean of sqrt(d^2 + epsilon^2), a smooth L1.

  Args:
    prediction: `[...]` float, nominal range [0, 1].
    target: same shape.
    epsilon: where the loss turns from squares to magnitudes, on the scale of
      the images. It is squared here (GRL, Restormer: 1e-3); KAIR and BasicSR
      add their eps unsquared, so theirs is the square of this one.

  Returns:
    float32 scalar, at least `epsilon`.

  Source: protocol section 5.2.
  """
  difference = prediction - target
  return jnp.mean(jnp.sqrt(jnp.square(difference) + epsilon**2))


def make_loss(name: str, *, epsilon: float) -> Loss:
  """The loss that a config names.

  Raises:
    ValueError: the name is unknown, or `epsilon` is not positive.
  """
  if epsilon <= 0:
    # At epsilon 0 the gradient of a difference of 0 would be NaN.
    raise ValueError(f"loss {epsilon=} must be positive")
  losses = {
    "l1": l1,
    "charbonnier": functools.partial(charbonnier, epsilon=epsilon),
  }
  if name not in losses:
    raise ValueError(f"unknown loss {name!r}; use one of {', '.join(losses)}")
  return losses[name]
