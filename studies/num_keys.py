"""k at inference against PSNR, SSIM and arithmetic, with the same weights.

  python -m studies.num_keys --config=configs/denoise.py:color,s25 \\
    --set=cbsd68 --data_dir=../shared/data --checkpoint="fixed k=runs/fixed" \\
    --checkpoint="random k=runs/random" --output=runs/num_keys

Writes `num_keys.csv` after every measurement, and `num_keys.png`. What the file
has of the same weights, test set and k is not measured again.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from semanir_jax import cli
from semanir_jax.inference.restorer import Restorer
from semanir_jax.models.semanir import SemanIR
from semanir_jax.networks.load import load_network
from studies import arithmetic, charts, measuring, records, variants
from studies.arguments import integers, named

_KEY = ("label", "weights", "num_keys", "protocol")
_SCORES = ("psnr", "ssim", "input_psnr", "input_ssim")


def study(
  config: Any,
  checkpoints: Sequence[str],
  output: pathlib.Path,
  *,
  keys: Sequence[int] = (),
  set_name: str | None = None,
  data_dir: str | None = None,
  side: int = 256,
) -> list[dict[str, Any]]:
  """Measures every network at every k.

  Args:
    config: of the test set and the protocol; see configs/base.py.
    checkpoints: "label=path", see `load.load_network`.
    output: folder.
    keys: k; empty for the paper's shares of the window and all of it, as far
      as a network has room for them.
    set_name: test set; `data_dir` its folder (`measuring.open_test_set`).
    side: px, of the input whose arithmetic is counted.

  Returns:
    The rows asked for; `num_keys.csv` keeps what it has besides.

  Raises:
    ValueError: a k, a set or a checkpoint does not fit.
  """
  set_name, examples, protocol = measuring.open_test_set(
    config, set_name, data_dir
  )
  logging.info("protocol: %s", protocol)
  path = output / "num_keys.csv"
  before = records.read_rows(path)
  known_rows = {records.key(row, _KEY): row for row in before}
  rows, missing = [], []
  for label, name in map(named, checkpoints):
    network = load_network(name)
    model = network.model
    restorer = Restorer(model, network.params)
    weights = measuring.fingerprint(network.params)
    for k in sorted(map(restorer.check_num_keys, keys)) or _shares(model):
      row = {
        "label": label,
        "weights": weights,
        "num_keys": k,
        "window_size": model.window_size,
        "set": set_name,
        "protocol": protocol,
        "flops_of": f"{side}x{side} px",
      }
      row |= arithmetic.gigaflops(model, (side, side), k)
      known = known_rows.get(records.key(row, _KEY))
      if known is None:
        missing.append((row, restorer))
      else:
        row |= {key: float(known[key]) for key in _SCORES}
      rows.append(row)
  progress = records.StudyProgress(len(missing), "points")
  for row, restorer in missing:
    k = row["num_keys"]
    scores = measuring.mean_scores(
      restorer, examples, config.eval.protocol.to_dict(), k
    )
    row |= {key: scores[key] for key in _SCORES}
    done = [row for row in rows if "psnr" in row]
    records.write_rows(path, records.merge(before, done, _KEY))
    progress.add(f"{row['label']}, k = {k}: PSNR {row['psnr']:.2f} dB")
  records.write_rows(path, records.merge(before, rows, _KEY))
  draw(output / "num_keys.png", rows)
  return rows


def _shares(model: SemanIR) -> list[int]:
  """The k to measure where none is named, ascending."""
  n = model.window_size**2
  keys = {*variants.shares_of_window(n), n, model.max_keys}
  return sorted(k for k in keys if k <= model.max_keys)


def draw(path: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
  """Draws PSNR and SSIM against k, and PSNR against arithmetic."""
  figure, axes = charts.new_figure(10, 7.5, 2, 2)
  (whole, closer), (ssim, flops) = axes
  for index, label in enumerate(dict.fromkeys(row["label"] for row in rows)):
    mine = [row for row in rows if row["label"] == label]
    style = {
      "marker": charts.MARKERS[index % len(charts.MARKERS)],
      "color": charts.COLORS[index % len(charts.COLORS)],
      "label": label,
    }
    keys = [row["num_keys"] for row in mine]
    psnr = [row["psnr"] for row in mine]
    whole.plot(keys, psnr, **style)
    closer.plot(keys, psnr, **style)
    ssim.plot(keys, [row["ssim"] for row in mine], **style)
    flops.plot([row["gigaflops"] for row in mine], psnr, **style)
  level = rows[0]["input_psnr"]
  whole.axhline(level, color="gray", linestyle="--", label="input, no network")
  for one in (whole, closer, ssim):
    one.set_xscale("log", base=2)
    one.xaxis.set_major_formatter("{x:.0f}")
    one.set_xlabel("k, keys per token")
  for one in (whole, closer, flops):
    one.set_ylabel("PSNR, dB")
  ssim.set_ylabel("SSIM")
  whole.set_title("Against the input")
  closer.set_title("Closer")
  ssim.set_title("SSIM")
  flops.set_title("Quality for arithmetic")
  flops.set_xlabel(f"GFLOP for {rows[0]['flops_of']}, N x k products")
  whole.legend(loc="best")
  dense = {f"{row['gigaflops_mask']:.2f}" for row in rows}
  charts.save(
    figure,
    path,
    f"{rows[0]['protocol']}; {measuring.device_line()}. GFLOP: products and"
    " convolutions, a multiply-add is two; attention with k keys per query, the"
    " dictionary's N x N similarities included. The mask form, which a CPU runs"
    " where max_keys is above N / 16, does"
    f" {', '.join(sorted(dense))} GFLOP at every k.",
  )


def main() -> None:
  """Runs the study."""
  values = flags.FLAGS
  study(
    values.config,
    values.checkpoint,
    pathlib.Path(values.output),
    keys=integers("num_keys", values.num_keys),
    set_name=values.set,
    data_dir=values.data_dir,
    side=values.side,
  )


if __name__ == "__main__":
  cli.define_config("Of test sets and protocol.")
  flags.DEFINE_multi_string(
    "checkpoint", None, "LABEL=NETWORK; give it once for each."
  )
  flags.DEFINE_list("num_keys", [], "k; default: shares of the window.")
  flags.DEFINE_string("output", None, "Folder of the CSV file and the plot.")
  flags.DEFINE_string("set", None, "Test set of the config; default: first.")
  flags.DEFINE_string("data_dir", None, "Folder of the test sets.")
  flags.DEFINE_integer("side", 256, "px, of the input whose FLOPs count.", 1)
  flags.mark_flags_as_required(["config", "checkpoint", "output"])
  cli.run(main)
