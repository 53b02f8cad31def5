"""Names by which the two folders of pairs are known."""

import collections
import pathlib
import re
from collections.abc import Iterable

from semanir_jax.images.image_file import ImageError
from semanir_jax.machine.files import Path, as_path

# In lower case; files have them in any. The sure ones mean nothing else,
# whatever stands beside; `snow` and `clear` may be kinds of photographs.
_SURE_INPUTS = ("input", "inputs", "lq", "lr")
_INPUTS = _SURE_INPUTS + (
  *("low", "degraded", "synthetic", "noisy", "blur", "blurred", "blurry"),
  *("rain", "rainy", "snow", "snowy", "haze", "hazy"),
)
_SURE_TARGETS = ("target", "targets", "gt", "hq", "hr", "groundtruth")
_TARGETS = _SURE_TARGETS + (
  *("ground_truth", "high", "clean", "clear", "sharp", "norain"),
)

EXPECTED = (
  f"pairs are two folders beside each other, one called {', '.join(_INPUTS)},"
  f" the other {', '.join(_TARGETS)}; or INPUT_FOLDER,TARGET_FOLDER"
)


def find_pair(root: Path) -> tuple[pathlib.Path, pathlib.Path] | None:
  """Finds the folders of degraded and of clean images inside one.

  Args:
    root: folder; `input` and `target` are taken whatever else is there, of
      other names there must be one of each kind.

  Returns:
    The two folders; None where it holds none for inputs, or none for targets.

  Raises:
    ImageError: there are several of a kind.
  """
  root = as_path(root)
  if (root / "input").is_dir() and (root / "target").is_dir():
    return root / "input", root / "target"
  folders = sorted(root.iterdir()) if root.is_dir() else []
  inputs, targets = (
    [path for path in folders if path.name.lower() in names and path.is_dir()]
    for names in (_INPUTS, _TARGETS)
  )
  if not inputs or not targets:
    return None
  if len(inputs) > 1 or len(targets) > 1:
    found = ", ".join(path.name for path in inputs + targets)
    raise ImageError(
      f"{root}: holds pairs, but which of {found}? Name the two that are meant"
      " INPUT_FOLDER,TARGET_FOLDER"
    )
  return inputs[0], targets[0]


def check_clean(root: Path, files: Iterable[pathlib.Path]) -> None:
  """Refuses pairs below a folder of which all files are to be clean images.

  Args:
    root: the folder.
    files: images anywhere below it.

  Raises:
    ImageError: of two folders beside each other, one is called like inputs and
      one like targets, or one is called like nothing but inputs.
  """
  names = collections.defaultdict(set)
  for file in files:
    folders = file.relative_to(root).parts[:-1]
    for depth, name in enumerate(folders):
      names[folders[:depth]].add(name)
  for folders, children in sorted(names.items()):
    inputs, targets, sure = (
      sorted(name for name in children if _is_called(name, *kind))
      for kind in (
        (_INPUTS, _SURE_INPUTS),
        (_TARGETS, _SURE_TARGETS),
        ((), _SURE_INPUTS),
      )
    )
    if sure or (inputs and targets):
      found = ", ".join(inputs + targets)
      raise ImageError(
        f"{as_path(root).joinpath(*folders)}: holds pairs ({found}) where clean"
        f" images are expected; name it alone, or other folders: {EXPECTED}"
      )


def _is_called(
  name: str, whole: tuple[str, ...], parts: tuple[str, ...]
) -> bool:
  """Says whether a name is one of `whole`, or has one of `parts` as a word, as
  `DIV2K_train_LR_bicubic` has.
  """
  words = re.sub(r"x\d+", " ", name.lower())
  return name.lower() in whole or bool(
    set(re.findall("[a-z]+", words)) & set(parts)
  )
