"""A picture of the degradations that are made of clean photographs.

  python -m studies.degradations --output=docs/images/degradations.png

The test forms of configs/deblur.py:synthetic and configs/weather.py:synthetic,
drawn by numpy's `RandomState(0)` as in an evaluation, on one photograph.
"""

import io
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags
from PIL import Image, ImageDraw

from configs import deblur, weather
from semanir_jax import cli
from semanir_jax.data.sources import open_source
from semanir_jax.degradations import make
from semanir_jax.images.image_file import PixelOptions
from semanir_jax.machine import files

# Name of a form, and what stands below it.
_PANELS: Mapping[str, str] = {
  "clean": "clean",
  "blur_20": "motion_blur, 20 px",
  "blur_regions": "motion_blur, 4 regions",
  "rain_veil": "rain",
  "rain": "rain, veil=0",
  "rain_thin": "rain, thin",
  "snow": "snow",
  "raindrop": "raindrop",
  "haze": "haze",
}
_COLUMNS, _LABEL_PX, _GAP_PX = 3, 16, 4
_COLORS = 256  # of the file, so that it stays small


def draw(picture: np.ndarray, *, width: int, seed: int) -> Image.Image:
  """Draws one panel for each form, in rows of three.

  Args:
    picture: `[H, W, 3]` uint8, clean.
    width: of a panel, px; its picture is degraded at its own size and shrunk.
    seed: of every form.

  Returns:
    An image of at most 256 colours.
  """
  forms = {**deblur.FORMS, **weather.FORMS}
  height = round(width * picture.shape[0] / picture.shape[1])
  rows = -(-len(_PANELS) // _COLUMNS)
  step = width + _GAP_PX, height + _LABEL_PX
  sheet = Image.new("RGB", (_COLUMNS * step[0], rows * step[1]), "white")
  pen = ImageDraw.Draw(sheet)
  for index, (form, label) in enumerate(_PANELS.items()):
    corner = index % _COLUMNS * step[0], index // _COLUMNS * step[1]
    panel = Image.fromarray(_degraded(picture, forms[form], seed))
    sheet.paste(panel.resize((width, height), Image.Resampling.LANCZOS), corner)
    pen.text((corner[0] + 2, corner[1] + height + 1), label, fill="black")
  return sheet.quantize(_COLORS)


def _degraded(
  picture: np.ndarray, form: Mapping[str, Any], seed: int
) -> np.ndarray:
  lq, _ = make(**form)(np.random.RandomState(seed), picture)
  return np.rint(255.0 * lq).astype(np.uint8)


def main() -> None:
  """Writes the picture."""
  values = flags.FLAGS
  source = open_source(values.image, pixels=PixelOptions(3, None))
  names = [source[index]["name"] for index in range(len(source))]
  if values.name not in names:
    raise ValueError(f"--name={values.name}: {values.image} has {names}")
  picture = source[names.index(values.name)]["image"]
  sheet = draw(picture, width=values.width, seed=values.seed)
  data = io.BytesIO()
  sheet.save(data, "PNG", optimize=True)
  files.write_bytes(pathlib.Path(values.output), data.getvalue())


if __name__ == "__main__":
  flags.DEFINE_string("output", None, "PNG file to write.", required=True)
  flags.DEFINE_string("image", "photographs:test", "Folder, or photographs:...")
  flags.DEFINE_string("name", "chelsea", "Which of its pictures.")
  flags.DEFINE_integer("width", 270, "px, of a panel.", 1)
  flags.DEFINE_integer("seed", 0, "Of every degradation.", 0)
  cli.run(main)
