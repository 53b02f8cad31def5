"""Arguments that several studies take."""

import pathlib
from collections.abc import Sequence


def named(argument: str) -> tuple[str, str]:
  """Splits "label=path"; a path alone is labelled by its last part."""
  label, separator, path = argument.partition("=")
  if separator and not pathlib.Path(argument).exists():
    return label, path
  return pathlib.Path(argument).stem, argument


def integers(flag: str, words: Sequence[str]) -> list[int]:
  """Numbers of a flag that holds a list.

  Raises:
    ValueError: one is none.
  """
  try:
    return [int(word) for word in words]
  except ValueError as error:
    raise ValueError(
      f"--{flag}={','.join(words)}: whole numbers with commas between them"
    ) from error
