"""Losses against numbers worked out by hand."""

import math

import jax
import jax.numpy as jnp
import pytest

from semanir_jax.losses import charbonnier, l1, make_loss

# Differences 0.3, -0.1, 0 and 0.4.
A = jnp.array([0.5, 0.2, 0.7, 1.0])
B = jnp.array([0.2, 0.3, 0.7, 0.6])


def test_l1_is_the_mean_magnitude():
  assert float(l1(A, B)) == pytest.approx(0.2, abs=1e-7)


def test_charbonnier_squares_its_epsilon():
  # Roots of 0.09, 0.01, 0 and 0.16, each plus 0.01.
  roots = [math.sqrt(0.1), math.sqrt(0.02), 0.1, math.sqrt(0.17)]
  loss = charbonnier(A, B, epsilon=0.1)
  assert float(loss) == pytest.approx(sum(roots) / 4, abs=1e-6)
  assert float(charbonnier(A, A, epsilon=1e-3)) == pytest.approx(1e-3)


def test_charbonnier_is_flat_at_zero_and_nearly_l1_far_from_it():
  gradient = jax.grad(charbonnier)(A, B, epsilon=1e-3)
  # d / sqrt(d^2 + epsilon^2), over four elements.
  expected = [0.25, -0.25, 0.0, 0.25]
  assert gradient.tolist() == pytest.approx(expected, abs=1e-4)
  assert float(gradient[2]) == 0.0


def test_the_named_loss_is_that_loss():
  assert float(make_loss("l1", epsilon=1e-3)(A, B)) == pytest.approx(0.2)
  loss = make_loss("charbonnier", epsilon=0.1)(A, B)
  assert float(loss) == float(charbonnier(A, B, epsilon=0.1))


def test_what_is_no_loss_is_refused():
  with pytest.raises(ValueError, match="'l2'; use one of l1, charbonnier"):
    make_loss("l2", epsilon=1e-3)
  # The gradient of a root at 0 is not finite.
  with pytest.raises(ValueError, match="epsilon=0.0 must be positive"):
    make_loss("charbonnier", epsilon=0.0)
