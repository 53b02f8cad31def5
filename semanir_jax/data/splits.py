"""Images where they should not be: another split, test images in training."""

from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from semanir_jax.data.sources import Source


def likely_cause(name: str, count: int, expected: int) -> str:
  """Says why a test set's folder may hold `count` images, not `expected`."""
  if count == 900 and expected in (100, 800):
    return "training and validation images of DIV2K (800 and 100) are together"
  if expected == 68 and count in (100, 200, 300, 500):
    return "BSD68 is 68 of the 100 `val` images of BSDS500"
  if name == "bsd100" and count in (200, 300, 500):
    return "BSD100 is the `val` split of BSDS500 alone"
  if count % expected == 0:
    return (
      f"every image is there {count // expected} times (low and high"
      " resolution, or several scales, in one folder?)"
    )
  if count < expected:
    return f"{expected - count} are missing, look for an incomplete download"
  return f"{count - expected} are too many, look for extra files or splits"


# (part of the folder's name, numbers of images, what they mean). The images of
# BSDS500 may be two fewer: docs/data.md names two that hold test images.
MIXED_SPLITS = (
  (
    "div2k",
    (900,),
    "its training split has 800; 0801 to 0900 are for validation, remove them",
  ),
  (
    "bsd",
    (498, 499, 500),
    "its `val` split, which CBSD68 is taken from, is among them; train on"
    " `train` and `test` (400)",
  ),
  (
    "bsd",
    (298, 299, 300),
    "CBSD68 is among them (BSDS300, or `train` and `val` of BSDS500); train on"
    " the 200 of `train`",
  ),
)


def warn_of_mixed_splits(
  specs: Sequence[str], sources: Sequence[Source]
) -> None:
  """Names training sets whose number of images says that test images are in.

  Args:
    specs: `config.data.train`.
    sources: what was opened for them.
  """
  for spec, source in zip(specs, sources, strict=True):
    # A pack of sub-images has more records than images.
    num_images = getattr(source, "num_images", None) or len(source)
    for part, counts, cause in MIXED_SPLITS:
      if part in spec.lower() and num_images in counts:
        logging.warning("%s has %d images: %s", spec, num_images, cause)


def warn_of_seen_images(
  sets: Mapping[str, Mapping[str, Any]], train: Sequence[str]
) -> None:
  """Names test sets whose images a network learns from.

  Args:
    sets: `config.eval.sets`.
    train: `config.data.train` of the network.
  """
  for name, options in sets.items():
    if options["source"] in train:
      logging.warning(
        "%s: the network was trained on the images of %s; its figures compare"
        " with none of another network",
        name,
        options["source"],
      )
