"""Tables and figure of `studies.time`, from its runs.csv alone.

  python -m studies.time_report --output=runs/time

writes them again and prints the tables; nothing is trained or measured.
"""

import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from matplotlib.axes import Axes

from semanir_jax import cli
from studies import charts, records
from studies.time_arms import ARMS, BASE
from studies.time_evaluation import PLACES

Row = Mapping[str, Any]

_WHOLE = ("seed", "step", "pictures", "parameters", "num_keys", "window_tokens")
_REAL_NUMBERS = (
  *("psnr", "input_psnr", "gigaflops", "gigaflops_mask"),
  "seconds_per_step",
)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the rows of `runs.csv`, with the types they were written with.

  Raises:
    ValueError: there are none.
  """
  rows: list[dict[str, Any]] = [dict(row) for row in records.read_rows(path)]
  if not rows:
    raise ValueError(f"{path}: no runs; give the --output of studies.time")
  for row in rows:
    for name, value in row.items():
      if name in _WHOLE:
        row[name] = int(value)
      elif name in _REAL_NUMBERS or (name.startswith("stage_") and value):
        row[name] = float(value)
      elif name == "motion" and re.fullmatch(r"[\d.]+", value):
        row[name] = float(value)
  return rows


def write(output: pathlib.Path, rows: Sequence[Row]) -> str:
  """Writes `runs.csv`, `summary.md` and `time.png`; returns the tables."""
  records.write_rows(output / "runs.csv", rows)
  text = "\n\n".join(
    [
      f"Protocol: {_caption(rows)} ± is the standard deviation over seeds.",
      "\n".join(_cost_table(rows)),
      "\n".join(_psnr_table(rows)),
      *(["\n".join(_share_table(rows))] if _with_shares(rows) else []),
    ]
  )
  records.write_text(output / "summary.md", text + "\n")
  draw(output / "time.png", rows)
  return text


def _caption(rows: Sequence[Row]) -> str:
  first = rows[0]
  return (
    f"{first['protocol']}; {first['pictures']} pictures. {first['step']}"
    f" training steps in every run, input {first['input_psnr']:.2f} dB;"
    f" {first['device']}."
  )


def _arms(rows: Sequence[Row]) -> list[str]:
  """Returns the arms that have rows, in order."""
  return [name for name in ARMS if any(row["arm"] == name for row in rows)]


def _motions(rows: Sequence[Row]) -> list[Any]:
  return list(dict.fromkeys(row["motion"] for row in rows))


def _title(motion: Any) -> str:
  return motion if isinstance(motion, str) else f"{motion:g}"


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
  """Returns the lines of a Markdown table, its first column to the left."""
  marks = ["---", *["---:"] * (len(titles) - 1)]
  return [f"| {' | '.join(cells)} |" for cells in (titles, marks, *lines)]


def _cost_table(rows: Sequence[Row]) -> list[str]:
  """Returns the table of what an arm is and what it costs."""
  lines = []
  for name in _arms(rows):
    mine = [row for row in rows if row["arm"] == name]
    seconds = {row["seed"]: row["seconds_per_step"] for row in mine}
    first = mine[0]
    lines.append(
      [
        ARMS[name].label,
        f"{first['num_keys']} of {first['window_tokens']}",
        f"{first['parameters']:,}",
        f"{first['gigaflops']:.2f}",
        f"{first['gigaflops_mask']:.2f}",
        f"{statistics.mean(seconds.values()):.2f}",
        str(len(seconds)),
      ]
    )
  of = rows[0]["gigaflops_of"]
  titles = (
    *("arm", "k of N", "parameters", f"GFLOP of {of}, k keys per query"),
    *("GFLOP, mask form", "s per training step", "seeds"),
  )
  return _table(titles, lines)


def _psnr_table(rows: Sequence[Row]) -> list[str]:
  """Returns the table of PSNR by motion, and of what is won at equal seeds."""
  motions = _motions(rows)
  lines = []
  for name in _arms(rows):
    cells = [ARMS[name].label]
    for motion in motions:
      values = _values(rows, name, motion)
      cells.append(plus_minus(list(values.values())))
    lines.append(cells)
    if name == BASE:
      continue
    cells = [f"{ARMS[name].label}: to one frame, same seed"]
    for motion in motions:
      cells.append(plus_minus(gains(rows, name, motion), "+"))
    lines.append(cells)
  titles = ["PSNR in dB by motion, px per frame", *map(_title, motions)]
  return _table(titles, lines)


def _values(rows: Sequence[Row], name: str, motion: Any) -> dict[int, float]:
  """Returns the PSNR of an arm by seed."""
  return {
    row["seed"]: row["psnr"]
    for row in rows
    if row["arm"] == name and row["motion"] == motion
  }


def gains(rows: Sequence[Row], name: str, motion: Any) -> list[float]:
  """Returns how far an arm is ahead of one frame, dB, at each seed of both."""
  base = _values(rows, BASE, motion)
  mine = _values(rows, name, motion)
  return [mine[seed] - base[seed] for seed in mine if seed in base]


def plus_minus(values: Sequence[float], sign: str = "") -> str:
  """Writes mean and sample standard deviation; "-" for no value."""
  if not values:
    return "-"
  text = f"{statistics.mean(values):{sign}.3f}"
  if len(values) == 1:
    return text
  return f"{text} ± {statistics.stdev(values):.3f}"


def _with_shares(rows: Sequence[Row]) -> list[str]:
  """Returns the arms whose dictionaries may hold keys of other frames."""
  return [
    name
    for name in _arms(rows)
    if any(
      row["arm"] == name and row.get("stage_0_middle", "") != "" for row in rows
    )
  ]


def _stages(rows: Sequence[Row]) -> list[str]:
  """Returns the stages that have shares."""
  names = {key.rpartition("_")[0] for row in rows for key in row}
  return sorted(name for name in names if name.startswith("stage_"))


def share(
  rows: Sequence[Row], name: str, stage: str, motion: Any
) -> tuple[float, ...]:
  """Returns the shares of kept keys by frame, means over the seeds."""
  mine = [r for r in rows if r["arm"] == name and r["motion"] == motion]
  return tuple(
    statistics.mean(row[f"{stage}_{place}"] for row in mine) for place in PLACES
  )


def _share_table(rows: Sequence[Row]) -> list[str]:
  """Returns the table of the middle frame's keys by the frame they are of."""
  motions = _motions(rows)
  lines = [
    [
      f"{ARMS[name].label}, {stage.replace('_', ' ')}",
      *(
        " / ".join(f"{100 * s:.0f}" for s in share(rows, name, stage, motion))
        for motion in motions
      ),
    ]
    for name in _with_shares(rows)
    for stage in _stages(rows)
  ]
  titles = (
    "kept keys in the previous / middle / next frame, %, by motion",
    *map(_title, motions),
  )
  return _table(titles, lines)


