"""Writes the tables and pictures of an evaluation, with their protocol."""

import csv
import io
import itertools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from semanir_jax.evaluation import panels, wording
from semanir_jax.evaluation.measures import Result
from semanir_jax.images import image_file
from semanir_jax.machine import files

Row = Mapping[str, Any]

UNFINISHED = "_unfinished"  # CSV file of a set that was not measured whole


def mean_row(rows: Sequence[Row]) -> dict[str, Any]:
  """Takes the mean of every metric over the images."""
  keys = [key for key in rows[0] if key != "name"]
  means = {key: float(np.mean([row[key] for row in rows])) for key in keys}
  return {"name": "mean"} | means


class Report:
  """Collects the sets of one evaluation and writes them, atomically.

  Of several processes all write their pictures, the first one the tables.
  """

  def __init__(
    self,
    output: pathlib.Path,
    protocol: Mapping[str, Any],
    sets: Mapping[str, Mapping[str, Any]],
    *,
    baseline: bool,
  ) -> None:
    """Opens a report; sets aside what another evaluation left in the folder.

    Args:
      output: folder to write to; created if needed.
      protocol: see `measures.measure`, and `max_images`; of a network also
        `network` (which one), `num_keys`, `window_size` and `self_ensemble`.
      sets: entries of `config.eval.sets` that will be added, by name; their
        published figures are shown beside ours.
      baseline: the numbers are those of the degraded inputs.

    Raises:
      ImageError: the folder cannot be made.
    """
    facts = {
      **protocol,
      "result": "degraded input" if baseline else "restored",
      "means": "of per-image values",
      "device": jax.devices()[0].device_kind,
      "jax": jax.__version__,
      "sets": {name: dict(options) for name, options in sets.items()},
    }
    # As it will be read: tuples become lists.
    text = json.dumps(facts, default=lambda nested: nested.to_dict())
    self._output, self._protocol = output, json.loads(text)
    self._baseline = baseline
    self._sets: dict[str, dict[str, Any]] = {}
    self._tables: list[str] = []
    try:
      files.make_folder(output)
      if jax.process_index() == 0:
        _set_aside(output, self._protocol)
      # By it what an evaluation left is known, if it is cut off.
      self._begins = not (output / "results.json").exists()
      if self._begins:
        self._write_json()
    except OSError as error:
      raise image_file.ImageError(
        f"{output}: cannot be used ({error.strerror}); choose another folder"
      ) from error

  def protocol_line(self) -> str:
    """Says in a line how the numbers were made."""
    p = self._protocol
    network = "" if self._baseline else f"; {wording.network(p)}"
    return (
      f"protocol: {p['result']}, {wording.measures(p)}{network}; mean of"
      f" per-image values; {p['device']}, jax {p['jax']}"
    )

  def add_set(self, name: str, rows: Sequence[Row], *, num_images: int) -> None:
    """Adds a set: its CSV file is written, its table printed.

    Args:
      name: of the set.
      rows: of its images that were measured.
      num_images: that the set has.
    """
    options = self._protocol["sets"][name]
    mean = mean_row(rows)
    means = {k: v for k, v in mean.items() if k != "name"}
    means["images"] = len(rows)
    if len(rows) != num_images:
      means["images_of_set"] = num_images
    # Where the set was not counted it may be another one.
    for key in ("published", "published_ssim"):
      if options[key] and options["num_images"]:
        means[key] = options[key]
    self._sets[name] = means
    table = self._table(name, [*rows, mean])
    self._tables.append(table)
    self._write_csv(name, [*rows, mean])
    if self._begins:
      self._write_json()
    (self._output / f"{name}{UNFINISHED}.csv").unlink(missing_ok=True)
    logging.info("\n%s", table)

  def add_unfinished(self, name: str, rows: Sequence[Row]) -> None:
    """Writes the CSV file of a set of which an image cannot be measured."""
    if rows:
      self._write_csv(f"{name}{UNFINISHED}", rows)
      logging.warning(
        "%s: %d images were measured, see %s", name, len(rows), self._output
      )

  def _write_csv(self, stem: str, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    self._write(f"{stem}.csv", text.getvalue())

  def write_pictures(self, name: str, result: Result) -> None:
    """Writes the input, the result, the truth, and them side by side."""
    folder = self._output / name
    stem = result.row["name"].replace("/", "-")  # as in tfds:div2k/bicubic_x2
    views = {"input": result.before, "target": result.target}
    if not self._baseline:
      views["restored"] = result.after
    views["comparison"] = comparison(result, baseline=self._baseline)
    for view, image in views.items():
      (folder / view).mkdir(parents=True, exist_ok=True)
      image_file.write_image(folder / view / f"{stem}.png", image)

  def _write_json(self) -> None:
    """Writes `results.json`, where infinity is null."""
    # JSON knows no infinity, which identical images have.
    sets = {
      name: {k: None if v == math.inf else v for k, v in means.items()}
      for name, means in self._sets.items()
    }
    document = sets | {"protocol": self._protocol}
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    self._write("results.json", text)

  def finish(self) -> None:
    """Writes `results.json` and `results.md`."""
    self._write_json()
    means = self._means_table()
    markdown = "\n".join([self.protocol_line(), "", means, *self._tables])
    self._write("results.md", markdown)
    logging.info("%s\n\n%s", self.protocol_line(), means)
    logging.info("written: %s", self._output / "results.md")

  def _write(self, name: str, text: str) -> None:
    """Writes a file, in the first process."""
    if jax.process_index() == 0:
      # Bytes of a file's name that are no text are shown as their escapes.
      data = text.encode(errors="backslashreplace")
      files.write_bytes(self._output / name, data)

  def _table(self, name: str, rows: Sequence[Row]) -> str:
    """Formats one set as a Markdown table, its mean last."""
    keys = self._columns(rows[0])
    lines = [
      f"### {name}, {len(rows) - 1} images",
      "",
      wording.degradation_line(self._protocol["sets"][name]),
      "",
      f"| image | {' | '.join(wording.title(key) for key in keys)} |",
      "| --- |" + " ---: |" * len(keys),
    ]
    for row in rows:
      values = [wording.number(key, row[key]) for key in keys]
      lines.append(f"| {row['name']} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"

  def _means_table(self) -> str:
    """Formats the means of all sets, published figures beside."""
    keys = self._columns(next(iter(self._sets.values())))
    for key, published in (
      ("ssim", "published_ssim"),
      ("psnr", "published"),
    ):
      if any(published in means for means in self._sets.values()):
        keys.insert(keys.index(key) + 1, published)
    lines = [
      f"| set | images | {' | '.join(wording.title(key) for key in keys)} |",
      "| --- |" + " ---: |" * (len(keys) + 1),
    ]
    for name, means in self._sets.items():
      images_of = f"{means['images']}"
      if "images_of_set" in means:
        images_of += f" of {means['images_of_set']}"
      values = [
        wording.number(k, means[k]) if k in means else "-" for k in keys
      ]
      lines.append(f"| {name} | {images_of} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"

  def _columns(self, row: Row) -> list[str]:
    """Lists the metrics to show; a baseline has the input's alone."""
    return [
      key
      for key in row
      if key.removeprefix("input_").startswith(("psnr", "ssim"))
      and not (self._baseline and key.startswith("input_"))
    ]


def comparison(result: Result, *, baseline: bool = False) -> np.ndarray:
  """Draws before, after and truth side by side, PSNR in the captions.

  A baseline has no after. Returns `[H', W', 3]` uint8.
  """
  row = result.row
  views = [
    (f"before: {row['input_psnr']:.2f} dB", result.before),
    (f"after: {row['psnr']:.2f} dB", result.after),
    ("truth", result.target),
  ]
  if baseline:
    del views[1]
  return panels.side_by_side(views)


def _set_aside(output: pathlib.Path, protocol: Mapping[str, Any]) -> None:
  """Renames the results in a folder, unless they are of this protocol.

  Another network, step, k, set or option is another evaluation. `results.json`
  and `results.md`, and of each of its sets the CSV files and the folder of
  pictures, get a number, as `results_1.json`.

  Args:
    output: folder of an evaluation.
    protocol: of the new one, plain JSON values, as `results.json` has it.
  """
  try:
    found = json.loads((output / "results.json").read_text())["protocol"]
    names = list(found["sets"])
  except FileNotFoundError:
    return
  except (KeyError, TypeError, ValueError):
    found, names = None, []  # damaged, or of another program
  if found == protocol:
    return
  # Last what says that there is something to rename.
  own = itertools.product(names, ("", ".csv", f"{UNFINISHED}.csv"))
  old = [
    name
    for name in (*own, ("results", ".md"), ("results", ".json"))
    if (output / "".join(name)).exists()
  ]
  for number in itertools.count(1):
    new = [output / f"{name}_{number}{suffix}" for name, suffix in old]
    if not any(path.exists() for path in new):
      break
  for name, path in zip(old, new, strict=True):
    (output / "".join(name)).replace(path)
  logging.warning(
    "%s: the results of another evaluation are kept as results_%d and so on",
    output,
    number,
  )
