"""Tables and figure of `studies.ablation`, from its runs.csv alone.

  python -m studies.ablation_report --output=runs/ablation

writes them again; nothing is trained or measured.
"""

import functools
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from matplotlib.axes import Axes

from semanir_jax import cli
from semanir_jax.networks.build import make_model
from studies import charts, measuring, records, variants

Row = Mapping[str, Any]

# Of the columns of runs.csv; the others are text.
_TYPES = {
  "seed": int,
  "num_keys": int,
  "step": int,
  "own_k": "True".__eq__,
  **dict.fromkeys(
    ("psnr", "ssim", "input_psnr", "input_ssim", "train_seconds"), float
  ),
}


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """Means over the seeds, for every variant and k.

  Args:
    rows: of all runs so far.

  Returns:
    One row each: mean and sample standard deviation of PSNR (None for one
    seed), and mean and standard deviation of the difference to variant "stage"
    at its own k with the same seed.
  """
  base = {
    row["seed"]: row["psnr"]
    for row in rows
    if row["variant"] == variants.BASE and row["own_k"]
  }
  groups: dict[tuple[str, int], list[Row]] = {}
  for row in rows:
    groups.setdefault((row["variant"], row["num_keys"]), []).append(row)
  summary = []
  for (name, num_keys), group in groups.items():
    gains = [r["psnr"] - base[r["seed"]] for r in group if r["seed"] in base]
    summary.append(
      {
        "variant": name,
        "label": variants.VARIANTS[name].label,
        "num_keys": num_keys,
        "own_k": group[0]["own_k"],
        "seeds": len(group),
        "psnr": statistics.mean(r["psnr"] for r in group),
        "psnr_sd": _spread([r["psnr"] for r in group]),
        "ssim": statistics.mean(r["ssim"] for r in group),
        "gain": statistics.mean(gains) if gains else None,
        "gain_sd": _spread(gains),
        "train_seconds": statistics.mean(r["train_seconds"] for r in group),
      }
    )
  return summary


def _spread(values: Sequence[float]) -> float | None:
  """Sample standard deviation."""
  return statistics.stdev(values) if len(values) > 1 else None


def write(output: pathlib.Path, rows: Sequence[Row]) -> None:
  """Writes `runs.csv`, `summary.csv`, `summary.md` and `ablation.png`."""
  records.write_rows(output / "runs.csv", rows)
  summary = summarise(rows)
  records.write_rows(output / "summary.csv", summary)
  caption = (
    f"{rows[0]['protocol']}. {rows[0]['step']} training steps in every run,"
    f" input {rows[0]['input_psnr']:.2f} dB; {rows[0]['device']}."
  )
  lines = [
    f"Protocol: {caption} ± is the standard deviation over seeds.",
    "",
    "| variant | k | seeds | PSNR, dB | SSIM | to SemanIR, same seed, dB |"
    " training, s |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
  ]
  for row in summary:
    own = "" if row["own_k"] else " (evaluated only)"
    lines.append(
      f"| {row['label']} | {row['num_keys']}{own} | {row['seeds']} |"
      f" {_plus_minus(row['psnr'], row['psnr_sd'])} | {row['ssim']:.4f} |"
      f" {_plus_minus(row['gain'], row['gain_sd'], '+')} |"
      f" {row['train_seconds']:.0f} |"
    )
  records.write_text(output / "summary.md", "\n".join(lines) + "\n")
  draw(output / "ablation.png", rows, summary, caption)


def _plus_minus(
  value: float | None, spread: float | None, sign: str = ""
) -> str:
  if value is None:
    return "-"
  text = f"{value:{sign}.3f}"
  return text if spread is None else f"{text} ± {spread:.3f}"


