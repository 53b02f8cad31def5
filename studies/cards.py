"""Makes the cards of the bundled networks, and the tables that name them all.

  python -m studies.cards
  python -m studies.cards --pictures
  python -m studies.cards --pictures --network=denoise_color_light

writes `pretrained/cards/NAME.md` from `pretrained/cards/cards.toml`, from the
scores in `pretrained/NAME.json` and from the weights' file, and the tables in
`README.md` and `pretrained/README.md`. `--pictures` restores a photograph with
every network first, and draws it on its card and on `docs/images/tasks.jpg`.
"""

import json
import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any

import safetensors
from absl import flags, logging

from semanir_jax import cli
from semanir_jax.evaluation import wording
from semanir_jax.models.sizes import SIZES
from semanir_jax.networks import load, safetensors_file
from studies import card_pictures, records

ROOT = pathlib.Path(__file__).resolve().parents[1]
CARDS = load.PRETRAINED / "cards"
BEGIN = "<!-- made by: python -m studies.cards -->"
END = "<!-- end -->"
# A page with a table of the networks, and the way from it to the cards.
TABLES = {
  ROOT / "README.md": "pretrained/cards/",
  load.PRETRAINED / "README.md": "cards/",
}

Entry = Mapping[str, Any]


def read_entries() -> tuple[dict[str, Entry], dict[str, str]]:
  """Reads `cards.toml`.

  Returns:
    What is written of each network, by name, and of training images.
  """
  entries = tomllib.loads((CARDS / "cards.toml").read_text())
  return entries, entries.pop("data")


def make_card(name: str, entry: Entry, data: Mapping[str, str]) -> str:
  """Writes the card of a network in Markdown.

  Args:
    name: of the network, which lies in `pretrained/`.
    entry: its table in `cards.toml`.
    data: the table `data` there.
  """
  parts = [
    "<!-- made by: python -m studies.cards; what is written: cards.toml -->",
    f"# {name}",
    _fill(entry["use"]),
    *_picture(name, entry),
    f"    python restore.py --checkpoint={name} --input=photos/"
    " --output=restored/",
    f"- **Input**: {_fill(entry['input'])}\n"
    f"- **Size**: {_size(entry)}, {_count_parameters(name):,} parameters",
    "## Scores",
    _score_table(name, entry),
    _protocol(name),
    _evaluation(name, entry),
    *([_fill(entry["scores"])] if "scores" in entry else []),
    "## Training",
    _list(entry["recipe"]),
    "[../logs](../logs) has the logs of these trainings. This command trains by"
    " the recipe in `configs/pretrained.py`:",
    f"    python train.py --config={entry['command']}"
    f" --config.data.data_dir=DATA --workdir=runs/{name}",
    "## Training images and their terms",
    "\n".join(f"- {_fill(data[key])}" for key in entry["data"]),
    "The file is under the Apache License 2.0; [NOTICE](../NOTICE) says what"
    " that covers.",
    "## Limits",
    _list(entry["limits"]),
  ]
  return "\n\n".join(parts) + "\n"


def make_table(entries: Mapping[str, Entry], folder: str) -> str:
  """Writes the table of all networks in Markdown.

  Args:
    entries: of `cards.toml`.
    folder: the way to the cards.
  """
  rows = [
    "| network | for | measured on | input | restored | published |",
    "| --- | --- | --- | ---: | ---: | --- |",
  ]
  for name, entry in entries.items():
    row = _results(name)[entry["set"]]
    quoted = entry.get("quoted", {}).get(entry["set"], "")
    rows.append(
      f"| [`{name}`]({folder}{name}.md) | {entry['task']} |"
      f" {entry['set_words']} | {_number('psnr', row['input_psnr'])} |"
      f" {_number('psnr', row['psnr'])} | {quoted.split(', ')[-1]} |"
    )
  return "\n".join(rows)


def replace_table(page: str, table: str) -> str:
  """Returns a page with another table between the marks.

  Raises:
    ValueError: the page has no marks.
  """
  before, begin, rest = page.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not (begin and end):
    raise ValueError(f"no {BEGIN} and {END} for the table of the networks")
  return f"{before}{BEGIN}\n{table}\n{END}{after}"


def make_pages() -> dict[pathlib.Path, str]:
  """Makes all cards and tables.

  Returns:
    The text of every page that this program writes.
  """
  entries, data = read_entries()
  pages = {
    CARDS / f"{name}.md": make_card(name, entry, data)
    for name, entry in entries.items()
  }
  for path, folder in TABLES.items():
    table = make_table(entries, folder)
    pages[path] = replace_table(path.read_text(), table)
  return pages


