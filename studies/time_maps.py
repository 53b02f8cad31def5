"""Which tokens of each frame a token of the middle frame keeps, drawn.

  python -m studies.time_maps --run=runs/time/runs/same_k_0 \\
    --data_dir=../shared/data --picture=5 --motion=2 --output=runs/time/maps

The dictionaries are those of the trained network of a complete run of
`studies.time`, on one of its test sequences. Writes `time_maps.png`, and the
kept positions as `time_maps.csv`.
"""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import serialization
from matplotlib.patches import Rectangle

from semanir_jax import cli
from semanir_jax.evaluation import metrics
from semanir_jax.machine import files
from semanir_jax.models import windows
from studies import charts, records, time_arms
from studies.activation_figure import draw_window
from studies.activation_maps import StageKeys, kept_positions
from studies.arguments import integers
from studies.time_arms import Arm, Recipe
from studies.time_evaluation import PLACES, make_restore
from studies.time_network import TimeSemanIR
from studies.time_run import MEANING, STATE
from studies.time_sequences import (
  DIRECTIONS,
  FRAMES,
  Photographs,
  make_test_sequence,
)

_TRUE_PLACE = "#FFD400"


def read_run(folder: pathlib.Path) -> tuple[Recipe, Arm, Any]:
  """Reads a trained run: recipe, arm, averaged parameters.

  Raises:
    ValueError: there is no such run, or its windows hold one frame.
  """
  meaning = json.loads(files.read_bytes(folder / MEANING))
  arm = time_arms.ARMS[meaning["arm"]]
  if arm.frames == 1 or arm.neighbours == "channels":
    raise ValueError(f"{folder}: the windows of this arm hold one frame")
  fields = {name: meaning[name] for name in Recipe.__dataclass_fields__}
  fields |= {name: tuple(fields[name]) for name in ("depths", "motions")}
  state = serialization.msgpack_restore(files.read_bytes(folder / STATE))
  return Recipe(**fields), arm, state["ema_params"] or state["params"]


