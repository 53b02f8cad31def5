"""Sequences of three frames with known motion, for `studies.time`.

A sequence is a pan over a photograph. A frame is cut from the photograph and
halved by means of 2 x 2 pixels, and the next one is cut some whole pixels of
the photograph further: so motion is known to half a pixel of a frame, no frame
is interpolated, and all three have the same sharpness. Halving also fills the
gaps between the levels of photographs that were stored as multiples of 3.
"""

import pathlib
import re
from collections.abc import Sequence

import numpy as np

from semanir_jax.data.sources import Source, open_source
from semanir_jax.degradations.noise import GaussianNoise
from semanir_jax.images.image_file import PixelOptions

FRAMES = 3
SCALE = 2  # pixels of the photograph for one of a frame, on each axis
FASTEST = 8.0  # px per frame, in training
STILL_SHARE = 0.125  # of the training sequences have no motion
_RGB = PixelOptions(channels=3)
# Test pans go right, down, left, up.
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))
_TEST_SEED = 33


class Photographs:
  """Holds the photographs of a folder, each read when it is first asked for."""

  def __init__(self, folder: pathlib.Path) -> None:
    """Opens a folder; `ImageError` if there are no images."""
    self._source: Source = open_source(str(folder), pixels=_RGB)
    self._read: dict[int, tuple[str, np.ndarray]] = {}

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> tuple[str, np.ndarray]:
    """Returns name and pixels, `[H, W, 3]` uint8."""
    if index not in self._read:
      record = self._source[index]
      self._read[index] = record["name"], record["image"]
    return self._read[index]


