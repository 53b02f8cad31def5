"""Tables and pictures of an evaluation, with their protocol."""

import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from absl import logging

from semanir_jax import pictures
from semanir_jax.data import images

if TYPE_CHECKING:
  from semanir_jax.evaluation import Result

Row = Mapping[str, Any]

_CHANNELS = {
  "rgb": "all channels",
  "y": "BT.601 Y (not rounded)",
  "y_rounded": "BT.601 Y (rounded)",
}
_DIGITS = {"psnr": 2, "psnr_b": 2, "ssim": 4}
_TITLES = {"psnr": "PSNR", "psnr_b": "PSNR-B", "ssim": "SSIM"}


def mean_row(rows: Sequence[Row]) -> dict[str, Any]:
  """Mean of every metric over the images."""
  keys = [key for key in rows[0] if key != "name"]
  means = {key: float(np.mean([row[key] for row in rows])) for key in keys}
  return {"name": "mean"} | means


class Report:
  """Collects the sets of one evaluation and writes them, atomically."""

  def __init__(
    self, output: pathlib.Path, protocol: Mapping[str, Any], *, baseline: bool
  ) -> None:
    """Opens a report.

    Args:
      output: folder to write to; created if needed.
      protocol: `channel`, `crop_px`, `ssim`; of a network also `num_keys` and
        `window_size`.
      baseline: the numbers are those of the degraded inputs.
    """
    self._output = output
    self._protocol = dict(protocol) | {
      "result": "degraded input" if baseline else "restored",
      "device": jax.devices()[0].device_kind,
      "jax": jax.__version__,
    }
    self._baseline = baseline
    self._sets: dict[str, dict[str, Any]] = {}
    self._tables: list[str] = []
    try:
      output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise images.ImageError(
        f"{output}: cannot be created ({error.strerror}); choose another folder"
      ) from error

  def protocol_line(self) -> str:
    """One line that says how the numbers were made."""
    p = self._protocol
    network = ""
    if not self._baseline:
      network = f"; k = {p['num_keys']}, window {p['window_size']}"
    return (
      f"protocol: {p['result']}, 8 bits; PSNR in dB on"
      f" {_CHANNELS[p['channel']]}, crop {p['crop_px']} px; SSIM {p['ssim']}"
      f"{network}; mean of per-image values; {p['device']}, jax {p['jax']}"
    )

  def add_set(
    self, name: str, rows: Sequence[Row], options: Mapping[str, Any]
  ) -> None:
    """Adds a set: its CSV file is written, its table printed.

    Args:
      name: of the set.
      rows: of its images.
      options: entry of `config.eval.sets`; `published` is shown beside.
    """
    mean = mean_row(rows)
    self._sets[name] = {k: v for k, v in mean.items() if k != "name"}
    self._sets[name]["images"] = len(rows)
    published = options["published"]
    if published:
      self._sets[name]["published"] = published
    table = self._table(name, [*rows, mean], published)
    self._tables.append(table)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, mean])
    images.write_bytes(self._output / f"{name}.csv", text.getvalue().encode())
    logging.info("\n%s", table)

  def write_pictures(self, name: str, result: "Result") -> None:
    """Writes the input, the result, the truth, and the three side by side."""
    folder = self._output / name
    stem = result.row["name"]
    views = {"input": result.before, "target": result.target}
    if not self._baseline:
      views["restored"] = result.after
    views["comparison"] = comparison(result)
    for view, image in views.items():
      (folder / view).mkdir(parents=True, exist_ok=True)
      images.write_image(folder / view / f"{stem}.png", image)

  def finish(self) -> None:
    """Writes `results.json` and `results.md`.

    Raises:
      ValueError: no set could be evaluated.
    """
    if not self._sets:
      raise ValueError(
        "none of the test sets was found; give their folder with --data_dir"
      )
    document = self._sets | {"protocol": self._protocol}
    text = json.dumps(document, indent=2) + "\n"
    images.write_bytes(self._output / "results.json", text.encode())
    markdown = "\n".join([self.protocol_line(), "", *self._tables])
    images.write_bytes(self._output / "results.md", markdown.encode())
    logging.info("%s", self._summary())
    logging.info("written: %s", self._output / "results.md")

  def _table(self, name: str, rows: Sequence[Row], published: float) -> str:
    """Markdown table of one set, its mean last."""
    # A baseline has one set of numbers: those of the input.
    keys = [
      key
      for key in rows[0]
      if key != "name" and not (self._baseline and key.startswith("input_"))
    ]
    lines = [
      f"### {name}, {len(rows) - 1} images",
      "",
      f"| image | {' | '.join(_title(key) for key in keys)} |",
      "| --- |" + " ---: |" * len(keys),
    ]
    for row in rows:
      values = [_format(key, row[key]) for key in keys]
      lines.append(f"| {row['name']} | {' | '.join(values)} |")
    if published:
      lines += ["", f"published (SemanIR's authors): {published:.2f} dB"]
    return "\n".join(lines) + "\n"

  def _summary(self) -> str:
    """Means of all sets, one line each."""
    lines = ["means:"]
    for name, means in self._sets.items():
      pairs = [
        f"{_title(key)} {_format(key, value)}"
        for key, value in means.items()
        if key not in ("images", "published")
        and not (self._baseline and key.startswith("input_"))
      ]
      lines.append(f"  {name} ({means['images']} images): {', '.join(pairs)}")
    return "\n".join(lines)


def comparison(result: "Result") -> np.ndarray:
  """Before, after and truth side by side, PSNR in the captions."""
  row = result.row
  return pictures.side_by_side(
    [
      (f"before: {row['input_psnr']:.2f} dB", result.before),
      (f"after: {row['psnr']:.2f} dB", result.after),
      ("truth", result.target),
    ]
  )


def _title(key: str) -> str:
  kind = key.removeprefix("input_")
  return ("input " if kind != key else "") + _TITLES[kind]


def _format(key: str, value: float) -> str:
  return f"{value:.{_DIGITS[key.removeprefix('input_')]}f}"
