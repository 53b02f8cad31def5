"""Opens the pictures that studies draw on, degraded as a network expects."""

from collections.abc import Mapping
from typing import Any

from semanir_jax.data.sources import open_source
from semanir_jax.evaluation import test_sets, wording
from semanir_jax.images.image_file import PixelOptions


def open_examples(
  config: Mapping[str, Any], source: str, count: int
) -> tuple[list[test_sets.Example], str]:
  """Degrades pictures as the first test set of a network's config.

  Args:
    config: that the network was trained with, as nested dicts.
    source: image file, folder or "photographs:test", see
      `data.sources.open_source`.
    count: most pictures.

  Returns:
    The pictures, and how they were degraded, in words.

  Raises:
    ValueError: the config has no test set, or the pictures do not fit.
  """
  sets = config["eval"]["sets"]
  if not sets:
    raise ValueError("the network's config has no eval.sets to degrade as")
  options = dict(next(iter(sets.values())))
  # Of its pictures: a picture of the user has other sides.
  options |= {"sides_px": (), "center_crop_px": 0, "source": source}
  pixels = PixelOptions(options["channels"], options["gray"] or None)
  images = open_source(source, pixels=pixels)
  test_set = test_sets.TestSet("pictures", options, images)
  indices = range(min(count, len(images)))
  examples = list(test_sets.examples(test_set, indices))
  return examples, wording.degradation_line(options)