def _results(name: str) -> dict[str, Any]:
  """Reads what eval.py wrote about a network."""
  return json.loads((load.PRETRAINED / f"{name}.json").read_text())


def _fill(text: str) -> str:
  return " ".join(text.split())


def _list(sentences: list[str]) -> str:
  return "\n".join(f"- {sentence}" for sentence in sentences)


def _size(entry: Entry) -> str:
  words = entry["config"].partition(":")[2].split(",")
  return f"`{[word for word in words if word in SIZES][-1]}`"


def _count_parameters(name: str) -> int:
  path = load.PRETRAINED / f"{name}{safetensors_file.SUFFIX}"
  count = 0
  with safetensors.safe_open(path, framework="numpy") as file:
    for key in file.keys():
      sides = file.get_slice(key).get_shape()
      size = 1
      for side in sides:
        size *= side
      count += size
  return count


def _picture(name: str, entry: Entry) -> list[str]:
  """Shows the picture, with a caption, where one was made."""
  found = card_pictures.read_scores(CARDS).get(name)
  if found is None:
    return []
  return [
    f"![Input, restored, truth]({name}.jpg)",
    f"*A part of scikit-image's `chelsea` (CC0), which no network learned from."
    f" Left: {entry['degraded']}, {found['input_psnr']:.2f} dB. Middle:"
    f" restored, {found['psnr']:.2f} dB. Right: truth. The degradation is"
    f" `{entry.get('picture', entry['set'])}` of `{entry['config']}`. PSNR is"
    " of the whole picture, by the protocol below.*",
  ]


def _score_table(name: str, entry: Entry) -> str:
  results = _results(name)
  del results["protocol"]
  quoted = entry.get("quoted", {})
  unknown = sorted(set(quoted) - set(results))
  if unknown:
    raise ValueError(f"{name}: quoted {', '.join(unknown)} is not in its JSON")
  head = ["set", "images", f"{entry['degraded']}: PSNR, SSIM"]
  head.append("this network: PSNR, SSIM")
  rule = ["---", "---:", "---:", "---:"]
  if quoted:
    head.append("others, quoted: PSNR")
    rule.append("---")
  rows = [head, rule]
  for key, row in results.items():
    cells = [key, str(row["images"])]
    cells.append(
      f"{_number('psnr', row['input_psnr'])},"
      f" {_number('ssim', row['input_ssim'])}"
    )
    cells.append(
      f"**{_number('psnr', row['psnr'])}**, {_number('ssim', row['ssim'])}"
    )
    rows.append([*cells, quoted.get(key, "")] if quoted else cells)
  return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _number(key: str, value: float | None) -> str:
  """Writes a score; JSON has no infinity, which a clean input has."""
  return "inf" if value is None else wording.number(key, value)


def _protocol(name: str) -> str:
  """Says how the scores were measured."""
  protocol = _results(name)["protocol"]
  return (
    f"Protocol: {wording.measures(protocol)}; k = {protocol['num_keys']} of N ="
    f" {protocol['window_size'] ** 2}; means {protocol['means']};"
    f" {protocol['device']}, jax {protocol['jax']}. The figures are from"
    f" [{name}.json](../{name}.json), the `results.json` of this command:"
  )


def _evaluation(name: str, entry: Entry) -> str:
  return (
    f"    python eval.py --config={entry['config']} --checkpoint={name}"
    f" --data_dir=DATA --workdir=out/{name}"
  )


def main() -> None:
  """Writes pictures, cards and tables."""
  entries, _ = read_entries()
  if flags.FLAGS.pictures:
    chosen = flags.FLAGS.network or list(entries)
    unknown = sorted(set(chosen) - set(entries))
    if unknown:
      raise ValueError(f"--network={unknown[0]}: not in {CARDS / 'cards.toml'}")
    card_pictures.draw_cards(CARDS, {name: entries[name] for name in chosen})
    card_pictures.draw_strip(CARDS, entries, ROOT / "docs/images/tasks.jpg")
  for path, text in make_pages().items():
    records.write_text(path, text)
    logging.info("written: %s", path.relative_to(ROOT))


if __name__ == "__main__":
  flags.DEFINE_bool("pictures", False, "Make the pictures again; minutes.")
  flags.DEFINE_list("network", [], "Pictures of these alone; default: all.")
  cli.run(main)
