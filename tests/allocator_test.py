"""Programs keep the memory that they have freed."""

import platform
import subprocess
import sys

import pytest

from semanir_jax.machine import allocator

# Prints how many pages the system clears for ten arrays of 64 MiB, one after
# the other, in this thread and in another, after a first one.
_PROGRAM = """
import resource, sys, threading
from semanir_jax.machine import allocator

def fill(times):
  for _ in range(times):
    bytearray(b"1") * (64 << 20)

if sys.argv[1] == "keep":
  allocator.keep_freed_memory()
fill(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill(5)
thread = threading.Thread(target=fill, args=(5,))
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _cleared_pages(word):
  command = [sys.executable, "-c", _PROGRAM, word]
  return int(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="only glibc has these settings"
)
def test_freed_memory_is_used_again():
  assert _cleared_pages("keep") < _cleared_pages("return") / 4


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_other_systems_are_left_alone(monkeypatch, system):
  opened = []
  monkeypatch.setattr(allocator.sys, "platform", system)
  monkeypatch.setattr(allocator.ctypes, "CDLL", opened.append)
  allocator.keep_freed_memory()
  assert not opened


def test_other_c_libraries_are_left_alone(monkeypatch):
  opened = []
  monkeypatch.setattr(allocator.sys, "platform", "linux")
  # None of what it returns has a `mallopt`.
  monkeypatch.setattr(allocator.ctypes, "CDLL", opened.append)
  allocator.keep_freed_memory()
  assert opened == [None]


# Two programs in one process would define a flag twice.
_CALLS = """
import importlib, sys
from semanir_jax import cli
from semanir_jax.machine import allocator
allocator.keep_freed_memory = lambda: print("keep")
cli.run = lambda main: print(main.__module__)
importlib.import_module(sys.argv[1]).run()
"""


@pytest.mark.parametrize("name", ["restore", "train", "eval"])
def test_programs_that_end_do_so(name):
  module = f"semanir_jax.commands.{name}"
  command = [sys.executable, "-c", _CALLS, module]
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  assert done.stdout.split() == ["keep", module]
