"""What `studies.time` compares: the arms, and the recipe that all share."""

import dataclasses

import numpy as np

from studies.time_network import TimeSemanIR
from studies.time_sequences import FRAMES

BASE = "frame"  # the arm that the others are compared with


@dataclasses.dataclass(frozen=True)
class Arm:
  """Says how the middle frame is restored.

  Attributes:
    label: for tables.
    frames: T, frames that the network gets.
    keys_of_window: k as a share of S = P * P, the tokens of a window in one
      frame.
    neighbours: see `TimeSemanIR`.
  """

  label: str
  frames: int
  keys_of_window: float
  neighbours: str = "keys"


ARMS = {
  BASE: Arm("one frame", 1, 0.5),
  "same_k": Arm("three frames, k as with one", FRAMES, 0.5),
  "same_share": Arm("three frames, the same share of keys", FRAMES, 1.5),
  "own_frame": Arm("three frames, keys of the own frame", FRAMES, 0.5, "none"),
  "channels": Arm("three frames as nine channels", FRAMES, 0.5, "channels"),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Holds sizes and training, equal in all arms.

  Attributes:
    dim: see `TimeSemanIR`, and `depths`, `num_heads`, `window_size`.
    depths: see `dim`.
    num_heads: see `dim`.
    window_size: see `dim`.
    steps: of training.
    batch_size: sequences of a step.
    side: of the frames in training, px.
    test_side: of the frames in the tests, px.
    sigma: of the noise, on the 0 to 255 scale.
    peak: learning rate after the warm-up.
    warmup_share: of the steps; then the rate is held, then it falls.
    hold_share: of the steps.
    ema_decay: of the average of the parameters that is evaluated.
    motions: of the tests, px per frame.
  """

  dim: int = 30
  depths: tuple[int, ...] = (4, 4)
  num_heads: int = 1
  window_size: int = 8
  steps: int = 1500
  batch_size: int = 1
  side: int = 64
  test_side: int = 96
  sigma: float = 25.0
  peak: float = 1e-3
  warmup_share: float = 0.05
  hold_share: float = 0.35
  ema_decay: float = 0.99
  motions: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


def make_model(recipe: Recipe, arm: Arm) -> TimeSemanIR:
  """Builds the network of an arm."""
  num_keys = round(arm.keys_of_window * recipe.window_size**2)
  return TimeSemanIR(
    in_channels=3 * arm.frames,
    dim=recipe.dim,
    depths=recipe.depths,
    num_heads=recipe.num_heads,
    window_size=recipe.window_size,
    num_keys=num_keys,
    max_keys=num_keys,
    drop_path_rate=0.0,
    frames=arm.frames,
    neighbours=arm.neighbours,
  )


def take_frames(arm: Arm, images: np.ndarray) -> np.ndarray:
  """Returns the frames that an arm's network gets, of `[..., 9]`."""
  first = 3 * ((FRAMES - arm.frames) // 2)
  return images[..., first : first + 3 * arm.frames]
