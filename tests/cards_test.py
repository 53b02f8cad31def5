"""The cards of the bundled networks are what their sources say."""

import pytest
from PIL import Image

from semanir_jax.networks import load
from studies import card_pictures, cards

ENTRIES, DATA = cards.read_entries()


def test_every_network_has_an_entry_and_every_card_a_network():
  networks = {path.stem for path in load.PRETRAINED.glob("*.safetensors")}
  assert set(ENTRIES) == networks
  assert {path.stem for path in cards.CARDS.glob("*.md")} == networks


def test_cards_and_tables_are_what_the_command_makes():
  remedy = "run python -m studies.cards"
  for path, text in cards.make_pages().items():
    assert path.read_text() == text, f"{path.name}: {remedy}"


def test_a_table_takes_the_place_of_the_one_before():
  page = f"a\n{cards.BEGIN}\nold\n{cards.END}\nb\n"
  found = cards.replace_table(page, "new")
  assert found == f"a\n{cards.BEGIN}\nnew\n{cards.END}\nb\n"
  with pytest.raises(ValueError, match="no <!-- made by"):
    cards.replace_table("a\nb\n", "new")


def test_figures_of_a_set_that_was_not_measured_are_refused():
  entry = ENTRIES["sr_x4_light"] | {"quoted": {"set6": "IMDN 28.58"}}
  with pytest.raises(ValueError, match="sr_x4_light: quoted set6"):
    cards.make_card("sr_x4_light", entry, DATA)


def test_every_card_has_a_small_picture_and_its_psnr():
  scores = card_pictures.read_scores(cards.CARDS)
  assert set(scores) == set(ENTRIES)
  paths = [cards.CARDS / f"{name}.jpg" for name in ENTRIES]
  _, _, height, width = card_pictures.BOX
  for path in paths:
    with Image.open(path) as picture:
      assert picture.size == (3 * width + 2 * card_pictures.GAP_PX, height)
  assert sum(path.stat().st_size for path in paths) < 1.5e6


@pytest.mark.slow
def test_a_picture_is_of_the_bundled_network():
  name = "denoise_color_tiny"
  views, scores = card_pictures.restore_picture(name, ENTRIES[name])
  assert [view.shape for view in views] == [(300, 451, 3)] * 3
  written = card_pictures.read_scores(cards.CARDS)[name]
  assert scores == pytest.approx(written, abs=0.02)
