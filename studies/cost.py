"""What the named sizes cost: parameters, arithmetic, time and memory.

  python -m studies.cost --sizes=tiny,light,S,B,U_tiny,U_light,U --height=128 \\
    --width=128 --output=runs/cost

Columnar sizes count as super-resolution by `--scale`, the U shapes at scale 1;
`--height` and `--width` are those of the input. Writes `cost.csv` after every
size, and `cost.png`; a size that the file has with the same scale, input,
device and number of repeats is kept. `--norun` compiles and runs nothing.
"""

import functools
import importlib
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from matplotlib.ticker import LogLocator, NullFormatter

from semanir_jax import cli
from semanir_jax.models.semanir import SemanIR
from semanir_jax.models.sizes import PUBLISHED_MILLIONS, SIZES
from semanir_jax.summary import count_parameters
from studies import arithmetic, charts, measuring, records

# Config and test set whose published PSNR stands for a size.
_PUBLISHED = {
  "S": ("sr", "x{scale},S", "set5"),
  "B": ("sr", "x{scale},B", "set5"),
  "U": ("denoise", "color,s25,U", "cbsd68"),
}
_KEY = ("size", "scale", "input", "num_keys", "repeats", "device")


def study(
  sizes: Sequence[str],
  output: pathlib.Path,
  *,
  sides: tuple[int, int] = (128, 128),
  scale: int = 4,
  repeats: int = 5,
) -> list[dict[str, Any]]:
  """Counts and measures every size.

  Args:
    sizes: names of `models.sizes.SIZES`.
    output: folder.
    sides: height and width of the input, px.
    scale: of the columnar sizes.
    repeats: forward passes timed; 0 compiles and runs nothing.

  Returns:
    The rows asked for; `cost.csv` keeps what it has besides.

  Raises:
    ValueError: a size is unknown.
  """
  unknown = [size for size in sizes if size not in SIZES]
  if unknown:
    raise ValueError(f"--sizes={','.join(unknown)}: use {', '.join(SIZES)}")
  path, rows = output / "cost.csv", []
  before = records.read_rows(path)
  known_rows = {records.key(row, _KEY): row for row in before}
  progress = records.StudyProgress(len(sizes), "sizes")
  for size in sizes:
    columnar = SIZES[size]["architecture"] == "columnar"
    model = SemanIR(**{**SIZES[size], "scale": scale if columnar else 1})
    row = {
      "size": size,
      "scale": model.scale,
      "input": "x".join(map(str, sides)),
      "num_keys": model.num_keys,
      "repeats": repeats,
      "device": measuring.device_line(),
    }
    known = known_rows.get(records.key(row, _KEY))
    row = known or row | measure(model, size, sides, repeats)
    rows.append(row)
    records.write_rows(path, records.merge(before, rows, _KEY))
    progress.add(f"{size}: {row['parameters']} parameters")
  draw(output / "cost.png", rows)
  return rows


def measure(
  model: SemanIR, size: str, sides: tuple[int, int], repeats: int
) -> dict[str, Any]:
  """Columns of one size; see docs/studies.md for their meaning."""
  columns = {
    "parameters": count_parameters(model),
    "published_millions": PUBLISHED_MILLIONS.get((size, model.scale), ""),
    "published_psnr": _published_psnr(size, model.scale),
  }
  columns |= arithmetic.gigaflops(model, sides, model.num_keys)
  if not repeats:
    return columns
  image = jnp.full((1, *sides, model.in_channels), 0.5)
  variables = jax.device_put({"params": measuring.random_params(model)})
  compiled = jax.jit(model.apply).lower(variables, image).compile()
  memory = compiled.memory_analysis()
  seconds = measuring.seconds_per_call(
    {size: functools.partial(compiled, variables, image)}, repeats
  )
  columns |= {
    # The compilers' own count takes the body of a loop once.
    "compiler_gigaflops": compiled.cost_analysis()["flops"] / 1e9,
    "milliseconds": 1e3 * seconds[size],
    "arguments_mib": memory.argument_size_in_bytes / 2**20,
    "temporaries_mib": memory.temp_size_in_bytes / 2**20,
    "peak_mib": (
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      + memory.temp_size_in_bytes
    )
    / 2**20,
  }
  jax.clear_caches()
  return columns


def _published_psnr(size: str, scale: int) -> float | str:
  """PSNR in dB that SemanIR's authors print, and on which set."""
  if size not in _PUBLISHED:
    return ""
  task, variant, name = _PUBLISHED[size]
  module = importlib.import_module(f"configs.{task}")
  config = module.get_config(variant.format(scale=scale))
  return config.eval.sets[name].published


def draw(path: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
  """Draws arithmetic, time, memory and published PSNR against parameters."""
  panels = (
    ("gigaflops", "GFLOP, k keys per query"),
    ("milliseconds", "ms per forward pass"),
    ("peak_mib", "memory by the compiler, MiB"),
    ("published_psnr", "published PSNR, dB (U: another task)"),
  )
  panels = [p for p in panels if any(row.get(p[0]) for row in rows)]
  lines = -(-len(panels) // 2)
  figure, axes = charts.new_figure(10, 3.75 * lines, lines, 2)
  for one in axes.flat[len(panels) :]:
    one.set_axis_off()
  for one, (column, title) in zip(axes.flat, panels, strict=False):
    for row in filter(lambda row: row.get(column), rows):
      x, y = float(row["parameters"]) / 1e6, float(row[column])
      ushape = row["size"].startswith("U")
      one.plot(x, y, charts.MARKERS[ushape], color=charts.COLORS[ushape])
      one.annotate(
        row["size"], (x, y), xytext=(5, 4), textcoords="offset points"
      )
    one.margins(x=0.2, y=0.2)
    one.set_xlabel("parameters, millions")
    one.set_ylabel(title)
    if column != "published_psnr":
      one.loglog()
      for axis in (one.xaxis, one.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
  repeats = int(rows[0]["repeats"])
  timed = f" ms: median of {repeats};" if repeats else ""
  charts.save(
    figure,
    path,
    f"Input {rows[0]['input']} px, batch 1, float32, each size's own k; blue"
    " circles: columnar, PSNR on Y of Set5; orange squares: U, PSNR of"
    " colour denoising sigma 25 on CBSD68, which cannot be compared with the"
    f" others.{timed} {rows[0]['device']}.",
  )


def main() -> None:
  """Runs the study and prints its table."""
  values = flags.FLAGS
  rows = study(
    values.sizes,
    pathlib.Path(values.output),
    sides=(values.height, values.width),
    scale=values.scale,
    repeats=values.repeats if values.run else 0,
  )
  for row in rows:
    measured = [
      f"{float(row[name]):10.1f}"
      for name in (
        "gigaflops",
        "compiler_gigaflops",
        "milliseconds",
        "peak_mib",
      )
      if row.get(name)
    ]
    print(f"{row['size']:8} {int(row['parameters']):12,d}", *measured)


if __name__ == "__main__":
  flags.DEFINE_list("sizes", list(SIZES), "Names of models/sizes.py.")
  flags.DEFINE_integer("height", 128, "Of the input, px.", 1)
  flags.DEFINE_integer("width", 128, "Of the input, px.", 1)
  flags.DEFINE_integer("scale", 4, "Of the columnar sizes.", 2, 8)
  flags.DEFINE_integer("repeats", 5, "Forward passes timed.", 1)
  flags.DEFINE_bool("run", True, "Compile and run; --norun only counts.")
  flags.DEFINE_string("output", None, "Folder of the CSV file and the plot.")
  flags.mark_flags_as_required(["output"])
  cli.run(main, keep_compiled=False)
