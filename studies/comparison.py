"""Pictures beside each other: input, networks or k, truth, with crops.

  python -m studies.comparison --checkpoint="k 32=runs/fixed" \\
    --checkpoint="random k=runs/random" --num_keys=4,32 \\
    --image=photographs:test --output=runs/comparison

Each picture is degraded as the first test set of the first network's config.
Writes NAME.png for every picture, and all numbers as `comparison.csv`. Give
--box=TOP,LEFT,SIDE (px of the clean picture) to choose what is enlarged; the
default is the square with the most detail.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from matplotlib.patches import Rectangle

from semanir_jax import cli
from semanir_jax.evaluation import measures, metrics
from semanir_jax.evaluation.test_sets import Example
from semanir_jax.inference.restorer import Restorer
from semanir_jax.networks.load import load_network
from studies import charts, pictures, records
from studies.arguments import integers, named

Box = tuple[int, int, int]


def study(
  checkpoints: Sequence[str],
  source: str,
  output: pathlib.Path,
  *,
  keys: Sequence[int] = (),
  box: Box | None = None,
  count: int = 2,
) -> list[dict[str, Any]]:
  """Restores pictures with every network at every k, and draws them.

  Args:
    checkpoints: "label=path", see `load.load_network`.
    source: of the clean pictures (`data.sources.open_source`).
    output: folder.
    keys: k; empty for each network's own.
    box: top, left and side of what is enlarged, px of the clean picture.
    count: most pictures.

  Returns:
    The rows of `comparison.csv`.

  Raises:
    ValueError: networks, k, pictures or box do not fit together.
  """
  networks = [
    (label, load_network(path)) for label, path in map(named, checkpoints)
  ]
  config = networks[0][1].config
  protocol = config["eval"]["protocol"]
  examples, degradation = pictures.open_examples(config, source, count)
  names = [example.name for example in examples]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(
      f"--image: several pictures are called {', '.join(twice)}, and so would"
      " be their results; rename them"
    )
  progress = records.StudyProgress(len(examples), "pictures")
  rows = []
  for example in examples:
    target = metrics.to_uint8(example.hq)
    scale = example.hq.shape[0] // example.lq.shape[0]
    own_box = box or most_detailed(target)
    views = [("input", measures.as_output(example.lq, scale))]
    for label, network in networks:
      restorer = Restorer(network.model, network.params)
      for k in keys or (network.model.num_keys,):
        restored = restorer(example.lq[None], num_keys=k)[0]
        views.append((f"{label}, k = {k}", metrics.to_uint8(restored)))
    found = [
      measure(example, label, view, target, own_box, protocol)
      for label, view in views
    ]
    rows += found
    records.write_rows(output / "comparison.csv", rows)
    views.append(("truth", target))
    draw(output / f"{example.name}.png", views, found, own_box, degradation)
    progress.add(example.name)
  return rows


def measure(
  example: Example,
  label: str,
  view: np.ndarray,
  target: np.ndarray,
  box: Box,
  protocol: dict[str, Any],
) -> dict[str, Any]:
  """PSNR of a view, of the whole picture and of the box."""
  channel = protocol["channel"]
  whole = metrics.psnr(
    view, target, crop_px=protocol["crop_px"], channel=channel
  )
  crop = metrics.psnr(
    cut(view, box), cut(target, box), crop_px=0, channel=channel
  )
  return {
    "picture": example.name,
    "view": label,
    "psnr": whole,
    "crop_psnr": crop,
    "crop": "{},{},{}".format(*box),
    "protocol": f"8 bits, {channel}, border of {protocol['crop_px']} px left"
    " out of the whole picture, none of the crop",
  }


def cut(image: np.ndarray, box: Box) -> np.ndarray:
  """The pixels of a box.

  Raises:
    ValueError: it does not lie in the picture.
  """
  top, left, side = box
  height, width = image.shape[:2]
  if (
    min(top, left) < 0 or side < 1 or top + side > height or left + side > width
  ):
    raise ValueError(
      f"--box={top},{left},{side}: lies outside of a {height}x{width} picture"
    )
  return image[top : top + side, left : left + side]


def most_detailed(image: np.ndarray, side: int = 64) -> Box:
  """The square with the steepest edges, on a grid of half its side."""
  side = min(side, *image.shape[:2])
  gray = image.mean(-1)
  slope = np.abs(np.gradient(gray, axis=0)) + np.abs(np.gradient(gray, axis=1))
  step = max(side // 2, 1)
  corners = [
    (top, left, side)
    for top in range(0, image.shape[0] - side + 1, step)
    for left in range(0, image.shape[1] - side + 1, step)
  ]
  return max(corners, key=lambda box: cut(slope[..., None], box).sum())


def draw(
  path: pathlib.Path,
  views: Sequence[tuple[str, np.ndarray]],
  rows: Sequence[dict[str, Any]],
  box: Box,
  degradation: str,
) -> None:
  """The whole picture with the box on the left, the crops beside it."""
  lines = -(-len(views) // 4)
  columns = -(-len(views) // lines)
  truth = views[-1][1]
  # The crops are squares of 2.2 inches under two lines of text.
  wide = 2.7 * lines * truth.shape[1] / truth.shape[0]
  figure, axes = charts.new_figure(
    wide + 2.2 * columns,
    2.7 * lines + 0.5,
    lines,
    columns + 1,
    width_ratios=[wide, *[2.2] * columns],
  )
  grid = axes[0, 0].get_gridspec()
  for one in axes[:, 0]:
    one.remove()
  whole = figure.add_subplot(grid[:, 0])
  charts.show_picture(whole, truth)
  whole.set_title("truth", fontsize=10)
  top, left, side = box
  whole.add_patch(
    Rectangle((left, top), side, side, fill=False, edgecolor="red", linewidth=2)
  )
  crops = axes[:, 1:].ravel()
  for one in crops[len(views) :]:
    one.set_axis_off()
  for i, (label, view) in enumerate(views):
    charts.show_picture(crops[i], cut(view, box))
    text = label
    if i < len(rows):
      text += (
        f"\ncrop {rows[i]['crop_psnr']:.2f} dB, whole {rows[i]['psnr']:.2f} dB"
      )
    crops[i].text(
      0.5, -0.03, text, transform=crops[i].transAxes, ha="center", va="top"
    )
  charts.save(
    figure,
    path,
    f"{rows[0]['picture']} of {degradation}. The crops are the red square,"
    f" {side}x{side} px, without interpolation. PSNR: {rows[0]['protocol']}.",
  )


def main() -> None:
  """Runs the study."""
  values = flags.FLAGS
  box = integers("box", values.box)
  if len(box) not in (0, 3):
    raise ValueError("--box: give TOP,LEFT,SIDE")
  study(
    values.checkpoint,
    values.image,
    pathlib.Path(values.output),
    keys=integers("num_keys", values.num_keys),
    box=tuple(box) or None,
    count=values.max_images,
  )


if __name__ == "__main__":
  flags.DEFINE_multi_string("checkpoint", None, "LABEL=NETWORK, once for each.")
  flags.DEFINE_string("image", "photographs:test", "Clean picture or folder.")
  flags.DEFINE_list("num_keys", [], "k; default: each network's own.")
  flags.DEFINE_list("box", [], "TOP,LEFT,SIDE of what is enlarged, px.")
  flags.DEFINE_integer("max_images", 2, "Pictures at most.", 1)
  flags.DEFINE_string("output", None, "Folder of the pictures and the CSV.")
  flags.mark_flags_as_required(["checkpoint", "output"])
  cli.run(main)
