"""What a run was started with and on: the record beside its checkpoints."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax
import psutil
from absl import logging

from semanir_jax.machine import files
from semanir_jax.machine.portable_names import CHECKOUT, make_portable

STARTS = "starts.jsonl"  # inside a workdir

_PACKAGES = (
  "semanir_jax",
  "jax",
  "jaxlib",
  "libtpu",
  "jax-cuda12-plugin",
  "jax-cuda13-plugin",
  "jax-triton",
  "triton",
  "torch",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "numpy",
)
# Device files of the drivers; a Cloud TPU VM has one of the last two.
_ACCELERATOR_FILES = {
  "nvidia0": ("an NVIDIA GPU", 'pip install "jax[cuda13]"'),
  "accel0": ("a TPU", 'pip install "jax[tpu]"'),
  "vfio/0": ("a TPU", 'pip install "jax[tpu]"'),
}


def record_start(
  workdir: pathlib.Path,
  step: int,
  changes: Mapping[str, Any],
  data_dir: str = "",
) -> None:
  """Adds a line to `starts.jsonl`: time, command, versions, commit, devices.

  Files are named as `portable_names.make_portable` names them, so that the
  record can be shown to others.

  Args:
    workdir: folder of the run.
    step: updates made before this start.
    changes: fields of the config that differ from the checkpoint's, with the
      value before and the value now.
    data_dir: folder of the data sets, which the record calls DATA.
  """
  command = [pathlib.Path(sys.executable).name, *sys.argv]
  told = {"command": command, "config_changes": dict(changes)}
  line = describe() | {
    "step": step,
    **make_portable(told, data_dirs=[data_dir]),
    "processes": jax.process_count(),
  }
  path = workdir / STARTS
  before = path.read_bytes() if path.exists() else b""
  files.write_bytes(path, before + json.dumps(line).encode() + b"\n")


def add_to_start(workdir: pathlib.Path, facts: Mapping[str, Any]) -> None:
  """Adds facts to the newest line of `starts.jsonl`, or replaces them there."""
  path = workdir / STARTS
  *before, line = path.read_bytes().splitlines()
  line = json.dumps(json.loads(line) | facts).encode()
  files.write_bytes(path, b"\n".join([*before, line]) + b"\n")


def describe() -> dict[str, Any]:
  """Returns time, commit, versions and devices, as JSON."""
  return {
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "commit": _commit(),
    "python": platform.python_version(),
    "versions": _versions(),
    "devices": [str(device) for device in jax.devices()],
    "device_kind": jax.devices()[0].device_kind,
  }


def _versions() -> dict[str, str]:
  """Returns the versions of installed packages that results depend on."""
  versions = {}
  for name in _PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return versions


def _commit() -> str | None:
  """Returns the Git commit of this code, with "+changes" if files differ."""
  if not (CHECKOUT / ".git").exists():
    return None  # installed, maybe below somebody's repository
  try:
    commit, changes = (
      subprocess.run(
        ["git", *command],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
      ).stdout.strip()
      for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return commit + ("+changes" if changes else "")


def warn_of_idle_accelerator(device_files: str = "/dev") -> None:
  """Says so loudly where JAX took the CPU of a machine that has more.

  Args:
    device_files: folder of the device files.
  """
  if jax.default_backend() != "cpu" or os.environ.get("JAX_PLATFORMS"):
    return  # or the CPU was asked for
  for name, (device, remedy) in _ACCELERATOR_FILES.items():
    if pathlib.Path(device_files, name).exists():
      logging.warning(
        "\n%s\nThis machine has %s (%s/%s), but JAX found none and trains on"
        " the CPU.\nInstall its plugin: %s\n(JAX_PLATFORMS=cpu says that the"
        " CPU is meant.)\n%s",
        "!" * 79,
        device,
        device_files,
        name,
        remedy,
        "!" * 79,
      )
      return


def memory_gib() -> dict[str, float]:
  """Returns the most memory used so far, GiB: by this process, and by the
  fullest of its devices where they tell.
  """
  memory = {"host_memory_gib": _peak_host_memory() / 2**30}
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
  if peaks:
    memory["device_memory_gib"] = max(peaks) / 2**30
  return memory


def _peak_host_memory() -> int:
  """Most bytes that this process has used so far."""
  try:
    import resource
  except ImportError:  # Windows
    used = psutil.Process().memory_info()
    return getattr(used, "peak_wset", used.rss)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else 1024 * peak


def config_changes(
  before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
  """Finds what differs: `{"train.num_steps": (100, 200)}`; absent is None."""
  flat = [flatten(config) for config in (before, now)]
  names = sorted(set(flat[0]) | set(flat[1]))
  return {
    name: (flat[0].get(name), flat[1].get(name))
    for name in names
    if flat[0].get(name) != flat[1].get(name)
  }


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns the values of a config by dotted name."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat
