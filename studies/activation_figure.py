"""Figure of `studies.activation_maps`."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from semanir_jax.models.windows import reflected_positions
from studies import charts

_KEPT, _QUERY = "#00E5FF", "#FF2D2D"


def draw(
  path: pathlib.Path,
  picture: np.ndarray,
  maps: Sequence[tuple[Any, ...]],
  protocol: str,
) -> None:
  """A row for every pixel and k, a column for every stage.

  Args:
    path: PNG file.
    picture: `[H, W, 1 or 3]` uint8, what the network got.
    maps: (k, `StageKeys`, pixel, what `kept_positions` returns).
    protocol: first words of the caption.
  """
  rows = sorted({(pixel, k) for k, _, pixel, _ in maps})
  stages = list(dict.fromkeys(keys.name for _, keys, _, _ in maps))
  count = len(stages) + 1
  figure, axes = charts.new_figure(
    1.9 * count, 2.0 * len(rows) + 0.8, len(rows), count
  )
  for i, (pixel, k) in enumerate(rows):
    first = axes[i, 0]
    charts.show_picture(first, picture)
    first.set_title(f"row {pixel[0]}, column {pixel[1]}\nk = {k}", fontsize=8)
    first.plot(pixel[1], pixel[0], "+", color=_QUERY, markersize=14, mew=2)
  for k, keys, pixel, found in maps:
    one = axes[rows.index((pixel, k)), 1 + stages.index(keys.name)]
    draw_window(one, picture, keys.step, found)
    one.set_title(
      f"{keys.name.replace('_', ' ')}, {keys.step} px a token\n"
      f"{len(found['kept'])} of {len(found['window'])} tokens",
      fontsize=8,
    )
  charts.save(
    figure,
    path,
    f"{protocol}. Left: the picture as the network gets it, + the pixel. Right:"
    " the window of its token in every stage; red frame: the token, cyan: the"
    " tokens its dictionary holds, dark: those it does not. A token need not"
    " hold itself: others may have larger dot products. Where a shifted window"
    " was cut by the border of the picture, only the part with the token is"
    " shown.",
  )


def draw_window(
  axes: Axes, picture: np.ndarray, step: int, found: dict[str, np.ndarray]
) -> np.ndarray:
  """Draws one window: what is kept bright and framed, the rest of it dark.

  Args:
    axes: to draw in.
    picture: `[H, W, 1 or 3]` uint8.
    step: px that a token stands for.
    found: what `kept_positions` returns.

  Returns:
    `[2]`, top and left of what is drawn, px of the picture.
  """
  window = _same_side(found["window"], found["query"])
  top, left = window.min(0) * step
  bottom, right = (window.max(0) + 1) * step
  # What lies outside was mirrored by the network.
  rows = reflected_positions(picture.shape[0], bottom)[top:]
  columns = reflected_positions(picture.shape[1], right)[left:]
  crop = picture[np.ix_(rows, columns)]
  light = np.full(crop.shape[:2], 0.3)
  origin = np.array([top, left])
  for position in found["kept"]:
    y, x = position * step - origin
    light[y : y + step, x : x + step] = 1.0
  charts.show_picture(axes, (crop * light[..., None]).astype(np.uint8))
  for position, color, width in (
    *((kept, _KEPT, 0.8) for kept in found["kept"]),
    (found["query"], _QUERY, 2.0),
  ):
    y, x = position * step - origin
    axes.add_patch(
      Rectangle(
        (x - 0.5, y - 0.5),
        step,
        step,
        fill=False,
        edgecolor=color,
        linewidth=width,
      )
    )
  return origin


def _same_side(window: np.ndarray, query: np.ndarray) -> np.ndarray:
  """Tokens of a window on the query's side of the picture's border.

  The cyclic shift joins opposite borders in one window: there, positions jump
  by more than the window's side.
  """
  side = round(len(window) ** 0.5)
  return window[(np.abs(window - query) < side).all(-1)]
