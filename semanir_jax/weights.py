"""Weights as a file: the parameters and the config of one network.

  python -m semanir_jax.weights --checkpoint=runs/denoise \\
    --output=mine.safetensors --dtype=float32

Parameters are float32 whatever the run computed in; `--dtype` is what those who
load the file compute in, where a bfloat16 run is to be used on CPUs.
safetensors holds plain arrays, which other frameworks read too; the config that
rebuilds the network lies in its metadata. Names are paths, as
`stage_0/layers/mlp/expand/kernel`; arrays are as Flax has them: a product's
kernel `[in, out]`, a convolution's `[height, width, in, out]`, the layers of a
stage stacked along the first axis.
"""

import difflib
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np
import safetensors
import safetensors.numpy
from absl import flags, logging

from semanir_jax import checkpoint, cli
from semanir_jax.checkpoint import CheckpointError
from semanir_jax.machine.files import write_bytes
from semanir_jax.models.parameters import abstract_params
from semanir_jax.models.semanir import SemanIR

Network = tuple[SemanIR, Mapping[str, Any], Mapping[str, Any]]

PRETRAINED = pathlib.Path(__file__).resolve().parents[1] / "pretrained"
SUFFIX = ".safetensors"
SUMS = "SHA256SUMS"  # in PRETRAINED, as sha256sum writes it

_FORMAT = "semanir_jax 1"


def load_network(name: str) -> Network:
  """Loads a network by any name that a user has for it.

  Args:
    name: of a network in `pretrained/`, as "denoise_color_light"; a
      `.safetensors` file; or a run, see `checkpoint.checkpoint_folder`.

  Returns:
    The model, its parameters on one device, and the config it was trained with
    (but for a `dtype` that its file was given), as nested dicts.

  Raises:
    CheckpointError: nothing is there, it is damaged or does not fit.
  """
  check_there(name)
  file = weights_file(name)
  if file is None:
    return checkpoint.load_for_inference(name)
  if file.parent == PRETRAINED:
    _check_sum(file)
  return read_weights(file)


def check_there(name: str) -> None:
  """Looks for the file or run that a name means.

  Raises:
    CheckpointError: it is not there, with the nearest bundled network.
  """
  file = weights_file(name)
  if file is not None and file.is_file():
    return
  if file is not None:
    raise CheckpointError(f"{file}: there is no such file")
  if not name or pathlib.Path(name).is_file():
    raise CheckpointError(
      f"{name!r} is no network; give a *{SUFFIX} file, the workdir of a"
      " training run, or the name of a bundled network"
    )
  try:
    checkpoint.checkpoint_folder(name)
  except CheckpointError as error:
    if pathlib.Path(name).exists() or not PRETRAINED.is_dir():
      raise
    known = sorted(path.stem for path in PRETRAINED.glob(f"*{SUFFIX}"))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise CheckpointError(
      f"{error}; or the name of a bundled network: {', '.join(known)}{hint}"
    ) from error


def weights_file(name: str) -> pathlib.Path | None:
  """The file that `load_network` reads; None where it looks for a run."""
  bundled = PRETRAINED / f"{name}{SUFFIX}"
  if bundled.is_file() and not pathlib.Path(name).exists():
    return bundled
  return pathlib.Path(name) if name.endswith(SUFFIX) else None


def exact(name: str) -> str:
  """A name for what `load_network` would read now: of a run, its newest step.

  A run that is still training has another one a moment later.
  """
  try:
    if weights_file(name) is None:
      folder, step = checkpoint.checkpoint_folder(name)
      return str(folder / str(step))
  except CheckpointError:
    pass  # `load_network` says what there is instead
  return name


def identity(name: str) -> str:
  """Says which weights an `exact` name means: a file and its sum, or a step.

  Raises:
    CheckpointError: nothing is there.
  """
  file = weights_file(name)
  if file is not None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{file.name}, sha256 {digest[:12]}"
  folder, step = checkpoint.checkpoint_folder(name)
  run = folder.parent if folder.name == checkpoint.FOLDER else folder
  return f"{run.name}, step {step}"


def write_weights(
  path: pathlib.Path, params: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
  """Writes parameters and config, atomically.

  Args:
    path: a `.safetensors` file.
    params: nested dicts of arrays.
    config: plain JSON values, the whole config of the run.

  Raises:
    ValueError: the file's name ends otherwise.
  """
  if path.suffix != SUFFIX:
    raise ValueError(f"{path}: the name must end with {SUFFIX}")
  flat = flax.traverse_util.flatten_dict(params, sep="/")
  arrays = {name: np.asarray(leaf) for name, leaf in flat.items()}
  metadata = {"format": _FORMAT, "config": json.dumps(config)}
  path.parent.mkdir(parents=True, exist_ok=True)
  write_bytes(path, safetensors.numpy.save(arrays, metadata))


def read_weights(path: pathlib.Path) -> Network:
  """Reads what `write_weights` wrote.

  Raises:
    CheckpointError: the file is damaged or of another program, or its arrays
      are not those of the network its config describes.
  """
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      metadata = file.metadata() or {}
      arrays = {name: file.get_tensor(name) for name in file.keys()}
  except (OSError, safetensors.SafetensorError) as error:
    raise CheckpointError(
      f"{path} cannot be read ({error}); it is damaged: get it again"
    ) from error
  if metadata.get("format") != _FORMAT:
    raise CheckpointError(
      f"{path} is not of semanir_jax (format {metadata.get('format')!r}, not"
      f" {_FORMAT!r})"
    )
  if "config" not in metadata:
    raise CheckpointError(
      f"{path} has no config in its metadata, which rebuilds the network; write"
      " it with python -m semanir_jax.weights"
    )
  with checkpoint.reading_config(path):
    config = json.loads(metadata["config"])
    model = checkpoint.make_model(config["model"])
    model = model.clone(unroll=False)  # a loop compiles sooner
  params = flax.traverse_util.unflatten_dict(arrays, sep="/")
  expected = abstract_params(model)
  checkpoint.check_same_shapes(expected, params, str(path))
  device = jax.local_devices()[0]
  return model, jax.device_put(params, device), config


def _check_sum(path: pathlib.Path) -> None:
  """Compares a bundled file with its line in SHA256SUMS.

  Raises:
    CheckpointError: they differ, or there is no line.
  """
  found = hashlib.sha256(path.read_bytes()).hexdigest()
  lines = (path.parent / SUMS).read_text().split("\n")
  if f"{found}  {path.name}" not in lines:
    raise CheckpointError(
      f"{path} is not the file of {SUMS} beside it; check it out again"
    )


def main() -> None:
  """Writes the newest checkpoint of a run as one file."""
  _, params, config = load_network(flags.FLAGS.checkpoint)
  if flags.FLAGS.dtype is not None:
    options = {**config["model"], "dtype": flags.FLAGS.dtype}
    config = {**config, "model": options}
  path = pathlib.Path(flags.FLAGS.output)
  write_weights(path, params, config)
  logging.info("written: %s, %d bytes", path, path.stat().st_size)


if __name__ == "__main__":
  flags.DEFINE_string("checkpoint", None, "Workdir, step, file or name.")
  flags.DEFINE_string("output", None, f"File to write, *{SUFFIX}.")
  flags.DEFINE_enum(
    "dtype",
    None,
    ["float32", "bfloat16"],
    "Of the operands of matrix products; default: the run's.",
  )
  flags.mark_flags_as_required(["checkpoint", "output"])
  cli.run(main)
