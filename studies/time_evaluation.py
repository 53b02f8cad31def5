"""What `studies.time` measures of an arm: PSNR, kept keys, arithmetic."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from semanir_jax.evaluation import metrics
from semanir_jax.ops.bits import unpack_bits
from semanir_jax.summary import count_parameters
from studies import arithmetic, measuring, time_arms
from studies.time_arms import Arm, Recipe
from studies.time_network import TimeSemanIR
from studies.time_sequences import Photographs, make_test_sequence

REAL = "real"  # in the place of a motion: frames of a film
PLACES = ("previous", "middle", "next")  # of the frames


class Material(NamedTuple):
  """What runs are made of.

  Attributes:
    train: photographs to train on.
    test: photographs to test on.
    real: noisy and clean frames, of `time_sequences.real_sequences`.
  """

  train: Photographs
  test: Photographs
  real: Sequence[tuple[np.ndarray, np.ndarray]] = ()


def evaluate(
  recipe: Recipe,
  name: str,
  seed: int,
  params: Any,
  material: Material,
) -> list[dict[str, Any]]:
  """Measures a trained arm at every motion, and on real frames if there are.

  Returns:
    Rows of `runs.csv`: means over the pictures of PSNR, 8 bits, RGB; and of
    every stage the share of the middle frame's keys by frame.
  """
  arm = time_arms.ARMS[name]
  model = time_arms.make_model(recipe, arm)
  cost = arithmetic.gigaflops(model, (recipe.side, recipe.side), model.num_keys)
  restore = make_restore(model)
  rows = []
  for motion in (*recipe.motions, *([REAL] if material.real else [])):
    results = []
    count = len(material.real if motion == REAL else material.test)
    for index in range(count):
      noisy, frames = _sequence(recipe, material, motion, index)
      image, keys = restore(params, time_arms.take_frames(arm, noisy))
      results.append(_measure(image, keys, noisy, frames, arm))
    row = {
      "arm": name,
      "seed": seed,
      "motion": motion,
      "step": recipe.steps,
      "pictures": count,
      **_mean_of_rows(results),
      "parameters": count_parameters(model),
      "num_keys": model.num_keys,
      "window_tokens": model.window_frames * model.window_size**2,
      **cost,
      "gigaflops_of": f"{recipe.side}x{recipe.side} px",
      "device": measuring.device_line(),
      "protocol": f"sigma {recipe.sigma:g}, middle frame, {recipe.test_side} px"
      " squares, 8 bits, PSNR on RGB, no crop, means of per-image values",
    }
    rows.append(row)
    logging.info(
      "%s, seed %d, motion %s: PSNR %.3f dB (input %.2f)",
      *(name, seed, motion, row["psnr"], row["input_psnr"]),
    )
  return rows


def _sequence(
  recipe: Recipe, material: Material, motion: float | str, index: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the noisy and the clean frames of a test."""
  if isinstance(motion, str):
    return material.real[index]
  return make_test_sequence(
    material.test, index, motion, recipe.test_side, recipe.sigma
  )


def make_restore(model: TimeSemanIR) -> Any:
  """Returns `(params, [H, W, 3 T]) -> ([H, W, 3], masks)`, compiled.

  The masks are bool, `[G, N, N]` of every stage: the keys of every token.
  """
  num_tokens = model.window_frames * model.window_size**2

  @jax.jit
  def restore(params: Any, image: jax.Array) -> tuple[jax.Array, Any]:
    out, found = model.apply(
      {"params": params}, image[None], mutable="intermediates"
    )
    stages: Any = found["intermediates"]
    masks = [
      unpack_bits(stages[f"stage_{i}"]["dictionary"][0].bits[0], num_tokens)
      for i in range(len(model.depths))
    ]
    return out[0], masks

  return restore


def shares_by_frame(mask: np.ndarray, frames: int) -> np.ndarray:
  """Returns the shares of the middle frame's keys that lie in each frame.

  Args:
    mask: `[G, N, N]` bool, [query, key].
    frames: T.

  Returns:
    `[T]` float64; their sum is 1.
  """
  g, n, _ = mask.shape
  size = n // frames
  start = frames // 2 * size
  kept = np.asarray(mask)[:, start : start + size]
  counts = kept.reshape(g, size, frames, size).sum(axis=(0, 1, 3))
  return counts / counts.sum()


def _measure(
  image: jax.Array,
  masks: Sequence[jax.Array],
  noisy: np.ndarray,
  frames: np.ndarray,
  arm: Arm,
) -> dict[str, float]:
  """Returns the numbers of one picture."""
  middle = len(frames) // 2
  target = frames[middle]
  given = noisy[..., 3 * middle : 3 * middle + 3]
  row = {
    "psnr": metrics.psnr(metrics.to_uint8(np.asarray(image)), target),
    "input_psnr": metrics.psnr(metrics.to_uint8(given), target),
  }
  if arm.frames == 1 or arm.neighbours == "channels":
    return row
  for stage, mask in enumerate(masks):
    shares = shares_by_frame(np.asarray(mask), arm.frames)
    for place, share in zip(PLACES, shares, strict=True):
      row[f"stage_{stage}_{place}"] = float(share)
  return row


def _mean_of_rows(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
  """Returns the mean of every number."""
  return {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
