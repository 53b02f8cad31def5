"""The picture of the degradations: a panel each, and not all the same."""

import numpy as np

from studies import degradations
from tests.scene_cases import random_image


def test_every_form_has_a_panel_that_differs_from_the_clean_one() -> None:
  picture = random_image(60, 90, 3)
  sheet = degradations.draw(picture, width=45, seed=0)
  assert sheet.mode == "P" and sheet.size == (3 * 49, 3 * 46)
  pixels = np.asarray(sheet.convert("RGB")).astype(float)
  panels = [
    pixels[46 * row : 46 * row + 30, 49 * column : 49 * column + 45]
    for row in range(3)
    for column in range(3)
  ]
  differences = [np.abs(panel - panels[0]).mean() for panel in panels[1:]]
  assert min(differences) > 1
  again = degradations.draw(picture, width=45, seed=0)
  np.testing.assert_array_equal(np.asarray(again), np.asarray(sheet))