def pan(
  name: str,
  photograph: np.ndarray,
  corner: tuple[int, int],
  step: tuple[int, int],
  side: int,
) -> np.ndarray:
  """Cuts a sequence out of a photograph.

  Args:
    name: of the photograph.
    photograph: `[H, W, 3]` uint8.
    corner: (row, column) of the middle frame, px of the photograph.
    step: (down, right) that a frame lies behind the one before, px of the
      photograph: SCALE times the motion of the camera in px per frame.
    side: of the frames, px.

  Returns:
    `[3, side, side, 3]` uint8. With motion m = step / SCALE frame t shows at p
    what the middle one shows at p + (t - 1) m.

  Raises:
    ValueError: a frame would reach beyond the photograph.
  """
  frames = []
  for t in range(FRAMES):
    top, left = (
      c + (t - FRAMES // 2) * s for c, s in zip(corner, step, strict=True)
    )
    crop = photograph[
      max(top, 0) : top + SCALE * side, max(left, 0) : left + SCALE * side
    ]
    if crop.shape[:2] != (SCALE * side,) * 2:
      raise ValueError(
        f"{name}: {photograph.shape[1]}x{photograph.shape[0]} px is too small"
        f" for frames of {side} px at {SCALE} px each that move; leave it out"
      )
    means = crop.reshape(side, SCALE, side, SCALE, 3).mean(axis=(1, 3))
    frames.append(np.rint(means).astype(np.uint8))
  return np.stack(frames)


def draw_step(rng: np.random.Generator) -> tuple[int, int]:
  """Draws a motion, px of the photograph: a speed, then a direction."""
  speed = 0.0 if rng.random() < STILL_SHARE else rng.uniform(0.0, FASTEST)
  angle = rng.uniform(0.0, 2 * np.pi)
  vector = SCALE * speed * np.array([np.sin(angle), np.cos(angle)])
  down, right = np.rint(vector).astype(int)
  return int(down), int(right)


def add_noise(
  rng: np.random.Generator, frames: np.ndarray, sigma: float
) -> np.ndarray:
  """Degrades each frame with noise of its own.

  Args:
    rng: of the noise.
    frames: `[3, H, W, 3]` uint8.
    sigma: standard deviation on the 0 to 255 scale; not clipped.

  Returns:
    `[H, W, 9]` float32, frame after frame on the channels.
  """
  degrade = GaussianNoise(sigma)
  return np.concatenate([degrade(rng, frame)[0] for frame in frames], axis=-1)


def training_batch(
  photographs: Photographs,
  *,
  seed: int,
  step: int,
  count: int,
  side: int,
  sigma: float,
) -> dict[str, np.ndarray]:
  """Draws the sequences of a training step; the same for equal arguments.

  Args:
    photographs: to cut from.
    seed: of the run; `step` its step.
    step: see `seed`.
    count: B.
    side: of the frames, px.
    sigma: of the noise.

  Returns:
    "lq" `[B, side, side, 9]` noisy frames and "hq" `[B, side, side, 3]` the
    clean middle one, float32 in [0, 1], noise beyond it.
  """
  rng = np.random.default_rng([seed, step])
  noisy, clean = [], []
  for _ in range(count):
    name, photograph = photographs[int(rng.integers(len(photographs)))]
    move = draw_step(rng)
    corner = [
      int(rng.integers(abs(m), max(size - SCALE * side - abs(m), abs(m)) + 1))
      for m, size in zip(move, photograph.shape, strict=False)
    ]
    frames = pan(name, photograph, (corner[0], corner[1]), move, side)
    # One of the eight symmetries of a square, which turns the motion too.
    frames = np.rot90(frames, int(rng.integers(4)), axes=(1, 2))
    if rng.integers(2):
      frames = frames[:, :, ::-1]
    noisy.append(add_noise(rng, frames, sigma))
    clean.append((frames[FRAMES // 2] / 255.0).astype(np.float32))
  return {"lq": np.stack(noisy), "hq": np.stack(clean)}


def make_test_sequence(
  photographs: Photographs, index: int, motion: float, side: int, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
  """Makes the pan over a photograph's middle that networks are tested on.

  The middle frame and its noise are the same at every motion.

  Args:
    photographs: to cut from.
    index: of the photograph; it also chooses one of four directions.
    motion: px per frame, a multiple of half a pixel.
    side: of the frames, px.
    sigma: of the noise.

  Returns:
    `[side, side, 9]` float32 noisy, `[3, side, side, 3]` uint8 clean.
  """
  name, photograph = photographs[index]
  direction = DIRECTIONS[index % len(DIRECTIONS)]
  step = tuple(round(SCALE * motion) * d for d in direction)
  corner = tuple((size - SCALE * side) // 2 for size in photograph.shape[:2])
  frames = pan(
    name, photograph, (corner[0], corner[1]), (step[0], step[1]), side
  )
  return _with_test_noise(frames, index, sigma), frames


def _with_test_noise(
  frames: np.ndarray, index: int, sigma: float
) -> np.ndarray:
  """Adds the noise of test sequence `index`."""
  rng = np.random.default_rng([_TEST_SEED, index])
  return add_noise(rng, frames, sigma)


def find_triples(names: Sequence[str]) -> list[tuple[int, int, int]]:
  """Finds three frames in a row among files.

  Args:
    names: as "test000_00000013": a clip, and the number of a frame.

  Returns:
    Indices of frames n - 1, n, n + 1 of one clip, for every third n at most,
    so that no frame serves twice.
  """
  numbered: dict[tuple[str, int], int] = {}
  for index, name in enumerate(names):
    if found := re.fullmatch(r"(.*?)(\d+)", pathlib.PurePath(name).stem):
      numbered[found[1], int(found[2])] = index
  triples, used = [], set()
  for clip, number in sorted(numbered):
    keys = [(clip, number + i) for i in range(FRAMES)]
    if all(key in numbered and key not in used for key in keys):
      used.update(keys)
      first, second, third = (numbered[key] for key in keys)
      triples.append((first, second, third))
  return triples


def real_sequences(
  folder: pathlib.Path, side: int, sigma: float
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Reads the middles of three real frames in a row, wherever there are such.

  Returns:
    As `make_test_sequence`, for every triple; none where frames lie further
    apart.

  Raises:
    ValueError: frames are smaller than `side`, or not of one size.
  """
  photographs = Photographs(folder)
  images = [photographs[i] for i in range(len(photographs))]
  result = []
  for number, triple in enumerate(find_triples([name for name, _ in images])):
    frames = [images[i][1] for i in triple]
    height, width = frames[0].shape[:2]
    if min(height, width) < side or len({f.shape for f in frames}) > 1:
      raise ValueError(
        f"{folder}: the frames from {images[triple[0]][0]} on must be of one"
        f" size of at least {side}x{side} px"
      )
    top, left = (height - side) // 2, (width - side) // 2
    middle = np.stack(frames)[:, top : top + side, left : left + side]
    result.append((_with_test_noise(middle, number, sigma), middle))
  return result
