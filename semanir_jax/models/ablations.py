"""Key searches that SemanIR is compared with, by the words of a config."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from semanir_jax.models.key_search import KeySearch, find_most_similar
from semanir_jax.models.layers import unit_length
from semanir_jax.ops import Dictionary, random_dictionary

DICTIONARIES = ("stage", "layer", "random")
SIMILARITIES = ("dot", "cosine")
SHIFTS = ("stage", "none")


def make_key_search(
  dictionary: str = "stage", similarity: str = "dot"
) -> KeySearch:
  """Makes the key search that a config names.

  Args:
    dictionary: "stage" (found at a stage's entry, shared by its layers)
      [paper], "layer" (found again by every layer in its own input) or "random"
      (the same random keys in every window, which compares no tokens) [ours].
    similarity: "dot" products [paper], or "cosine" of the angle [ours].

  Returns:
    The search; equal to another of the same words.

  Raises:
    ValueError: a word is unknown.
  """
  _check_word("dictionary", dictionary, DICTIONARIES)
  _check_word("similarity", similarity, SIMILARITIES)
  if dictionary == "random":
    return KeySearch(find_random)
  find = find_by_angle if similarity == "cosine" else find_most_similar
  return KeySearch(find, in_every_layer=dictionary == "layer")


def shifts_windows(shift: str = "stage") -> bool:
  """Returns whether every second stage has shifted windows.

  Args:
    shift: "stage" [paper] or "none" [ours].

  Raises:
    ValueError: the word is unknown.
  """
  _check_word("shift", shift, SHIFTS)
  return shift == "stage"


def find_by_angle(
  x_BGNC: jax.Array,
  num_keys: jax.Array | int,
  *,
  regions: np.ndarray | None = None,
  max_keys: int | None = None,
  platform: str | None = None,
  dtype: DTypeLike = jnp.float32,
) -> Dictionary:
  """Finds the keys of largest cosine similarity; see `FindKeys`."""
  return find_most_similar(
    unit_length(x_BGNC),
    num_keys,
    regions=regions,
    max_keys=max_keys,
    platform=platform,
    dtype=dtype,
  )


def find_random(
  x_BGNC: jax.Array,
  num_keys: jax.Array | int,
  *,
  regions: np.ndarray | None = None,
  max_keys: int | None = None,
  platform: str | None = None,
  dtype: DTypeLike = jnp.float32,
) -> Dictionary:
  """Draws keys, the same in all windows; see `FindKeys`, without `dtype`."""
  del dtype  # nothing is compared
  b, g, n, _ = x_BGNC.shape
  return random_dictionary(
    (b, g, n),
    num_keys,
    regions=regions,
    max_keys=max_keys,
    platform=platform,
  )


def _check_word(field: str, word: str, known: tuple[str, ...]) -> None:
  """Raises ValueError unless the word is known."""
  if word not in known:
    raise ValueError(f"{field}={word!r}: use one of {known}")
