"""Names files in a way that means the same on every machine.

Records of runs travel: beside weights, in bug reports, in this repository. The
folders of the machine that made them help nobody there, and tell of its owner.
"""

import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
DATA = "DATA"  # stands for the folder of the data sets, as in the docs

# An absolute path where a word can begin, of POSIX or Windows; no part of a
# relative path, of a URL (`gs://bucket/x`), of a rate (`images/s`), and none of
# the measurements that Orbax logs, which begin with `/jax/`.
_ABSOLUTE = re.compile(
  r"(?<![^\s='\"`([{,:;])(?:[A-Za-z]:[\\/]|/(?!jax/)(?=\w|\.\w))"
  r"[^\s='\"`()\[\]{},;]*"
)
_PYTHON = re.compile(r"python[\d.]*(?:\.exe)?")


def make_portable(
  value: Any,
  *,
  data_dirs: Iterable[str] = (),
  folders: Iterable[str | pathlib.Path] = (CHECKOUT,),
) -> Any:
  """Replaces absolute names of files in text, however deep it lies.

  A name below a data folder begins with `DATA`, one below another known folder
  is relative to that folder, an interpreter is its program's name, and of any
  other name the last part stays, as `.../mine.safetensors`.

  Args:
    value: text, or mappings, lists and tuples of it; else it is returned.
    data_dirs: folders of data sets, absolute or as they were written.
    folders: what names may be relative to.

  Returns:
    The same with other text. Tuples stay tuples.
  """
  data = _longest_first(folder for folder in data_dirs if folder)
  known = _longest_first(folders)

  def replace(match: re.Match[str]) -> str:
    return _shorten(match.group(), data, known)

  def visit(value: Any) -> Any:
    if isinstance(value, str):
      for folder in data:
        if not _is_absolute(folder):
          value = _replace_relative(value, folder)
      return _ABSOLUTE.sub(replace, value)
    if isinstance(value, Mapping):
      return {key: visit(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
      return type(value)(visit(part) for part in value)
    return value

  return visit(value)


def find_absolute(text: str) -> list[str]:
  """Finds names of files in text that mean one machine."""
  return _ABSOLUTE.findall(text)


def _longest_first(folders: Iterable[str | pathlib.Path]) -> list[str]:
  """Returns folders without a slash at the end, the most exact ones first."""
  names = {str(folder).rstrip("/\\") for folder in folders}
  return sorted(names - {""}, key=len, reverse=True)


def _is_absolute(name: str) -> bool:
  return bool(_ABSOLUTE.match(name))


def _replace_relative(text: str, folder: str) -> str:
  """Puts DATA in the place of a data folder that is named relatively."""
  word = rf"(?<![^\s='\"`([{{,]){re.escape(folder)}(?=$|[\s/\\'\"`)\]}},;])"
  return re.sub(word, DATA, text)


def _shorten(name: str, data: list[str], known: list[str]) -> str:
  """Returns what stays of one absolute name."""
  # A sentence or a line of a log may end behind it.
  stem = name.rstrip(".:/\\")
  end = name[len(stem) :].replace("\\", "/")
  parts = re.split(r"[\\/]+", stem)
  if _PYTHON.fullmatch(parts[-1]) and parts[-2:-1] in (["bin"], ["Scripts"]):
    return parts[-1] + end
  for folders, prefix in ((data, [DATA]), (known, [])):
    for folder in folders:
      begin = re.split(r"[\\/]+", folder)
      if parts[: len(begin)] == begin:
        return ("/".join(prefix + parts[len(begin) :]) or ".") + end
  return f".../{parts[-1]}{end}"
