"""TensorBoard files without TensorFlow."""

import io
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from semanir_jax.training import tensorboard
from tests import events, programs


def test_what_is_written_is_read_back(tmp_path):
  writer = tensorboard.create_writer(str(tmp_path))
  pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(1, 4, 5, 3)
  writer.write_scalars(3, {"loss": jnp.float32(0.5), "rate": 2})
  writer.write_scalars(10_000_000, {"loss": float("nan")})
  writer.write_images(3, {"picture": pixels})
  writer.close()
  scalars = events.scalars(tmp_path)
  assert scalars["rate"] == {3: 2.0}
  assert scalars["loss"][3] == 0.5
  assert np.isnan(scalars["loss"][10_000_000])
  ((tag, step),) = events.images(tmp_path)
  assert tag.startswith("picture") and step == 3
  png = Image.open(io.BytesIO(events.images(tmp_path)[tag, step]))
  np.testing.assert_array_equal(np.asarray(png), pixels[0])


def test_closing_waits_for_what_is_still_being_written(tmp_path):
  writer = tensorboard.create_writer(str(tmp_path))
  for step in range(200):
    writer.write_scalars(step, {"loss": step})
  writer.close()
  assert events.scalars(tmp_path)["loss"] == {i: i for i in range(200)}


# A process of its own, because of the limit and of what might wait for ever.
FULL_DISK = """
import resource, sys
from semanir_jax.training import tensorboard

writer = tensorboard.create_writer(sys.argv[1])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
for step in range(1000):
  writer.write_scalars(step, {"loss": 0.0})
writer.close()
print("closed")
"""


def test_a_full_disk_is_a_warning_and_holds_nobody_up(tmp_path):
  ended = subprocess.run(
    [sys.executable, "-c", FULL_DISK, str(tmp_path)],
    capture_output=True,
    text=True,
    cwd=programs.ROOT,
    timeout=120,
  )
  assert ended.stdout == "closed\n", ended.stderr
  assert ended.stderr.count("the TensorBoard files are not complete") == 1
  assert "Traceback" not in ended.stderr


def test_clus_own_writers_work_with_it(tmp_path):
  # After `tensorboard`, because that makes it importable without TensorFlow.
  from clu import metric_writers

  ours = tensorboard.create_writer(str(tmp_path))
  several = metric_writers.MultiWriter([ours, metric_writers.LoggingWriter()])
  several.write_scalars(1, {"loss": 1.0})
  several.close()
  assert events.scalars(tmp_path)["loss"] == {1: 1.0}


@pytest.mark.parametrize(
  "module", ["semanir_jax.training.loop", "semanir_jax.restoration.restore"]
)
def test_no_other_framework_is_imported(module):
  code = (
    f"import sys, {module}\n"
    "print({'tensorflow', 'torch', 'tensorboard'} & set(sys.modules))\n"
  )
  result = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    cwd=programs.ROOT,
    check=True,
  )
  assert result.stdout == "set()\n"
