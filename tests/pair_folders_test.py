"""Folders of pairs are known by the names that data sets give them."""

import pathlib

import numpy as np
import pytest

from semanir_jax.data import pair_folders, prepare, sources
from semanir_jax.data.folders import ImageFolder, PairedFolder
from semanir_jax.images import image_file
from semanir_jax.images.image_file import ImageError


def _write(root: pathlib.Path, *folders: str) -> pathlib.Path:
  """Writes an image of one value into each folder, the number of the folder."""
  for number, folder in enumerate(folders):
    (root / folder).mkdir(parents=True, exist_ok=True)
    image = np.full((8, 8, 3), number, np.uint8)
    image_file.write_image(root / folder / "a.png", image)
  return root


def _prepare(root: pathlib.Path, **options: bool) -> sources.Source:
  prepare.prepare(root, root.parent / "pack", **options)
  return sources.open_source(str(root.parent / "pack"))


OPEN = [
  lambda root: sources.open_source(str(root)),
  lambda root: sources.open_source(str(root), recursive=True),
  PairedFolder,
  _prepare,
  lambda root: _prepare(root, recursive=True),
]


@pytest.mark.parametrize("opened", OPEN)
@pytest.mark.parametrize(
  "names",
  [
    *[("input", "target"), ("Input", "Target"), ("lq", "gt"), ("LR", "HR")],
    *[("input", "gt"), ("INPUT", "groundtruth"), ("blur", "sharp")],
    *[
      ("rain", "clean"),
      ("rain", "norain"),
      ("hazy", "GT"),
      ("noisy", "clean"),
    ],
    *[("synthetic", "gt", "mask"), ("blur", "sharp", "blur_gamma")],
    *[("input", "target", "gt"), ("input", "target", "blur", "sharp")],
  ],
)
def test_pairs_are_known_by_their_names(tmp_path, names, opened):
  source = opened(_write(tmp_path / "set", *names))
  assert len(source) == 1
  record = source[0]
  assert record["name"] == "a"
  assert (record["input"] == 0).all() and (record["target"] == 1).all()


@pytest.mark.parametrize("opened", OPEN)
@pytest.mark.parametrize(
  "names",
  [("lq", "input", "gt"), ("lq", "gt", "hq"), ("Input", "input", "GT")],
)
def test_names_that_may_mean_two_folders_are_refused(tmp_path, names, opened):
  root = _write(tmp_path / "set", *names)
  with pytest.raises(ImageError) as error:
    opened(root)
  message = str(error.value)
  assert message.startswith(f"{root}: holds pairs, but which of ")
  assert all(name in message for name in names) and "\n" not in message
  assert message.endswith("INPUT_FOLDER,TARGET_FOLDER")


@pytest.mark.parametrize("opened", [OPEN[1], OPEN[4]])
@pytest.mark.parametrize(
  ("names", "place"),
  [
    (("train/lq", "train/gt", "test/lq", "test/gt"), "test"),
    (("GOPR0372/blur", "GOPR0372/sharp"), "GOPR0372"),
    (("DIV2K_train_HR", "DIV2K_train_LR_bicubic/X2"), "."),
    (("hr", "LRx4"), "."),
    (("lq", "restored"), "."),
    (("input",), "."),
    (("rain/clean/0", "rain/rainy/0"), "rain"),
  ],
)
def test_pairs_are_never_clean_images(tmp_path, names, place, opened):
  root = _write(tmp_path / "set", *names)
  with pytest.raises(ImageError) as error:
    opened(root)
  message = str(error.value)
  assert message.startswith(f"{root / place}: holds pairs (")
  assert message.endswith(pair_folders.EXPECTED) and "\n" not in message


@pytest.mark.parametrize(
  "names",
  [
    ("DIV2K_train_HR", "Flickr2K_HR", "wed"),
    ("people", "rain", "snow"),
    ("gt",),
    ("high_mountains", "low_light"),
    ("color", "alright"),  # an `lr` in a word
  ],
)
def test_clean_images_lie_in_folders_of_any_other_name(tmp_path, names):
  root = _write(tmp_path / "set", *names)
  source = ImageFolder(root, recursive=True)
  assert len(source) == len(names) and "image" in source[0]


def test_a_folder_of_degraded_images_is_taken_when_it_is_asked_for(tmp_path):
  root = _write(tmp_path / "set", "lq", "gt")
  assert "image" in sources.open_source(str(root / "lq"))[0]


@pytest.mark.parametrize("opened", OPEN[:4])
def test_folders_of_other_names_are_told_which_are_expected(tmp_path, opened):
  root = _write(tmp_path / "set", "before", "after")
  if opened is OPEN[1]:
    assert len(opened(root)) == 2  # nothing says that they are pairs
    return
  with pytest.raises(ImageError, match="called input, inputs, lq, ") as error:
    opened(root)
  assert "\n" not in str(error.value) and str(root) in str(error.value)


def test_docs_have_the_names():
  root = pathlib.Path(__file__).resolve().parents[1]
  text = (root / "docs" / "data.md").read_text()
  for names in (pair_folders._INPUTS, pair_folders._TARGETS):
    assert f"images | {', '.join(f'`{name}`' for name in names)} |" in text
