"""Shared by tests: eight CPU devices, benchmark images, trained networks."""

import os
import pathlib
import signal
import tempfile

import jax
import pytest
from absl import logging

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
# Tests compile much and compute little, and so do the programs they start.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
jax.config.update("jax_disable_most_optimizations", True)
# What was compiled once is not compiled again: in this process, in the workers
# of pytest-xdist, which inherit the folder, and in the programs that the tests
# start. JAX does not write it atomically: half an entry is compiled again.
# JAX_COMPILATION_CACHE_DIR=~/.cache/x make test keeps it for the next time.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _compiled = tempfile.TemporaryDirectory(prefix="semanir_jax_compiled_")
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
jax.config.update(
  "jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"]
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
  """Folder of real benchmark images; a user's clone has none."""
  root = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
  if not root.is_dir():
    pytest.skip(f"needs the benchmark images of {root}")
  return root


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> dict[str, str]:
  """Workdirs of a colour, a gray and a super-resolution network."""
  from tests import small  # JAX is set up above

  folder = tmp_path_factory.mktemp("runs")
  gray = {"model__in_channels": 1, "model__out_channels": 1}
  super_resolution = {
    "model__architecture": "columnar",
    "model__scale": 2,
    "model__depths": (1,),
  }
  configs = {"color": {}, "gray": gray, "x2": super_resolution}
  return {
    name: str(small.save_run(folder / name, small.config(**changes)))
    for name, changes in configs.items()
  }


@pytest.fixture
def quick_networks(monkeypatch) -> None:
  """Checkpoints "1" and "2": of networks that enlarge, and darken a little."""
  from semanir_jax.inference.restorer import Restorer
  from semanir_jax.restoration import restore
  from tests import small

  models = {"1": small.USHAPE, "2": small.COLUMNAR}

  def darkened(self, batch, **_):
    scale = self.model.scale
    return batch.repeat(scale, axis=1).repeat(scale, axis=2) - 0.01

  monkeypatch.setattr(
    restore, "load_network", lambda name: small.network(models[name], {})
  )
  monkeypatch.setattr(Restorer, "__call__", darkened)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> pathlib.Path:
  """Folders of images to train on and to test with, see `train_cases`."""
  from tests import train_cases  # JAX is set up above

  return train_cases.write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture
def warnings(monkeypatch):
  """What is logged as a warning."""
  lines = []
  monkeypatch.setattr(
    logging, "warning", lambda text, *values: lines.append(text % values)
  )
  return lines


# A file goes to one of the two workers of `make test` as a whole. The longest
# go first: at the end, one would leave the other worker without work.
_LONGEST = (
  "two_processes_test",
  "train_test",
  "step_test",
  "gpu_lowering_test",
  "tpu_lowering_test",
  "configs_test",
  "semanir_test",
  "aot_test",
  "attention_triton_test",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Sorts the files; the tests of a file stay in their order."""
  rank = {name: i for i, name in enumerate(_LONGEST)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture
def ctrl_c():
  """SIGINT as in a terminal, here and in what is started: a shell that ran the
  tests in the background had it ignored.
  """
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)
