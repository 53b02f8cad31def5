"""Where the steps of a run lie. It needs no Orbax, whose import takes 0.5 s."""

import pathlib

from semanir_jax.machine import files
from semanir_jax.networks.build import CheckpointError

FOLDER = "checkpoints"  # inside a workdir

_LAST = "commit_success.txt"  # of the objects of a step


def find_checkpoint(path: str) -> tuple[pathlib.Path, int]:
  """Finds the folder of checkpoints and the step that a path means.

  Args:
    path: a workdir, its `checkpoints` folder, or one step inside that.

  Returns:
    The folder of steps, and the step, the newest where the path names none.

  Raises:
    CheckpointError: nothing is there.
  """
  folder = files.as_path(path).absolute()
  step = None
  if (folder / FOLDER).is_dir():
    folder = folder / FOLDER
  elif folder.name.isdigit():
    folder, step = folder.parent, int(folder.name)
  there = folder.iterdir() if folder.is_dir() else []
  steps = sorted(int(p.name) for p in there if _is_final(p))
  if not steps:
    raise CheckpointError(
      f"no checkpoint in {path}; give the --workdir of a training run, or one"
      f" of the steps in its {FOLDER} folder"
    )
  if step is None:
    step = steps[-1]
  if step not in steps:
    known = ", ".join(map(str, steps))
    raise CheckpointError(f"no step {step} in {folder}; it has {known}")
  return folder, step


def _is_final(path: pathlib.Path) -> bool:
  """Says whether a folder is a step that was saved whole.

  On a disk orbax gives it its name last; in a bucket it writes this object.
  """
  return (
    path.name.isdigit()
    and path.is_dir()
    and (not files.is_bucket(path) or (path / _LAST).exists())
  )
