"""Data-sheet figures of devices."""

import jax
import pytest

from semanir_jax.machine import devices


@pytest.mark.parametrize(
  ("device_kind", "teraflops", "gib"),
  [
    ("TPU v5 lite", 197, 16),
    ("TPU v6 lite", 918, 32),
    ("NVIDIA H200", 989, 141),
    ("NVIDIA A100-SXM4-40GB", 312, 40),
  ],
)
def test_a_known_device_has_its_figures(device_kind, teraflops, gib):
  chip = devices.chip_of(device_kind)
  assert chip.peak_teraflops == teraflops
  assert chip.memory_gib == gib


def test_one_device_is_not_taken_for_another():
  assert devices.chip_of("TPU v5") != devices.chip_of("TPU v5 lite")
  for unknown in ("NVIDIA H200 MIG 1g.18gb", "NVIDIA H100 PCIe", "TPU", ""):
    assert devices.chip_of(unknown) is None
  assert devices.chip_of(jax.devices("cpu")[0].device_kind) is None


def test_figures_have_the_units_of_their_names():
  for chip in devices.CHIPS.values():
    # A byte of memory feeds 60 to 600 operations on all of these chips, and
    # links are slower than memory.
    balance = chip.peak_teraflops * 1e3 / chip.memory_gb_s
    assert 60 < balance < 600
    assert 16 <= chip.memory_gib < 1000
    assert chip.link_gb_s < chip.memory_gb_s
