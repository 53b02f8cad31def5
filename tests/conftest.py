"""Shared by all tests: eight CPU devices and the benchmark images."""

import pathlib

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
# Tests compile much and compute little.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
  """Folder of real benchmark images; a user's clone has none."""
  root = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
  if not root.is_dir():
    pytest.skip(f"needs the benchmark images of {root}")
  return root
