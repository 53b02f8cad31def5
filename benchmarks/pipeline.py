"""How many training batches a core prepares, for each task.

  python -m benchmarks.pipeline --data_dir=../shared/data --out=pipeline.json

The patch sizes are those of the configs; a batch has 8 patches. Rates are per
second of processor time, so that other processes on the machine count little;
the clock's rate stands beside. Synthetic tasks read the photographs inside our
wheels, the paired ones the first folder of pairs found in `--data_dir`.
"""

import importlib
import json
import pathlib
import platform
import time
from typing import Any

from absl import flags

from semanir_jax import cli
from semanir_jax.data.pipeline import make_train_iterator
from semanir_jax.data.sources import open_source
from semanir_jax.degradations import make
from semanir_jax.images.image_file import PixelOptions
from semanir_jax.machine.files import write_bytes

_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Folder with gopro_samples; None leaves pairs out."
)
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Time to measure each task.")
_QUICK = flags.DEFINE_bool("quick", False, "One batch of each task, for tests.")
_OUT = flags.DEFINE_string("out", None, "JSON file to write the rows to.")

# Config, variants, and the one degradation of the config's that is measured.
_TASKS = (
  ("denoise", "color,s25", None),
  ("denoise", "gray,blind", None),
  ("sr", "x2", None),
  ("sr", "x4", None),
  ("jpeg", "color,blind", None),
  ("jpeg", "gray,q10", None),
  ("demosaic", "", None),
  ("deblur", "", None),
  ("deblur", "synthetic", None),
  ("weather", "synthetic", None),
  ("weather", "synthetic", "rain"),
  ("weather", "synthetic", "snow"),
  ("weather", "synthetic", "raindrop"),
  ("weather", "synthetic", "haze"),
)
_BATCH_SIZE = 8


def measure(
  task: str, variant: str, only: str | None, pairs: str | None
) -> dict[str, Any]:
  """Times the input pipeline of one config.

  Args:
    task: name of a config file.
    variant: its variants.
    only: a degradation to draw instead of all of a mixture, by its name and
      with its defaults; None for the config's.
    pairs: folder of pairs, for tasks without a degradation.

  Returns:
    One row.
  """
  config = importlib.import_module(f"configs.{task}").get_config(variant)
  data = config.data
  options = {"name": only} if only else data.degradation.to_dict()
  source = open_source(
    "photographs:train" if options else pairs,
    pixels=PixelOptions(data.channels, data.gray or None),
  )
  iterator = make_train_iterator(
    [source],
    degradation=make(**options) if options else None,
    patch_size=data.patch_size,
    batch_size=_BATCH_SIZE,
    seed=0,
    num_threads=1,
  )
  for _ in range(1 if _QUICK.value else 10):  # decodes and caches the images
    next(iterator)
  batches = 0
  clock, processor = time.monotonic(), time.process_time()
  while batches == 0 or (
    not _QUICK.value and time.monotonic() - clock < _SECONDS.value
  ):
    next(iterator)
    batches += 1
  spent = max(time.process_time() - processor, 1e-9)
  elapsed = time.monotonic() - clock
  iterator.close()
  return {
    "config": f"{task}:{variant}" + (f", {only}" if only else ""),
    "patch_size": data.patch_size,
    "batch_size": _BATCH_SIZE,
    "batches_per_core_second": batches / spent,
    "patches_per_core_second": _BATCH_SIZE * batches / spent,
    "batches_per_second": batches / elapsed,
  }


def main() -> None:
  """Prints a row for every task, and writes them where asked."""
  pairs = None
  if _DATA_DIR.value:
    pairs = str(pathlib.Path(_DATA_DIR.value) / "gopro_samples")
  rows = []
  for task, variant, only in _TASKS:
    if (task, variant) == ("deblur", "") and pairs is None:
      continue
    row = measure(task, variant, only, pairs)
    rows.append(row)
    print(
      f"{row['config']:28} patch {row['patch_size']:3} px"
      f" {row['batches_per_core_second']:7.1f} batches/s"
      f" {row['patches_per_core_second']:7.0f} patches/s per core",
      flush=True,
    )
  if _OUT.value:
    document = {"machine": platform.machine(), "rows": rows}
    text = json.dumps(document, indent=2) + "\n"
    write_bytes(_OUT.value, text.encode())


if __name__ == "__main__":
  cli.run(main)
