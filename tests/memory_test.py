"""Free memory is counted as by the kernel, and a lack of it explained."""

import types

import jax
import pytest

from semanir_jax.machine import memory


@pytest.mark.parametrize(
  "error",
  [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no memory")],
)
def test_memory_that_runs_out_is_one_line(error):
  with pytest.raises(memory.OutOfMemoryError, match="^too large; cut it$"):
    with memory.explain_out_of_memory("too large; cut it"):
      raise error


def test_other_errors_stay_what_they_are():
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
    with memory.explain_out_of_memory("too large"):
      raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_the_memory_of_this_machine_is_found():
  assert 2**20 < memory.free_memory() * len(jax.devices()) < 2**50


@pytest.mark.parametrize(
  ("limit", "used", "cached", "expected"),
  [
    ("max", 9_000, 0, 8_192),  # no limit: what the machine has
    ("10000", 4_000, 0, 6_000),
    ("10000", 9_000, 3_000, 4_000),  # files are cached in what is used
    ("90000", 1_000, 0, 8_192),  # a limit above what the machine has
    ("10000", 10_500, 100, 0),
  ],
)
def test_a_container_has_what_its_limit_leaves(
  tmp_path, monkeypatch, limit, used, cached, expected
):
  (tmp_path / "memory.max").write_text(f"{limit}\n")
  (tmp_path / "memory.current").write_text(f"{used}\n")
  (tmp_path / "memory.stat").write_text(
    f"anon 7\nfile 8\nactive_file {cached - cached // 3}\n"
    f"inactive_file {cached // 3}\n"
  )
  monkeypatch.setattr(memory, "_CGROUP", tmp_path)
  system = types.SimpleNamespace(available=8_192)
  monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: system)
  assert memory.free_memory() == expected // len(jax.devices())
