"""Draws what a bundled network does: input, restored, truth."""

import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from semanir_jax.evaluation import measures, metrics, test_sets
from semanir_jax.inference.restorer import Restorer
from semanir_jax.machine import files
from semanir_jax.networks import load
from studies import charts, records

# The left eye of scikit-image's chelsea, and fur: top, left, height, width, px.
BOX = (60, 112, 176, 208)
# Bytes of noise are many: a picture on a card has about 70 kB.
QUALITY = 90
GAP_PX = 4
SCORES = "pictures.json"

Entry = Mapping[str, Any]


def read_scores(folder: pathlib.Path) -> dict[str, dict[str, float]]:
  """Reads the PSNR of the pictures in a folder, by network."""
  path = folder / SCORES
  return json.loads(path.read_text()) if path.exists() else {}


def draw_cards(folder: pathlib.Path, entries: Mapping[str, Entry]) -> None:
  """Writes `NAME.jpg` of networks, and the PSNR of the whole pictures.

  Args:
    folder: of the cards.
    entries: of `cards.toml`.
  """
  progress = records.StudyProgress(len(entries), "networks")
  scores = read_scores(folder)
  for name, entry in entries.items():
    views, scores[name] = restore_picture(name, entry)
    gap = np.full((BOX[2], GAP_PX, 3), 255, np.uint8)
    parts = [part for view in views for part in (gap, cut(view))]
    write_jpeg(folder / f"{name}.jpg", np.concatenate(parts[1:], axis=1))
    text = json.dumps(scores, indent=2, sort_keys=True) + "\n"
    records.write_text(folder / SCORES, text)
    progress.add(name)


def restore_picture(
  name: str, entry: Entry
) -> tuple[list[np.ndarray], dict[str, float]]:
  """Degrades a photograph as one of the network's test sets, and restores it.

  Args:
    name: of a bundled network.
    entry: of `cards.toml`.

  Returns:
    Input, restored and truth `[H, W, 1 or 3]` uint8 of one size; and PSNR of
    input and restored in dB by the protocol of the network's scores.
  """
  results = json.loads((load.PRETRAINED / f"{name}.json").read_text())
  protocol = results["protocol"]
  options = protocol["sets"][entry.get("picture", entry["set"])]
  options |= {"source": "photographs:test", "num_images": 0, "sides_px": ()}
  options |= {"center_crop_px": 0, "resize": ""}
  if "degradation" in entry:
    options["degradation"] = dict(entry["degradation"])
  test_set = test_sets.open_test_set(name, options, "")
  (example,) = test_sets.examples(test_set, [0])
  network = load.load_network(name)
  restorer = Restorer(network.model, network.params)
  restored = restorer(example.lq[None], num_keys=protocol["num_keys"])[0]
  row = measures.measure_example(example, restored, protocol).row
  scale = example.hq.shape[0] // example.lq.shape[0]
  views = [
    measures.as_output(example.lq, scale),
    metrics.to_uint8(restored),
    metrics.to_uint8(example.hq),
  ]
  numbers = {key: round(row[key], 2) for key in ("input_psnr", "psnr")}
  logging.info("%s: %s", name, numbers)
  return views, numbers


def cut(view: np.ndarray) -> np.ndarray:
  """Returns the box of a picture as `[height, width, 3]`."""
  top, left, height, width = BOX
  part = view[top : top + height, left : left + width]
  return np.broadcast_to(part, (height, width, 3))


def draw_strip(
  folder: pathlib.Path, entries: Mapping[str, Entry], path: pathlib.Path
) -> None:
  """Draws the pictures of one network a task: input, restored, truth.

  Args:
    folder: of the cards, with the pictures of `draw_cards`.
    entries: of `cards.toml`; those with `strip`, their heading, are drawn.
    path: of the JPEG file.
  """
  shown = [name for name in entries if "strip" in entries[name]]
  scores = read_scores(folder)
  columns = len(shown)
  figure, axes = charts.new_figure(1.9 * columns + 0.4, 5.3, 3, columns)
  for column, name in enumerate(shown):
    with Image.open(folder / f"{name}.jpg") as file:
      whole = np.asarray(file)
    for row in range(3):
      left = row * (BOX[3] + GAP_PX)
      charts.show_picture(axes[row, column], whole[:, left : left + BOX[3]])
    axes[0, column].set_title(entries[name]["strip"], fontsize=9)
    for row, key in enumerate(("input_psnr", "psnr")):
      axes[row, column].text(
        0.5,
        -0.02,
        f"{scores[name][key]:.2f} dB",
        transform=axes[row, column].transAxes,
        ha="center",
        va="top",
        fontsize=8,
      )
  for row, text in enumerate(("input", "restored", "truth")):
    axes[row, 0].text(
      -0.04,
      0.5,
      text,
      transform=axes[row, 0].transAxes,
      rotation=90,
      ha="right",
      va="center",
      fontsize=10,
    )
  data = io.BytesIO()
  figure.savefig(data, format="png")
  write_jpeg(path, np.asarray(Image.open(data).convert("RGB")))


def write_jpeg(path: pathlib.Path, picture: np.ndarray) -> None:
  """Writes `[H, W, 3]` uint8 as JPEG, its colours at full resolution."""
  data = io.BytesIO()
  image = Image.fromarray(np.ascontiguousarray(picture))
  image.save(data, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
  files.write_bytes(path, data.getvalue())
