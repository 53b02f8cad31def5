"""Two evaluations of eval.py, image by image: what one gains on the other.

  python -m studies.difference --before=out/a --after=out/b \\
    --output=runs/difference

takes the workdirs of two evaluations of one protocol and prints, for every test
set that both have, means and the differences of the images. With --output it
also writes the table as `difference.md`, the images as `difference.csv` (PSNR
in dB, then SSIM) and their differences as `difference.png`.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats
from absl import flags
from matplotlib.axes import Axes

from semanir_jax import cli
from semanir_jax.evaluation import reports, wording
from studies import charts, evaluations, records
from studies.evaluations import Evaluation

Row = Mapping[str, Any]


def study(
  before: pathlib.Path, after: pathlib.Path, output: pathlib.Path | None = None
) -> str:
  """Compares two evaluations, and writes files.

  Args:
    before: `--workdir` of eval.py.
    after: likewise; differences are what it gains on `before`.
    output: folder of the files; None for none.

  Returns:
    What `difference.md` holds.

  Raises:
    ValueError: the evaluations are not there or cannot be compared.
  """
  old, new = evaluations.read(before), evaluations.read(after)
  names = evaluations.common_sets(old, new)
  rows = {name: evaluations.pair(old, new, name) for name in names}
  text = markdown(old, new, rows)
  if output is not None:
    every = [row for group in rows.values() for row in group]
    records.write_rows(output / "difference.csv", every)
    records.write_text(output / "difference.md", text)
    draw(output / "difference.png", old, new, rows)
  return text


def summarise(rows: Sequence[Row], metric: str) -> dict[str, Any]:
  """What the images of one set gain.

  Args:
    rows: see `evaluations.pair`.
    metric: "psnr" (dB) or "ssim".

  Returns:
    Means `before` and `after`, mean `gain` and its standard error `error` (None
    of one image, or where a difference is infinite), number of images `better`
    and `equal`, and the rows of the largest `loss` and `best` gain, None where
    nothing is lost, or gained.
  """
  prefix = evaluations.METRICS[metric]
  gains = np.array([row[f"{prefix}difference"] for row in rows])
  numbers = [{k: v for k, v in row.items() if k != "set"} for row in rows]
  with np.errstate(invalid="ignore"):  # a gain and a loss, both infinite
    means = reports.mean_row(numbers)
  known = len(gains) > 1 and np.isfinite(gains).all()
  return {
    "before": means[f"{prefix}before"],
    "after": means[f"{prefix}after"],
    "gain": means[f"{prefix}difference"],
    "error": float(scipy.stats.sem(gains)) if known else None,
    "better": int((gains > 0).sum()),
    "equal": int((gains == 0).sum()),
    "loss": rows[gains.argmin()] if gains.min() < 0 else None,
    "best": rows[gains.argmax()] if gains.max() > 0 else None,
  }


def markdown(
  old: Evaluation, new: Evaluation, rows: Mapping[str, Sequence[Row]]
) -> str:
  """Says what is compared, then a table: for every set PSNR and SSIM."""
  lines = [
    f"- before: {old.label}",
    f"- after: {new.label}",
    f"- protocol: {wording.measures(new.protocol)}; differences are after minus"
    " before, of each image, and ± is the standard error of their mean",
    *(f"- {name}: {new.degradations[name]}" for name in rows),
  ]
  for one in (old, new):
    if alone := [name for name in one.means if name not in rows]:
      lines.append(f"- left out, only {one.path} has: {', '.join(alone)}")
  lines += [
    "",
    "| set | images | metric | before | after | difference | after is better on"
    " | largest loss | largest gain |",
    "| --- | ---: | --- | ---: | ---: | ---: | ---: | --- | --- |",
  ]
  for name, group in rows.items():
    images = f"{len(group)}"
    if total := new.means[name].get("images_of_set"):
      images += f" of {total}"
    for metric in evaluations.METRICS:
      found = summarise(group, metric)
      cells = [
        name,
        images,
        wording.title(metric),
        wording.number(metric, found["before"]),
        wording.number(metric, found["after"]),
        _gain(metric, found),
        _better(found, len(group)),
        _extreme(metric, found["loss"]),
        _extreme(metric, found["best"]),
      ]
      lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines) + "\n"


def _signed(metric: str, value: float) -> str:
  """A difference, with one digit more than `wording.number`."""
  return f"{value:+.{5 if metric == 'ssim' else 3}f}"


def _gain(metric: str, found: Row) -> str:
  """As "+0.123 ± 0.045"."""
  text = _signed(metric, found["gain"])
  if found["error"] is None:
    return text
  return f"{text} ± {_signed(metric, found['error'])[1:]}"


def _better(found: Row, count: int) -> str:
  """As "12 of 18", or "12 of 18, 3 equal"."""
  equal = f", {found['equal']} equal" if found["equal"] else ""
  return f"{found['better']} of {count}{equal}"


def _extreme(metric: str, row: Row | None) -> str:
  """As "-0.210 (chelsea)"."""
  if row is None:
    return "-"
  gain = row[f"{evaluations.METRICS[metric]}difference"]
  return f"{_signed(metric, gain)} ({row['name']})"


def draw(
  path: pathlib.Path,
  old: Evaluation,
  new: Evaluation,
  rows: Mapping[str, Sequence[Row]],
) -> None:
  """Draws the sorted PSNR differences of the images, a panel for every set."""
  columns = min(len(rows), 3)
  lines = -(-len(rows) // columns)
  figure, axes = charts.new_figure(
    max(3.5 * columns, 7), 2.8 * lines + 1.2, lines, columns
  )
  for one in axes.flat[len(rows) :]:
    one.set_axis_off()
  for one, (name, group) in zip(axes.flat, rows.items(), strict=False):
    _draw_set(one, name, group)
  charts.save(
    figure,
    path,
    "PSNR of every image after minus before, sorted; the dashed line is their"
    f" mean, and ± its standard error. Before: {old.label}. After: {new.label}."
    f" {wording.measures(new.protocol)}. Infinite differences are not drawn.",
  )


def _draw_set(axes: Axes, name: str, rows: Sequence[Row]) -> None:
  """One bar an image, losses in another colour than gains."""
  found = summarise(rows, "psnr")
  gains = np.sort([row["difference"] for row in rows])
  gains = gains[np.isfinite(gains)]
  colors = [charts.COLORS[int(gain < 0)] for gain in gains]
  axes.bar(np.arange(1, len(gains) + 1), gains, color=colors)
  axes.set_axisbelow(True)
  axes.axhline(0, color="black", linewidth=0.8)
  if np.isfinite(found["gain"]):
    axes.axhline(found["gain"], color="black", linestyle="--", linewidth=1)
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_xlabel("images, sorted")
  axes.set_ylabel("difference of PSNR, dB")
  axes.set_title(
    f"{name}: {_gain('psnr', found)} dB,\nbetter on {_better(found, len(rows))}"
  )


def main() -> None:
  """Prints the comparison."""
  values = flags.FLAGS
  output = None if values.output is None else pathlib.Path(values.output)
  text = study(pathlib.Path(values.before), pathlib.Path(values.after), output)
  print(text, end="")


if __name__ == "__main__":
  flags.DEFINE_string("before", None, "--workdir of eval.py.")
  flags.DEFINE_string("after", None, "--workdir of another evaluation.")
  flags.DEFINE_string("output", None, "Folder of table, CSV file and figure.")
  flags.mark_flags_as_required(["before", "after"])
  cli.run(main)
