"""Finds networks by any name that a user has: bundled, a file, a run."""

import difflib
import pathlib

from semanir_jax import bundled
from semanir_jax.machine import files
from semanir_jax.networks.build import CheckpointError
from semanir_jax.networks.loaded_network import LoadedNetwork
from semanir_jax.networks.run_folder import FOLDER, find_checkpoint
from semanir_jax.networks.safetensors_file import SUFFIX, read_weights

PRETRAINED = bundled.folder("pretrained")
SUMS = "SHA256SUMS"  # in PRETRAINED, as sha256sum writes it


def load_network(name: str) -> LoadedNetwork:
  """Loads a network by any name that a user has for it.

  Args:
    name: of a network in `pretrained/`, as "denoise_color_light"; a
      `.safetensors` file; or a run, see `run_folder.find_checkpoint`.

  Returns:
    The network, with the config it was trained with, but for a `dtype` that
    its file was given.

  Raises:
    CheckpointError: nothing is there, it is damaged or does not fit.
  """
  check_there(name)
  file = find_weights_file(name)
  if file is None:
    from semanir_jax.networks import checkpoint  # a bundled one needs no Orbax

    return checkpoint.load_for_inference(name)
  if file.parent == PRETRAINED:
    _check_sum(file)
  return read_weights(file)


def check_there(name: str) -> None:
  """Looks for the file or run that a name means.

  Raises:
    CheckpointError: it is not there, with the nearest bundled network.
  """
  file = find_weights_file(name)
  if file is not None and file.is_file():
    return
  if file is not None:
    raise CheckpointError(f"{file}: there is no such file")
  if not name or files.as_path(name).is_file():
    raise CheckpointError(
      f"{name!r} is no network; give a *{SUFFIX} file, the workdir of a"
      " training run, or the name of a bundled network"
    )
  try:
    find_checkpoint(name)
  except CheckpointError as error:
    if files.as_path(name).exists() or not PRETRAINED.is_dir():
      raise
    known = sorted(path.stem for path in PRETRAINED.glob(f"*{SUFFIX}"))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise CheckpointError(
      f"{error}; or the name of a bundled network: {', '.join(known)}{hint}"
    ) from error


def find_weights_file(name: str) -> pathlib.Path | None:
  """Finds the file `load_network` reads; None where it looks for a run."""
  file = PRETRAINED / f"{name}{SUFFIX}"
  if file.is_file() and not files.as_path(name).exists():
    return file
  return files.as_path(name) if name.endswith(SUFFIX) else None


def pin(name: str) -> str:
  """Names what `load_network` would read now: of a run, its newest step.

  A run that is still training has another one a moment later.
  """
  try:
    if find_weights_file(name) is None:
      folder, step = find_checkpoint(name)
      return str(folder / str(step))
  except CheckpointError:
    pass  # `load_network` says what there is instead
  return name


def identify(name: str) -> str:
  """Says which weights a `pin`ned name means: a file and its sum, or a step.

  Raises:
    CheckpointError: nothing is there.
  """
  file = find_weights_file(name)
  if file is not None:
    _, digest = files.hash_file(file)
    return f"{file.name}, sha256 {digest[:12]}"
  folder, step = find_checkpoint(name)
  run = folder.parent if folder.name == FOLDER else folder
  return f"{run.name}, step {step}"


def _check_sum(path: pathlib.Path) -> None:
  """Compares a bundled file with its line in SHA256SUMS.

  Raises:
    CheckpointError: they differ, or there is no line.
  """
  _, found = files.hash_file(path)
  lines = (path.parent / SUMS).read_text().split("\n")
  if f"{found}  {path.name}" not in lines:
    raise CheckpointError(
      f"{path} is not the file of {SUMS} beside it; check it out again"
    )
