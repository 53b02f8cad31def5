"""Takes the README's picture of the web demo.

python -m tests.demo_screenshot --network=denoise_color_light

The photograph is scikit-image's chelsea (CC0), degraded by what the network was
trained against.
"""

import argparse
import io
import pathlib
import tempfile

import skimage.data
from PIL import Image

from semanir_jax.demo import service, wording
from semanir_jax.images import image_file
from semanir_jax.machine import files
from tests import browser

_COLOURS = 256  # of the file: a third of its bytes, and nobody sees it


def main() -> None:
  """Writes the picture."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--network", required=True, help="as of --checkpoint")
  parser.add_argument("--output", default="docs/images/web_demo.png")
  options = parser.parse_args()
  network = service.load_network(options.network)
  degradation = next(iter(service.known_degradations(network)))
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    image_file.write_image(folder / "chelsea.png", skimage.data.chelsea())
    with browser.open_page([options.network], folder, size=(960, 1200)) as page:
      page.use(options.network, wording.describe_use(network))
      page.choose(
        "Degrade the picture first?", wording.name_action(degradation)
      )
      page.upload(folder / "chelsea.png")
      print(page.restore())
      shot = page.find("main").screenshot_as_png
  with Image.open(io.BytesIO(shot)) as picture:
    file = io.BytesIO()
    few = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(file, "PNG", optimize=True)
  files.write_bytes(options.output, file.getvalue())
  print(f"written: {options.output}, {len(file.getvalue())} bytes")


if __name__ == "__main__":
  main()