def draw(path: pathlib.Path, rows: Sequence[Row]) -> None:
  """Draws what each arm wins by motion, and which frames keys are of."""
  figure, axes = charts.new_figure(11, 4.5, 1, 2)
  motions = [m for m in _motions(rows) if not isinstance(m, str)]
  left, right = axes[0]
  for index, name in enumerate(n for n in _arms(rows) if n != BASE):
    style = {
      "color": charts.COLORS[index],
      "marker": charts.MARKERS[index],
    }
    found = [gains(rows, name, motion) for motion in motions]
    if all(found):
      means = [statistics.mean(values) for values in found]
      left.plot(motions, means, label=ARMS[name].label, **style)
    for motion, values in zip(motions, found, strict=True):
      left.plot([motion] * len(values), values, ".", color=style["color"])
  left.axhline(0, color="gray", linestyle="--", label=ARMS[BASE].label)
  left.set_ylabel("PSNR to one frame, same seed, dB")
  left.set_title("Lines are means, dots seeds")
  left.legend(loc="best")
  _draw_shares(right, rows, motions)
  for one in (left, right):
    one.set_xlabel("motion, px per frame")
  charts.save(figure, path, _caption(rows))


def _draw_shares(
  axes: Axes, rows: Sequence[Row], motions: Sequence[float]
) -> None:
  """Draws the share of keys that are of the two other frames."""
  for index, name in enumerate(
    n for n in _with_shares(rows) if ARMS[n].neighbours == "keys"
  ):
    for stage in _stages(rows):
      others = [1 - share(rows, name, stage, m)[1] for m in motions]
      axes.plot(
        motions,
        others,
        marker=charts.MARKERS[_stages(rows).index(stage)],
        color=charts.COLORS[index],
        label=f"{ARMS[name].label}, {stage.replace('_', ' ')}",
      )
  axes.axhline(2 / 3, color="gray", linestyle="--", label="any two of three")
  axes.set_ylim(0, 1)
  axes.set_ylabel("share of kept keys in the neighbouring frames")
  axes.set_title("Which frames the dictionary takes keys of")
  axes.legend(loc="best")


def main() -> None:
  """Writes tables and figure again."""
  output = pathlib.Path(flags.FLAGS.output)
  print(write(output, read(output / "runs.csv")))


if __name__ == "__main__":
  flags.DEFINE_string("output", None, "Folder that holds runs.csv.")
  flags.mark_flags_as_required(["output"])
  cli.run(main)
