"""Tables and figure of `studies.ablation`."""

import functools
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from matplotlib.axes import Axes

from semanir_jax.checkpoint import make_model
from studies import charts, measuring, records, variants

Row = Mapping[str, Any]


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
  """Writes `summary.csv`, `summary.md` and `ablation.png`."""
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
  named = ("k_1_16", "k_1_8", "k_1_4", "k_1_2", "full")
  series = [
    (variants.VARIANTS[name].label + ", evaluated at k", name, (name,), "-")
    for name in curves
  ]
  series.append(("trained for k", variants.BASE, (*named, variants.BASE), ":"))
  for index, (label, _, members, line) in enumerate(series):
    points = sorted(
      (row["num_keys"], row["psnr"], row["psnr_sd"] or 0.0)
      for row in summary
      if row["variant"] in members and (len(members) == 1 or row["own_k"])
    )
    if len(points) < 2:
      continue
    keys, values, spreads = zip(*points, strict=True)
    axes.errorbar(
      keys,
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
    shape = (1, side, side, model.in_channels)
    image = jax.random.uniform(jax.random.key(0), shape)
    variables = jax.jit(model.init)(jax.random.key(0), image)
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
  for row in rows:
    print(f"{row['variant']:12} {row['milliseconds']:9.1f} ms")
