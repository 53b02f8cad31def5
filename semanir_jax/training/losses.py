"""Training losses: pure functions of prediction and target, in float32."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Takes the mean absolute error of arrays of one shape; float32 scalar."""
  return jnp.mean(jnp.abs(_difference(prediction, target)))


def l2(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Takes the mean squared error of arrays of one shape; float32 scalar."""
  return jnp.mean(jnp.square(_difference(prediction, target)))


def charbonnier(
  prediction: jax.Array, target: jax.Array, *, form: str, epsilon: float
) -> jax.Array:
  """Averages sqrt(d^2 + epsilon^2) or sqrt(d^2 + epsilon), a smooth L1.

  Three losses of the field have this name:

    GRL, Restormer: form "squared", epsilon 1e-3
    KAIR (SwinIR): form "added", epsilon 1e-9
    BasicSR: form "added", epsilon 1e-12 where none is given

  An epsilon of one form in the other is another loss: 1e-3, added, is never
  below 0.03, and is more like a square than like L1 for most differences.

  Args:
    prediction: `[...]` float, nominal range [0, 1].
    target: same shape.
    form: "squared" or "added": how epsilon comes into the root.
    epsilon: positive. Its root if added, itself if squared, is the difference
      where the loss turns from squares to magnitudes.

  Returns:
    float32 scalar.

  Source: protocol section 5.2.
  """
  floor = epsilon**2 if form == "squared" else epsilon
  square = jnp.square(_difference(prediction, target))
  return jnp.mean(jnp.sqrt(square + floor))


def fourier_l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Takes the mean magnitude of the differences of Fourier coefficients.

  It is over the real and the imaginary parts of all H * W frequencies of every
  image and channel. The transform is not normalised (H * W times the mean at
  frequency 0), so the loss of white differences grows with the root of H * W: a
  weight belongs to a patch size.

  Args:
    prediction: `[..., H, W, C]` float, nominal range [0, 1].
    target: same shape.

  Returns:
    float32 scalar; its gradient is finite where images are equal.

  Source: MIMO-UNet (ICCV 2021), which adds 0.1 of it to L1.
  """
  difference = _difference(prediction, target)
  width = difference.shape[-2]
  half = jnp.fft.rfft2(difference, axes=(-3, -2))
  # Columns between frequency 0 and W / 2 stand for their mirror images too.
  times = jnp.ones((half.shape[-2], 1)).at[1 : (width + 1) // 2].set(2)
  parts = jnp.abs(half.real) + jnp.abs(half.imag)
  return jnp.sum(parts * times) / (2 * difference.size)


def make_loss(
  name: str, *, form: str, epsilon: float, fft_weight: float
) -> Loss:
  """Builds the loss that a config names.

  Args:
    name: "l1", "l2" or "charbonnier".
    form: of `charbonnier`.
    epsilon: of `charbonnier`.
    fft_weight: of `fourier_l1`, which is added; 0 for none.

  Raises:
    ValueError: an option does not fit.
  """
  if form not in ("squared", "added"):
    raise ValueError(f"config.loss.{form=}: use 'squared' or 'added'")
  if epsilon <= 0:
    # At epsilon 0 the gradient of a difference of 0 would be NaN.
    raise ValueError(f"config.loss.{epsilon=} must be positive")
  if fft_weight < 0:
    raise ValueError(f"config.loss.{fft_weight=} must not be negative")
  losses = {
    "l1": l1,
    "l2": l2,
    "charbonnier": functools.partial(charbonnier, form=form, epsilon=epsilon),
  }
  if name not in losses:
    raise ValueError(
      f"unknown config.loss.name {name!r}; use one of {', '.join(losses)}"
    )
  pixel_loss = losses[name]
  if fft_weight == 0:
    return pixel_loss

  def loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
    fourier = fourier_l1(prediction, target)
    return pixel_loss(prediction, target) + fft_weight * fourier

  return loss


def _difference(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Subtracts target from prediction in float32, whatever they come in."""
  return prediction.astype(jnp.float32) - target.astype(jnp.float32)
