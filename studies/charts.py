"""Figures of numbers and pictures: one look, a caption, atomic files."""

import io
import pathlib
import textwrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from semanir_jax.machine import files

# Okabe and Ito's colours, told apart by the colour-blind too.
COLORS = (
  "#0072B2",
  "#D55E00",
  "#009E73",
  "#CC79A7",
  "#E69F00",
  "#56B4E9",
  "#000000",
)
MARKERS = "osD^vP*"
_STYLE = {
  "font.size": 9,
  "axes.titlesize": 10,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "grid.alpha": 0.3,
  "axes.prop_cycle": matplotlib.cycler(color=COLORS),
  "legend.frameon": False,
}
_DPI = 150


def new_figure(
  width: float, height: float, rows: int, columns: int, **options: object
) -> tuple[Figure, np.ndarray]:
  """Opens a figure.

  Args:
    width: inches; `height` likewise.
    rows: of axes; `columns` likewise.
    **options: of `Figure.subplots`.

  Returns:
    The figure, and its axes `[rows, columns]`.
  """
  with matplotlib.rc_context(_STYLE):
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
  return figure, axes


def save(figure: Figure, path: pathlib.Path, caption: str) -> None:
  """Writes a figure as PNG, its caption below; its folder exists."""
  # About 16 characters of this size fit into an inch.
  width = int(16 * figure.get_figwidth())
  figure.supxlabel(
    textwrap.fill(caption, width), x=0.01, ha="left", fontsize=8, wrap=False
  )
  data = io.BytesIO()
  figure.savefig(data, format="png")
  files.write_bytes(path, data.getvalue())


def show_picture(axes: Axes, picture: np.ndarray) -> None:
  """Shows `[H, W, 1 or 3]` uint8, pixels as they are, without axes."""
  rgb = np.broadcast_to(picture, (*picture.shape[:2], 3))
  axes.imshow(rgb, interpolation="nearest")
  axes.set_axis_off()