def keys_by_frame(
  model: TimeSemanIR, params: Any, noisy: np.ndarray
) -> list[list[StageKeys]]:
  """Runs a network and returns the keys of the middle frame's tokens.

  Args:
    model: whose windows hold T frames.
    params: its parameters.
    noisy: `[H, W, 3 T]` float32; H and W are multiples of the window.

  Returns:
    For every stage a `StageKeys` for every frame: its mask has as queries the
    tokens of the middle frame, as keys those of the frame.
  """
  _, masks = make_restore(model)(params, noisy)
  height, width = noisy.shape[:2]
  p, t = model.window_size, model.frames
  grid = np.moveaxis(np.indices((height, width)), 0, -1)[None]
  stages = []
  for index, mask in enumerate(masks):
    shift = (0, 0)
    if model.shift_windows and index % 2 == 1:
      shift = windows.shift_px(height, width, p)
    positions = np.asarray(windows.partition(jnp.asarray(grid), p, shift)[0])
    g, s, _ = positions.shape
    pairs = np.asarray(mask).reshape(g, t, s, t, s)[:, t // 2]
    name = f"stage_{index}"
    stages.append(
      [StageKeys(name, 1, positions, pairs[:, :, frame]) for frame in range(t)]
    )
  return stages


def study(
  folder: pathlib.Path,
  photographs: Photographs,
  output: pathlib.Path,
  *,
  picture: int,
  motion: float,
  pixel: tuple[int, int],
) -> list[dict[str, Any]]:
  """Draws and lists the keys of one token, by stage and frame.

  Args:
    folder: of a run of `studies.time`.
    photographs: of its tests.
    output: folder.
    picture: index of the photograph.
    motion: px per frame, a multiple of half a pixel.
    pixel: (row, column) in the middle frame.

  Returns:
    The rows of `time_maps.csv`.

  Raises:
    ValueError: the run, the picture or the pixel does not fit.
  """
  recipe, arm, params = read_run(folder)
  side = recipe.test_side
  if not 0 <= picture < len(photographs):
    raise ValueError(f"--picture={picture}: there are {len(photographs)}")
  if not all(0 <= place < side for place in pixel):
    raise ValueError(f"--pixel={pixel}: frames have {side}x{side} px")
  noisy, frames = make_test_sequence(
    photographs, picture, motion, side, recipe.sigma
  )
  name, _ = photographs[picture]
  model = time_arms.make_model(recipe, arm)
  found = [
    [kept_positions(keys, pixel) for keys in stage]
    for stage in keys_by_frame(model, jax.device_put(params), noisy)
  ]
  rows = [
    {
      "picture": name,
      "motion": motion,
      "pixel_row": pixel[0],
      "pixel_column": pixel[1],
      "stage": index,
      "frame": place,
      "kept_row": kept[0],
      "kept_column": kept[1],
    }
    for index, stage in enumerate(found)
    for place, of_frame in zip(PLACES, stage, strict=True)
    for kept in of_frame["kept"]
  ]
  records.write_rows(output / "time_maps.csv", rows)
  caption = (
    f"{name}, {motion:g} px per frame, sigma {recipe.sigma:g};"
    f" {arm.label}, k = {model.num_keys} of {FRAMES * recipe.window_size**2}"
  )
  shift = motion * _direction(picture)
  draw(output / "time_maps.png", noisy, found, shift, caption)
  return rows


def _direction(picture: int) -> np.ndarray:
  """Returns (down, right), where the camera of a test sequence goes."""
  return np.asarray(DIRECTIONS[picture % len(DIRECTIONS)])


def draw(
  path: pathlib.Path,
  noisy: np.ndarray,
  found: list[list[dict[str, np.ndarray]]],
  motion: np.ndarray,
  caption: str,
) -> None:
  """Draws a row for every stage, a column for every frame.

  Args:
    path: PNG file.
    noisy: `[H, W, 9]` float32.
    found: by stage and frame, what `kept_positions` returns.
    motion: (down, right) of the camera, px per frame.
    caption: its first words.
  """
  figure, axes = charts.new_figure(
    2.4 * FRAMES, 2.5 * len(found) + 0.8, len(found), FRAMES
  )
  for index, stage in enumerate(found):
    for frame, place in enumerate(PLACES):
      one, keys = axes[index, frame], stage[frame]
      picture = metrics.to_uint8(noisy[..., 3 * frame : 3 * frame + 3])
      origin = draw_window(one, picture, 1, keys)
      y, x = keys["query"] - (frame - FRAMES // 2) * motion - origin
      bottom, right = one.get_ylim()[0], one.get_xlim()[1]
      if frame != FRAMES // 2 and -0.5 <= y < bottom and -0.5 <= x < right:
        one.add_patch(
          Rectangle(
            (x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=_TRUE_PLACE, lw=2
          )
        )
      one.set_title(
        f"stage {index}, {place}\n{len(keys['kept'])} of"
        f" {len(keys['window'])} tokens",
        fontsize=8,
      )
  charts.save(
    figure,
    path,
    f"{caption}. The window of one token of the middle frame in every frame."
    " Red frame: its place, yellow: where what it shows lies in that frame (if"
    " in the window), cyan: the tokens its dictionary holds, dark: those it"
    " does not.",
  )


def main() -> None:
  """Draws the maps."""
  values = flags.FLAGS
  pixel = integers("pixel", values.pixel)
  if len(pixel) != 2:
    raise ValueError("--pixel: give a row and a column")
  study(
    pathlib.Path(values.run),
    Photographs(pathlib.Path(values.data_dir) / "photos" / "val"),
    pathlib.Path(values.output),
    picture=values.picture,
    motion=values.motion,
    pixel=(pixel[0], pixel[1]),
  )


if __name__ == "__main__":
  flags.DEFINE_string("run", None, "Folder of a run of studies.time.")
  flags.DEFINE_string("data_dir", None, "Folder that holds photos.")
  flags.DEFINE_integer("picture", 0, "Index of the photograph.", 0)
  flags.DEFINE_float("motion", 2.0, "px per frame.", 0.0)
  flags.DEFINE_list("pixel", ["51", "51"], "ROW,COLUMN of the middle frame.")
  flags.DEFINE_string("output", None, "Folder of the CSV file and the figure.")
  flags.mark_flags_as_required(["run", "data_dir", "output"])
  cli.run(main)
