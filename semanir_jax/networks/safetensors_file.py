"""Keeps a network as one file: parameters and config in safetensors.

Parameters are float32 whatever the run computed in. safetensors holds plain
arrays, which other frameworks read too; the config that rebuilds the network
lies in its metadata. Names are paths, as `stage_0/layers/mlp/expand/kernel`;
arrays are as Flax has them: a product's kernel `[in, out]`, a convolution's
`[height, width, in, out]`, the layers of a stage stacked along the first axis.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from semanir_jax.machine import files
from semanir_jax.machine.portable_names import make_portable
from semanir_jax.models.parameters import abstract_params
from semanir_jax.networks import build
from semanir_jax.networks.build import CheckpointError
from semanir_jax.networks.loaded_network import LoadedNetwork

SUFFIX = ".safetensors"

_FORMAT = "semanir_jax 1"


def write_weights(
  path: pathlib.Path, params: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
  """Writes parameters and config, atomically.

  The config in the file names no folder of this machine
  (`portable_names.make_portable`); its `data.data_dir` is DATA.

  Args:
    path: a `.safetensors` file.
    params: nested dicts of arrays.
    config: plain JSON values, the whole config of the run.

  Raises:
    ValueError: the file's name ends otherwise.
  """
  if path.suffix != SUFFIX:
    raise ValueError(f"{path}: the name must end with {SUFFIX}")
  flat = traverse_util.flatten_dict(params, sep="/")
  arrays = {name: np.asarray(leaf) for name, leaf in flat.items()}
  data_dir = config.get("data", {}).get("data_dir", "")
  config = make_portable(config, data_dirs=[data_dir])
  metadata = {"format": _FORMAT, "config": json.dumps(config)}
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_bytes(path, safetensors.numpy.save(arrays, metadata))


def read_weights(path: pathlib.Path) -> LoadedNetwork:
  """Reads what `write_weights` wrote.

  Raises:
    CheckpointError: the file is damaged or of another program, or its arrays
      are not those of the network its config describes.
  """
  try:
    with (
      files.local_copy(path) as local,
      safetensors.safe_open(local, framework="numpy") as file,
    ):
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
  with build.reading_config(path):
    config = json.loads(metadata["config"])
    model = build.make_model(config["model"])
    model = model.with_execution(unroll=False)  # a loop compiles sooner
  params = traverse_util.unflatten_dict(arrays, sep="/")
  expected = abstract_params(model)
  build.check_same_shapes(expected, params, str(path))
  device = jax.local_devices()[0]
  return LoadedNetwork(model, jax.device_put(params, device), config)
