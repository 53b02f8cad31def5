"""Networks and classical filters on photographs as people have them.

  python -m studies.photographs --data_dir=../shared/data --set=kodak24 \\
    --output=runs/photographs

The rows are the test forms of `configs/photo.py`; the columns are networks, as
`restore.py` runs them, and filters that a user would pick instead, with the
noise estimated (`studies.classical`). Everything takes and gives 8 bits.

Writes `images.csv` after every image, then `table.csv`, `table.md` and
`pictures.png`. What `images.csv` has of the same image, row, and method of the
same weights or version is not measured again: the same command goes on.
"""

import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from PIL import Image, ImageDraw

import semanir_jax
from configs import photo
from semanir_jax import cli
from semanir_jax.evaluation import metrics, test_sets
from semanir_jax.images.image_file import write_image
from studies import classical, measuring, records

NETWORKS = ("photo_light", "denoise_files_light", "jpeg_color_light")
METHODS = (*NETWORKS, *classical.FILTERS)
ROWS = ("clean", *(f"{form}_s25" for form in photo.FORMS))
_KEY = ("set", "row", "crop_px", "image", "method", "made_by")
_PICTURE_PX = 128  # side of a panel, of the first image's middle


class Method(NamedTuple):
  """One column of the table.

  Attributes:
    name: in the table.
    made_by: fingerprint of the weights, or package and version.
    run: uint8 `[H, W, 3]` to the same; opened at its first call.
  """

  name: str
  made_by: str
  run: Callable[[np.ndarray], np.ndarray]


def study(
  output: pathlib.Path,
  *,
  data_dir: str,
  set_name: str = "kodak24",
  rows: Sequence[str] = ROWS,
  methods: Sequence[str] = METHODS,
  max_images: int = 0,
  crop_px: int = 0,
) -> list[dict[str, Any]]:
  """Measures every method on every row of a test set.

  Args:
    output: folder.
    data_dir: folder of the test sets.
    set_name: "kodak24", "cbsd68" or "photos" of configs/photo.py.
    rows: "clean", or a form of `photo.FORMS` and a sigma, "shared_s25".
    methods: names of `classical.FILTERS`, or networks for `semanir_jax.load`.
    max_images: of the set, its first ones; 0 for all.
    crop_px: side of the middle that is degraded; 0 for the set's own.

  Returns:
    The table: of each row `row`, `images`, `input` and each method in dB.

  Raises:
    ValueError: a row, a method's package or the set is not there.
  """
  opened = [_open_method(name) for name in methods]
  sets = {row: _open_set(set_name, row, data_dir, crop_px) for row in rows}
  path = output / "images.csv"
  known = {records.key(row, _KEY): row for row in records.read_rows(path)}
  wanted = _wanted(set_name, sets, opened, max_images)
  keys = [records.key(facts, _KEY) for facts, _ in wanted]
  missing = [
    pair for key, pair in zip(keys, wanted, strict=True) if key not in known
  ]
  progress = records.StudyProgress(len(missing), "images")

  @functools.lru_cache(maxsize=1)
  def example(row: str, index: int) -> test_sets.Example:
    return next(test_sets.examples(sets[row], [index]))

  for facts, method in missing:
    one = example(facts["row"], facts["image"])
    measured = facts | _measure(method, one)
    known[records.key(facts, _KEY)] = measured
    records.write_rows(path, list(known.values()))
    progress.add(
      f"{facts['row']}, {one.name}, {method.name}:"
      f" {measured['input_psnr']:.2f} -> {measured['psnr']:.2f} dB"
    )
  table = _table([known[key] for key in keys], rows, methods)
  records.write_rows(output / "table.csv", table)
  made_by = [f"{method.name}: {method.made_by}" for method in opened]
  records.write_text(
    output / "table.md",
    _markdown(table, methods, _protocol(set_name, sets, made_by)),
  )
  draw(output / "pictures.png", sets, opened)
  return table


def _wanted(
  set_name: str,
  sets: Mapping[str, test_sets.TestSet],
  methods: Sequence[Method],
  max_images: int,
) -> list[tuple[dict[str, Any], Method]]:
  """What is to be measured: its `_KEY`, and the method; image by image."""
  return [
    (
      {
        "set": set_name,
        "row": row,
        "crop_px": one.options["center_crop_px"],
        "image": index,
        "method": method.name,
        "made_by": method.made_by,
      },
      method,
    )
    for row, one in sets.items()
    for index in range(min(len(one.source), max_images or len(one.source)))
    for method in methods
  ]


def _open_method(name: str) -> Method:
  if name in classical.FILTERS:
    run, made_by = classical.open_filter(name)
    return Method(name, made_by, run)
  network = semanir_jax.load(name)
  label = pathlib.Path(name).stem
  return Method(label, measuring.fingerprint(network.params), network)


def _open_set(
  set_name: str, row: str, data_dir: str, crop_px: int
) -> test_sets.TestSet:
  config: Any = photo.get_config("U_light")
  sets = config.eval.sets
  name = f"{set_name}_{row}"
  if name not in sets:
    known = (key.removeprefix("kodak24_") for key in sets if "kodak24" in key)
    raise ValueError(
      f"{name}: configs/photo.py has no such test; --set is kodak24, cbsd68 or"
      f" photos, and --rows are of {', '.join(known)}"
    )
  options = sets[name].to_dict()
  options["center_crop_px"] = crop_px or options["center_crop_px"]
  return test_sets.open_test_set(name, options, data_dir)


