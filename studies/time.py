"""Do keys from neighbouring frames help? Trains five arms at equal budget.

  python -m studies.time --data_dir=../shared/data --output=runs/time
  python -m studies.time --data_dir=../shared/data --output=runs/time \\
    --arms=same_k --seeds=1

The second line is one single run. Equal are the steps, the sequences of one
seed and the pixels that are restored; arithmetic is not, and stands in the
table. A run that is complete is not repeated, one that was interrupted goes on
from its last saved step. Several processes may share a folder, if each has runs
of its own. `runs.csv`, `summary.md` and `time.png` hold all that are complete,
and are written again after every run.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from semanir_jax import cli
from semanir_jax.training.preemption import EXIT_CODE
from studies import records, time_report, time_run
from studies.arguments import integers
from studies.time_arms import ARMS, Recipe
from studies.time_evaluation import Material
from studies.time_sequences import Photographs, real_sequences


def compare(
  recipe: Recipe,
  names: Sequence[str],
  seeds: Sequence[int],
  output: pathlib.Path,
  material: Material,
) -> bool:
  """Trains and evaluates every arm with every seed.

  Args:
    recipe: of all arms.
    names: of `time_arms.ARMS`.
    seeds: of parameters and data.
    output: folder; what is complete in it is kept.
    material: to train and to test on.

  Returns:
    Whether all runs are complete; False if SIGTERM ended one, after saving.

  Raises:
    ValueError: a name is unknown, or the folder holds other runs.
  """
  unknown = [name for name in names if name not in ARMS]
  if unknown or not names or len(set(names)) < len(names):
    raise ValueError(
      f"--arms={','.join(unknown or names)}: use {', '.join(ARMS)}, each once"
    )
  progress = records.StudyProgress(len(names) * len(seeds), "runs")
  # All arms of one seed first: what is there can be compared at any time.
  for seed in seeds:
    for name in names:
      workdir = output / "runs" / f"{name}_{seed}"
      rows = time_run.run(recipe, name, seed, workdir, material)
      if rows is None:
        return False
      time_report.write(output, complete_rows(output, recipe))
      psnr = ", ".join(f"{row['motion']}: {row['psnr']:.2f}" for row in rows)
      progress.add(f"{name}, seed {seed}, PSNR by motion {psnr} dB")
  return True


def complete_rows(output: pathlib.Path, recipe: Recipe) -> list[dict[str, Any]]:
  """Returns the rows of all complete runs of a recipe, of this call or not."""
  rows, order = [], list(ARMS)
  options = json.loads(json.dumps(dataclasses.asdict(recipe)))
  for path in output.glob(f"runs/*/{time_run.RESULT}"):
    meaning = json.loads((path.parent / time_run.MEANING).read_text())
    if options.items() <= meaning.items():
      rows += json.loads(path.read_text())["rows"]
  return sorted(rows, key=lambda row: (row["seed"], order.index(row["arm"])))


def open_material(
  recipe: Recipe, data_dir: pathlib.Path, frames: str
) -> Material:
  """Opens the photographs, and the real frames if three follow each other."""
  real = []
  if frames:
    real = real_sequences(data_dir / frames, recipe.test_side, recipe.sigma)
    if not real:
      logging.info(
        "%s: no three frames in a row, so there are no rows of real frames",
        data_dir / frames,
      )
  return Material(
    Photographs(data_dir / "photos" / "train"),
    Photographs(data_dir / "photos" / "val"),
    real,
  )


def main() -> None:
  """Runs the study."""
  values = flags.FLAGS
  recipe = Recipe()
  if values.steps:
    recipe = dataclasses.replace(recipe, steps=values.steps)
  complete = compare(
    recipe,
    values.arms,
    integers("seeds", values.seeds),
    pathlib.Path(values.output),
    open_material(recipe, pathlib.Path(values.data_dir), values.frames),
  )
  if not complete:
    sys.exit(EXIT_CODE)
  logging.info("written: %s", pathlib.Path(values.output) / "summary.md")


if __name__ == "__main__":
  flags.DEFINE_list("arms", list(ARMS), "Which of studies/time_arms.py.")
  flags.DEFINE_list("seeds", ["0", "1", "2"], "Of parameters and data.")
  flags.DEFINE_integer("steps", None, "Default: as in the recipe.", 1)
  flags.DEFINE_string("data_dir", None, "Folder that holds photos.")
  flags.DEFINE_string(
    "frames", "reds_samples/target", "Folder of real frames in it, or empty."
  )
  flags.DEFINE_string("output", None, "Folder of the runs and the results.")
  flags.mark_flags_as_required(["data_dir", "output"])
  cli.run(main)
