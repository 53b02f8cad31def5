"""What the docs name is there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [
  "README.md",
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "pretrained/README.md",
  *(
    str(path.relative_to(ROOT).as_posix())
    for folder in ("docs", "pretrained/cards", "benchmarks/results")
    for path in sorted((ROOT / folder).glob("*.md"))
  ),
]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_exists(page):
  path = ROOT / page
  links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
  missing = [
    link
    for link in links
    if not link.startswith("http") and not (path.parent / link).exists()
  ]
  assert not missing


def test_the_tests_that_hold_the_promises_of_inference_exist():
  text = (ROOT / "docs" / "design.md").read_text()
  named = re.findall(r"`(\w+_test)::(test_\w+)`", text)
  assert len(named) > 20
  for file, test in named:
    source = (ROOT / "tests" / f"{file}.py").read_text()
    assert f"\ndef {test}(" in source, f"tests/{file}.py has no {test}"


# What a reader is to write, or what only a GPU has measured.
NOT_HERE = {"TASK.py", "mine.py", "mytask.py", "mydegradation.py"} | {
  "sensor_noise.py",
  "attention_gpu.json",
  "attention_memory_gpu.json",
  "models_gpu.json",
  "train_step_h200.json",
}


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_exist(page):
  folders = "semanir_jax|configs|tests|studies|benchmarks|constraints"
  pattern = rf"\b(?:{folders})/[\w/.]+\.(?:py|json|txt)\b"
  named = set(re.findall(pattern, (ROOT / page).read_text()))
  missing = [name for name in sorted(named) if not (ROOT / name).exists()]
  assert {pathlib.Path(name).name for name in missing} <= NOT_HERE, missing


@pytest.mark.parametrize("page", PAGES)
def test_the_modules_that_a_page_runs_exist(page):
  pattern = r"python3? -m ((?:semanir_jax|studies|benchmarks)[\w.]*)"
  # "python -m studies.NAME" stands for any of them; a sentence may end behind.
  names = {
    name.rstrip(".")
    for name in re.findall(pattern, (ROOT / page).read_text())
    if not name.endswith(".NAME")
  }
  paths = {name: ROOT / name.replace(".", "/") for name in names}
  missing = [
    name
    for name, path in paths.items()
    if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists())
  ]
  assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_headings_that_a_page_links_to_exist(page):
  path = ROOT / page
  for link, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text()):
    target = path.parent / link if link else path
    headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
    anchors = {
      re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
      for text in headings
    }
    assert heading in anchors, f"{page}: {link}#{heading}"


def test_the_readme_is_short_and_the_index_is_complete():
  assert len((ROOT / "README.md").read_text().splitlines()) <= 150
  index = (ROOT / "docs" / "README.md").read_text()
  pages = {
    path.name
    for suffix in ("md", "ipynb")
    for path in (ROOT / "docs").glob(f"*.{suffix}")
  }
  assert {name for name in pages if f"]({name})" not in index} == {"README.md"}


def test_the_sizes_of_the_exported_networks_are_theirs():
  text = (ROOT / "docs" / "export.md").read_text()
  rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) B \|", text, re.M)
  assert len(rows) == 2
  for name, size in rows:
    file = ROOT / "pretrained" / f"{name}.safetensors"
    assert file.stat().st_size == int(size.replace(",", "")), name
