"""Losses against numbers worked out by hand, and against float64 numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.training.losses import (
  charbonnier,
  fourier_l1,
  l1,
  l2,
  make_loss,
)

# Differences 0.3, -0.1, 0 and 0.4.
A = jnp.array([0.5, 0.2, 0.7, 1.0])
B = jnp.array([0.2, 0.3, 0.7, 0.6])
OPTIONS = {"form": "squared", "epsilon": 1e-3, "fft_weight": 0.0}


def _images(*shape: int, seed: int = 0) -> list[np.ndarray]:
  """Prediction and target, float64."""
  return list(np.random.default_rng(seed).uniform(0, 1, (2, *shape)))


def test_l1_is_the_mean_magnitude():
  assert float(l1(A, B)) == pytest.approx(0.2, abs=1e-7)


def test_l2_is_the_mean_square():
  assert float(l2(A, B)) == pytest.approx((0.09 + 0.01 + 0.16) / 4, abs=1e-7)


@pytest.mark.parametrize("form", ["squared", "added"])
def test_charbonnier_by_hand(form):
  # Roots of 0.09, 0.01, 0 and 0.16, each plus 0.01.
  roots = [math.sqrt(0.1), math.sqrt(0.02), 0.1, math.sqrt(0.17)]
  epsilon = {"squared": 0.1, "added": 0.01}[form]
  loss = charbonnier(A, B, form=form, epsilon=epsilon)
  assert float(loss) == pytest.approx(sum(roots) / 4, abs=1e-6)


@pytest.mark.parametrize(
  ("form", "epsilon", "floor"),
  [
    pytest.param("squared", 1e-3, 1e-6, id="GRL, Restormer"),
    pytest.param("added", 1e-9, 1e-9, id="KAIR"),
    pytest.param("added", 1e-12, 1e-12, id="BasicSR"),
  ],
)
def test_the_three_losses_called_charbonnier(form, epsilon, floor):
  a, b = _images(2, 5, 7, 3)
  b[0] = a[0] + 1e-5  # differences near the floor of the root
  loss = make_loss("charbonnier", form=form, epsilon=epsilon, fft_weight=0.0)
  a, b = np.float32(a), np.float32(b)
  roots = np.sqrt((a.astype(float) - b) ** 2 + floor)
  assert float(loss(a, b)) == pytest.approx(roots.mean(), rel=1e-5)
  assert float(loss(a, a)) == pytest.approx(floor**0.5, rel=1e-5)
  assert np.all(jax.grad(loss)(a, a) == 0)


def test_charbonnier_is_flat_at_zero_and_nearly_l1_far_from_it():
  gradient = jax.grad(charbonnier)(A, B, form="squared", epsilon=1e-3)
  # d / sqrt(d^2 + epsilon^2), over four elements.
  expected = [0.25, -0.25, 0.0, 0.25]
  assert gradient.tolist() == pytest.approx(expected, abs=1e-4)
  assert float(gradient[2]) == 0.0


# Even and odd sides: an even width has a column that no other mirrors.
@pytest.mark.parametrize("sides", [(6, 8), (6, 7), (5, 8), (1, 1), (2, 2)])
def test_fourier_l1_is_over_the_whole_spectrum(sides):
  a, b = np.float32(_images(2, *sides, 3))
  spectra = [np.fft.fft2(x.astype(float), axes=(1, 2)) for x in (a, b)]
  parts = spectra[0] - spectra[1]
  expected = np.mean([np.abs(parts.real), np.abs(parts.imag)])
  assert float(fourier_l1(a, b)) == pytest.approx(expected, rel=1e-5)


def test_fourier_l1_of_a_constant_is_its_first_coefficient():
  a = jnp.full((1, 4, 6, 1), 0.5)
  # H * W times 0.25, one of 2 * H * W numbers.
  assert float(fourier_l1(a, a - 0.25)) == pytest.approx(0.125)


def test_the_gradient_of_fourier_l1_is_finite_and_that_of_the_loss():
  a, b = np.float32(_images(1, 4, 6, 2))
  assert np.isfinite(jax.grad(fourier_l1)(a, a)).all()
  gradient = jax.grad(fourier_l1)(a, b)
  direction = np.float32(_images(1, 4, 6, 2, seed=1)[0])
  ends = [float(fourier_l1(a + s * direction, b)) for s in (1e-3, -1e-3)]
  slope = (ends[0] - ends[1]) / 2e-3
  assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-3)


def test_the_fourier_loss_is_added_with_its_weight():
  a, b = np.float32(_images(2, 4, 6, 3))
  loss = make_loss("l1", **OPTIONS | {"fft_weight": 0.1})
  expected = float(l1(a, b)) + 0.1 * float(fourier_l1(a, b))
  assert float(loss(a, b)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["l1", "l2", "charbonnier"])
def test_losses_are_float32_whatever_the_images_are(name):
  a, b = (jnp.asarray(x, jnp.bfloat16) for x in _images(2, 4, 6, 3))
  loss = make_loss(name, **OPTIONS | {"fft_weight": 0.1})
  wide = loss(a.astype(jnp.float32), b.astype(jnp.float32))
  found = loss(a, b)
  assert found.dtype == jnp.float32
  assert float(found) == float(wide)


def test_the_named_loss_is_that_loss():
  assert float(make_loss("l1", **OPTIONS)(A, B)) == pytest.approx(0.2)
  assert float(make_loss("l2", **OPTIONS)(A, B)) == float(l2(A, B))
  loss = make_loss("charbonnier", **OPTIONS | {"epsilon": 0.1})(A, B)
  assert float(loss) == float(charbonnier(A, B, form="squared", epsilon=0.1))


@pytest.mark.parametrize(
  ("name", "changes", "message"),
  [
    ("mse", {}, "'mse'; use one of l1, l2, charbonnier"),
    # The gradient of a root at 0 is not finite.
    ("charbonnier", {"epsilon": 0.0}, "loss.epsilon=0.0 must be positive"),
    ("charbonnier", {"form": "grl"}, "form='grl': use 'squared' or 'added'"),
    ("l1", {"fft_weight": -0.1}, "fft_weight=-0.1 must not be negative"),
  ],
)
def test_what_is_no_loss_is_refused(name, changes, message):
  with pytest.raises(ValueError, match=message):
    make_loss(name, **OPTIONS | changes)
