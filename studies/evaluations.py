"""Two evaluations of eval.py, read and paired; what does not fit is refused."""

import collections
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from semanir_jax.evaluation import wording
from studies import records

Row = Mapping[str, Any]

# Prefixes of the columns of a pair.
METRICS = {"psnr": "", "ssim": "ssim_"}
_COLUMNS = ("input_psnr", "input_ssim", *METRICS)
# What two evaluations may differ in: what is compared; what only adds columns;
# and what shows in the names and the inputs of the images, which are compared.
_FREE = {
  *("network", "num_keys", "window_size", "self_ensemble", "result"),
  *("device", "jax", "psnr_b", "also", "max_images"),
}
_FREE_OF_SET = {
  *("source", "sides_px", "num_images", "published", "published_ssim"),
  "validate",
}
# In dB and SSIM, of inputs that are the same; noise of another seed changes the
# PSNR of half a megapixel by some 0.01 dB.
_TOLERANCE = 1e-6


class Evaluation(NamedTuple):
  """What eval.py left in a workdir.

  Attributes:
    path: of `results.json`.
    protocol: of all sets, and as `sets` the options of each.
    means: of each set that was finished, and its number of images.
    label: folder, network, k and device, in words.
    degradations: of each set, in words.
  """

  path: pathlib.Path
  protocol: dict[str, Any]
  means: dict[str, dict[str, Any]]
  label: str
  degradations: dict[str, str]


def read(workdir: pathlib.Path) -> Evaluation:
  """Reads what an evaluation says of itself.

  Raises:
    ValueError: there is none, or it is damaged.
  """
  path = workdir / "eval" / "results.json"
  try:
    document = json.loads(path.read_text())
    protocol = document.pop("protocol")
    baseline = protocol["result"] == "degraded input"
    network = "" if baseline else f"; {wording.network(protocol)}"
    return Evaluation(
      path,
      protocol,
      document,
      f"{workdir}: {protocol['result']}{network}; {protocol['device']}, jax"
      f" {protocol['jax']}",
      {
        name: wording.degradation_line(protocol["sets"][name])
        for name in document
      },
    )
  except (FileNotFoundError, NotADirectoryError) as error:
    raise ValueError(
      f"{path}: no results there; give the --workdir of an eval.py that has"
      " finished a test set"
    ) from error
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{path}: is damaged or of another version; run eval.py again"
    ) from error


def common_sets(old: Evaluation, new: Evaluation) -> list[str]:
  """Names of the test sets that both have, measured in the same way.

  Raises:
    ValueError: there is none; or names the fields of the protocols that differ.
  """
  names = [name for name in old.means if name in new.means]
  if not names:
    has = (
      f"{one.path} has {', '.join(one.means) or 'none'}" for one in (old, new)
    )
    raise ValueError(
      f"no common test set: {'; '.join(has)}; evaluate both with one config"
    )
  a, b = old.protocol, new.protocol
  fields = _unlike("", a, b, _FREE | {"sets"})
  for name in names:
    options = a["sets"][name], b["sets"][name]
    fields += _unlike(f"{name}.", *options, _FREE_OF_SET)
  if fields:
    raise ValueError(
      f"{old.path} and {new.path} are of different protocols:"
      f" {'; '.join(fields)}; evaluate both with one config"
    )
  return names


def _unlike(prefix: str, a: Row, b: Row, free: set[str]) -> list[str]:
  """Fields of two protocols that differ, with their values."""
  return [
    f"{prefix}{key} is {a.get(key)} and {b.get(key)}"
    for key in sorted({*a, *b} - free)
    if a.get(key) != b.get(key)
  ]


def pair(old: Evaluation, new: Evaluation, name: str) -> list[dict[str, Any]]:
  """Both measurements of the images of a set.

  Returns:
    Of every image `set`, `name`, PSNR in dB as `before`, `after`, `difference`,
    and SSIM as `ssim_before` and so on; in the order of the names.

  Raises:
    ValueError: they are of other images, or of other inputs.
  """
  paths = [one.path.with_name(f"{name}.csv") for one in (old, new)]
  both = [_read_images(path) for path in paths]
  counts = [collections.Counter(row["name"] for row in rows) for rows in both]
  for here, there in ((0, 1), (1, 0)):
    if alone := sorted((counts[here] - counts[there]).elements()):
      more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
      raise ValueError(
        f"{paths[there]}: lacks {', '.join(alone[:3])}{more} of {paths[here]};"
        " evaluate both on the same images, with one --config.eval.max_images"
      )
  rows = []
  for a, b in zip(*both, strict=True):
    for key in ("input_psnr", "input_ssim"):
      if not math.isclose(a[key], b[key], rel_tol=0, abs_tol=_TOLERANCE):
        raise ValueError(
          f"{paths[1]}: {a['name']} has {wording.title(key)} {b[key]:.6f}, and"
          f" {a[key]:.6f} in {paths[0]}: other pixels or another degradation;"
          " evaluate both with one config and the same files"
        )
    row = {"set": name, "name": a["name"]}
    for key, prefix in METRICS.items():
      # Of two infinities, of images without an error, the difference is none.
      gain = 0.0 if a[key] == b[key] else b[key] - a[key]
      row |= {f"{prefix}before": a[key], f"{prefix}after": b[key]}
      row[f"{prefix}difference"] = gain
    rows.append(row)
  return rows


def _read_images(path: pathlib.Path) -> list[dict[str, Any]]:
  """Rows of a set's images, by name; the last one, their mean, is none."""
  try:
    *rows, mean = records.read_rows(path)
    if not rows or mean["name"] != "mean":
      raise ValueError("was not written whole")
    found = [
      {"name": row["name"]} | {key: float(row[key]) for key in _COLUMNS}
      for row in rows
    ]
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{path}: is missing or damaged; run eval.py again"
    ) from error
  return sorted(found, key=lambda row: row["name"])
