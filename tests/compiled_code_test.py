"""Programs keep compiled code between runs, where a user's caches lie."""

import pathlib
import subprocess
import sys
from collections.abc import Mapping

import pytest

from semanir_jax import cli

pytestmark = pytest.mark.slow

# A program as all are: JAX imported first, one function compiled. It prints how
# many programs came out of the cache.
_PROGRAM = """
import jax
from semanir_jax import cli

def main():
  hits = []
  jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event.endswith("/cache_hits")))
  def step(x, _):
    return jax.numpy.sort(x @ x), None
  run = jax.jit(lambda x: jax.lax.scan(step, x, length=3)[0])
  jax.block_until_ready(run(jax.numpy.ones((64, 64))))
  print(sum(hits))

cli.run(main)
"""


def _run(environment: Mapping[str, str]) -> str:
  ended = subprocess.run(
    [sys.executable, "-c", _PROGRAM],
    env={"JAX_PLATFORMS": "cpu", "PYTHONPATH": ".", **environment},
    capture_output=True,
    text=True,
  )
  assert (ended.returncode, ended.stderr) == (0, "")
  return ended.stdout.strip()


def _files(folder: pathlib.Path) -> list[str]:
  return [path.name for path in folder.rglob("*-cache")]


# As long as it takes to compile: this test's function needs less than 0.1 s.
_ALL = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


@pytest.mark.skipif(sys.platform != "linux", reason="XDG's folder")
def test_the_second_run_compiles_nothing_and_says_nothing(tmp_path):
  home = {"HOME": str(tmp_path)} | _ALL
  assert _run(home) == "0"
  folder = tmp_path / ".cache" / "semanir_jax" / "compiled"
  kept = _files(folder)
  assert kept and folder.stat().st_mode & 0o77 == 0
  assert _run(home) == str(len(kept))
  # What a program leaves that is killed while it writes.
  for name in kept:
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
  assert _run(home) == "0"
  # The user's own folder, and none.
  own = home | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")}
  assert _run(own) == "0" and len(_files(tmp_path / "own")) == len(kept)
  off = {"JAX_ENABLE_COMPILATION_CACHE": "0", "HOME": str(tmp_path / "off")}
  assert _run(_ALL | off) == "0" and not _files(tmp_path / "off")


def test_without_a_place_to_write_there_is_no_cache(tmp_path):
  (tmp_path / "file").touch()
  assert _run({"XDG_CACHE_HOME": str(tmp_path / "file")} | _ALL) == "0"


@pytest.mark.parametrize(
  ("platform", "variables", "expected"),
  [
    ("linux", {}, "home/.cache"),
    ("linux", {"XDG_CACHE_HOME": "/x"}, "/x"),
    ("darwin", {}, "home/Library/Caches"),
    ("win32", {}, "home/AppData/Local"),
    ("win32", {"LOCALAPPDATA": "/local"}, "/local"),
  ],
)
def test_caches_lie_where_the_system_has_them(
  monkeypatch, platform, variables, expected
):
  for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
    monkeypatch.delenv(name, raising=False)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setattr(sys, "platform", platform)
  monkeypatch.setattr(pathlib.Path, "home", lambda: pathlib.Path("home"))
  assert cli._cache_folder() == pathlib.Path(expected)
