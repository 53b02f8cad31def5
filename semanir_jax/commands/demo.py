"""Restores your images in the browser; needs the extra `demo`.

semanir-demo
semanir-demo --checkpoint=runs/denoise,mine.safetensors --port=8000

In a checkout that is not installed: `python demo.py` for `semanir-demo`.
"""

import os
import pathlib
import signal
import tempfile

from absl import flags

from semanir_jax import cli
from semanir_jax.demo import service

_CHECKPOINT = flags.DEFINE_multi_string(
  "checkpoint",
  [],
  "Networks to offer beside the bundled ones: workdirs of runs, or files."
  " Repeat the flag, or separate them by commas.",
)
_HOST = flags.DEFINE_string(
  "host", "127.0.0.1", "Address to serve at; 0.0.0.0 lets other computers in."
)
_PORT = flags.DEFINE_integer("port", 7860, "Port to serve at.", 1, 65_535)


def main() -> None:
  """Serves the page until it is interrupted."""
  given = [name for names in _CHECKPOINT.value for name in names.split(",")]
  names = service.list_networks(given)
  # `kill` ends it as Ctrl-C does: nobody's pictures are left behind.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  with tempfile.TemporaryDirectory(prefix="semanir_demo_") as folder:
    # Read when Gradio is imported: uploads and results go with the program.
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
      from semanir_jax.demo import page
    except ModuleNotFoundError as error:
      raise ValueError(
        f"{error}; the demo needs: pip install gradio"
      ) from error
    blocks = page.build(names, pathlib.Path(folder))
    page.launch(blocks, _HOST.value, _PORT.value)


def run() -> None:
  """Is the program `semanir-demo`."""
  cli.run(main)