def _measure(method: Method, one: test_sets.Example) -> dict[str, Any]:
  """PSNR in dB of input and result, on all channels of 8 bits, and seconds."""
  noisy, clean = metrics.to_uint8(one.lq), metrics.to_uint8(one.hq)
  start = time.perf_counter()
  result = method.run(noisy)
  return {
    "input_psnr": metrics.psnr(noisy, clean),
    "psnr": metrics.psnr(result, clean),
    "seconds": time.perf_counter() - start,
  }


def _table(
  measured: Sequence[Mapping[str, Any]],
  rows: Sequence[str],
  methods: Sequence[str],
) -> list[dict[str, Any]]:
  """Means over the images, a row for each form; then seconds an image."""
  names = [pathlib.Path(name).stem for name in methods]
  table = []
  for row in rows:
    mine = [one for one in measured if one["row"] == row]
    entry: dict[str, Any] = {"row": row}
    entry["images"] = len({str(one["image"]) for one in mine})
    entry["input"] = _mean(mine, "input_psnr")
    for name in names:
      entry[name] = _mean([o for o in mine if o["method"] == name], "psnr")
    table.append(entry)
  return table


def _mean(rows: Sequence[Mapping[str, Any]], column: str) -> float:
  return float(np.mean([float(row[column]) for row in rows]))


def _protocol(
  set_name: str,
  sets: Mapping[str, test_sets.TestSet],
  made_by: Sequence[str],
) -> str:
  crop = next(iter(sets.values())).options["center_crop_px"]
  middle = f", middles of {crop} px" if crop else ""
  return (
    f"PSNR in dB, {set_name}{middle}, all channels, 8 bits in and out, means of"
    f" per-image values; {measuring.device_line()}. {'; '.join(made_by)}."
  )


def _markdown(
  table: Sequence[Mapping[str, Any]], methods: Sequence[str], protocol: str
) -> str:
  """The table, the best of each row in bold."""
  names = [pathlib.Path(name).stem for name in methods]
  head = ["row", "images", "input", *names]
  lines = [" | ".join(head), " | ".join(["---", *["---:"] * (len(head) - 1)])]
  for row in table:
    best = max(row[name] for name in names)
    cells = [row["row"], str(row["images"]), _db(row["input"])]
    for name in names:
      bold = "**" if row[name] == best else ""
      cells.append(f"{bold}{_db(row[name])}{bold}")
    lines.append(" | ".join(cells))
  rows = "\n".join(f"| {line} |" for line in lines)
  return f"{rows}\n\n{protocol}\n"


def _db(value: float) -> str:
  return "equal" if math.isinf(value) else f"{value:.2f}"


def draw(
  path: pathlib.Path,
  sets: Mapping[str, test_sets.TestSet],
  methods: Sequence[Method],
) -> None:
  """Draws the middle of the first image: a line for each row, beside one
  another the input, what each method makes of it, and the clean image.
  """
  bar = 14
  lines = []
  for row, test_set in sets.items():
    options = {**test_set.options, "center_crop_px": _PICTURE_PX}
    middle = dataclasses.replace(test_set, options=options)
    one = next(test_sets.examples(middle, [0]))
    noisy, clean = metrics.to_uint8(one.lq), metrics.to_uint8(one.hq)
    panels = {f"{row}, input": noisy}
    panels |= {method.name: method.run(noisy) for method in methods}
    panels["clean"] = clean
    titled = [_titled(name, panel, bar) for name, panel in panels.items()]
    lines.append(np.concatenate(titled, axis=1))
  write_image(path, np.concatenate(lines))


def _titled(title: str, panel: np.ndarray, bar: int) -> np.ndarray:
  height, width, _ = panel.shape
  picture = Image.new("RGB", (width, height + bar), "white")
  picture.paste(Image.fromarray(panel), (0, bar))
  ImageDraw.Draw(picture).text((2, 1), title, fill="black")
  return np.asarray(picture)


def main() -> None:
  """Runs the study and prints its table."""
  values = flags.FLAGS
  output = pathlib.Path(values.output)
  study(
    output,
    data_dir=values.data_dir,
    set_name=values.set,
    rows=values.rows,
    methods=values.methods,
    max_images=values.max_images,
    crop_px=values.crop,
  )
  print((output / "table.md").read_text(), end="")


if __name__ == "__main__":
  flags.DEFINE_string("data_dir", None, "Folder of the test sets.")
  flags.DEFINE_string("output", None, "Folder of tables and pictures.")
  flags.DEFINE_string("set", "kodak24", "kodak24, cbsd68 or photos.")
  flags.DEFINE_list("rows", list(ROWS), "Forms with their sigma, and clean.")
  flags.DEFINE_list("methods", list(METHODS), "Networks and filters.")
  flags.DEFINE_integer("max_images", 0, "Images of the set; 0 for all.", 0)
  flags.DEFINE_integer("crop", 0, "px, side of the middle; 0: the set's.", 0)
  flags.mark_flags_as_required(["data_dir", "output"])
  cli.run(main)
