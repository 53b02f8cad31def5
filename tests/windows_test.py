"""Windows: cut and put back, pad and shift, hand-made regions."""

import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.models import windows


@pytest.mark.parametrize("shift", [(0, 0), (2, 2), (0, 1)])
def test_merge_inverts_partition(shift):
  x = jnp.arange(2 * 8 * 12 * 3.0).reshape(2, 8, 12, 3)
  cut = windows.partition(x, 4, shift)
  assert cut.shape == (2, 6, 16, 3)
  np.testing.assert_array_equal(windows.merge(cut, 8, 12, shift), x)


def test_partition_reads_windows_row_by_row():
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  np.testing.assert_array_equal(
    windows.partition(x, 2)[0, :, :, 0],
    [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]],
  )
  np.testing.assert_array_equal(
    windows.partition(x, 2, (1, 1))[0, 3, :, 0], [15, 12, 3, 0]
  )


def test_partition_refuses_a_ragged_map():
  with pytest.raises(ValueError, match="5x4 feature map .* 2x2 windows"):
    windows.partition(jnp.zeros((1, 5, 4, 1)), 2)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_padding_equals_numpy_reflect(size):
  x = np.arange(float(size * 3)).reshape(1, size, 3, 1).astype(np.float32)
  expected = np.pad(x, [(0, 0), (0, -size % 16), (0, 13), (0, 0)], "reflect")
  np.testing.assert_array_equal(windows.pad_to_multiple(x, 16), expected)


def test_regions_of_a_shifted_image():
  regions = windows.regions(4, 4, 2, (1, 1))
  np.testing.assert_array_equal(
    regions, [[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 2, 2], [0, 1, 2, 3]]
  )
  assert windows.regions(4, 4, 2, (0, 0)) is None


def test_an_axis_of_one_window_is_not_shifted():
  assert windows.shift_px(16, 8, 8) == (4, 0)
  assert windows.shift_px(8, 8, 8) == (0, 0)