def draw(
  path: pathlib.Path, rows: Sequence[Row], summary: Sequence[Row], caption: str
) -> None:
  """Draws every run, and PSNR against k where there are several k."""
  order = list(variants.VARIANTS)
  own = [row for row in summary if row["own_k"]]
  own.sort(key=lambda row: order.index(row["variant"]))
  curves = [
    name
    for name, variant in variants.VARIANTS.items()
    if variant.all_keys and any(r["variant"] == name for r in rows)
  ]
  height = 1.8 + 0.32 * max(len(own), 7)
  columns = 2 if curves else 1
  figure, axes = charts.new_figure(6 * columns, height, 1, columns)
  left = axes[0, 0]
  for place, row in enumerate(own):
    runs = [
      r["psnr"] for r in rows if r["variant"] == row["variant"] and r["own_k"]
    ]
    left.plot(runs, [place] * len(runs), "o", color=charts.COLORS[0], alpha=0.5)
    left.plot(row["psnr"], place, "|", color="black", markersize=16)
  left.set_yticks(
    range(len(own)), [f"{row['label']} (k = {row['num_keys']})" for row in own]
  )
  left.set_ylim(max(len(own), 5) - 0.5, -0.5)  # the first one on top
  left.set_xlabel("PSNR, dB")
  left.set_title("Each dot a seed, the line their mean")
  if curves:
    _draw_keys(axes[0, 1], curves, summary)
  charts.save(figure, path, caption)


def _draw_keys(
  axes: Axes, curves: Sequence[str], summary: Sequence[Row]
) -> None:
  """PSNR against k: networks evaluated at all k, and trained for one k."""
  of_one_k = (variants.BASE, "k_1_16", "k_1_8", "k_1_4", "k_1_2", "full")
  series = [
    (variants.VARIANTS[name].label + ", evaluated at k", (name,), "-")
    for name in curves
  ]
  series.append(("trained for k", of_one_k, ":"))
  for index, (label, members, line) in enumerate(series):
    points = {
      row["num_keys"]: (row["psnr"], row["psnr_sd"] or 0.0)
      for row in summary
      if row["variant"] in members and (len(members) == 1 or row["own_k"])
    }
    if len(points) < 2:
      continue
    keys = sorted(points)
    values, spreads = zip(*(points[k] for k in keys), strict=True)
    axes.errorbar(
      [k * 2 ** (0.06 * (index - 1)) for k in keys],  # bars beside each other
      values,
      spreads,
      fmt=line + charts.MARKERS[index],
      color=charts.COLORS[index],
      capsize=3,
      label=label,
    )
  axes.set_xscale("log", base=2)
  axes.xaxis.set_major_formatter("{x:.0f}")
  axes.set_xlabel("k, keys per token")
  axes.set_ylabel("PSNR, dB")
  axes.set_title("Mean and standard deviation over seeds")
  if axes.get_legend_handles_labels()[0]:
    axes.legend(fontsize=8)


def time_forward(
  config: Any, names: Sequence[str], output: pathlib.Path, side: int
) -> None:
  """Times the forward pass of every variant; writes `forward.csv`.

  Args:
    config: of the first variant.
    names: of the variants.
    output: folder.
    side: px, of the square input.
  """
  calls, models = {}, []
  for name in names:
    model = make_model(variants.make_config(config, name, 0).model)
    if model in models:
      continue  # trained otherwise, and the same network
    models.append(model)
    image = jnp.full((1, side, side, model.in_channels), 0.5)
    variables = jax.device_put({"params": measuring.random_params(model)})
    calls[name] = functools.partial(jax.jit(model.apply), variables, image)
  seconds = measuring.seconds_per_call(calls, repeats=15)
  rows = [
    {
      "variant": name,
      "label": variants.VARIANTS[name].label,
      "milliseconds": 1e3 * value,
      "input": f"{side}x{side} px, batch 1",
      "protocol": "median of 15 rounds, variants in turns;"
      f" {measuring.device_line()}",
    }
    for name, value in seconds.items()
  ]
  records.write_rows(output / "forward.csv", rows)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Rows of `runs.csv`, with the types they were written with.

  Raises:
    ValueError: there are none.
  """
  rows = records.read_rows(path)
  if not rows:
    raise ValueError(f"{path}: no runs; give the --output of studies.ablation")
  return [
    {key: _TYPES.get(key, str)(value) for key, value in row.items()}
    for row in rows
  ]


def main() -> None:
  """Writes tables and figure again."""
  output = pathlib.Path(flags.FLAGS.output)
  write(output, read(output / "runs.csv"))


if __name__ == "__main__":
  flags.DEFINE_string("output", None, "Folder that holds runs.csv.")
  flags.mark_flags_as_required(["output"])
  cli.run(main)
