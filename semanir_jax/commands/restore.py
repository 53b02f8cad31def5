r"""Restores your images and films with a trained network.

semanir-restore --input=photo.png
semanir-restore --input="photos/**/*.png" --output=restored \
  --checkpoint=runs/denoise --format=jpeg --quality=90
semanir-restore --input=clip.mp4 --output=restored --codec=h265 --crf=20

In a checkout that is not installed: `python restore.py` for `semanir-restore`.
docs/restore.md says which network is for which picture. A network for mosaics
takes a gray file as a sensor's RGGB mosaic.
"""

from absl import flags

from semanir_jax import cli
from semanir_jax.films.encoding import CODECS, EncoderOptions
from semanir_jax.images.level_range import LevelRange
from semanir_jax.machine import allocator
from semanir_jax.restoration import pixel_formats, restore

_INPUT = flags.DEFINE_string(
  "input",
  None,
  "Image file, film (mp4, mov, mkv, webm), folder with its subfolders, or"
  " quoted pattern.",
  required=True,
)
_OUTPUT = flags.DEFINE_string(
  "output", "restored", "Folder for the results; for one input also a file."
)
_CHECKPOINT = flags.DEFINE_string(
  "checkpoint",
  "photo_light",
  "Network: a bundled name, a .safetensors file, a run's workdir or a step.",
)
_NUM_KEYS = flags.DEFINE_integer(
  "num_keys",
  None,
  "k: how many tokens each token attends to; default: the network's.",
  1,
)
_REFERENCE = flags.DEFINE_string(
  "reference",
  None,
  "Clean image, or folder of clean images of the same names. The program then"
  " prints PSNR and SSIM and writes before, after and truth side by side. For"
  " films give clean films: a table has the PSNR of every frame.",
)
_FORMAT = flags.DEFINE_enum(
  "format",
  None,
  list(pixel_formats.FORMATS),
  "Format of the results; default: the input's format if it is lossless, else"
  " PNG.",
)
_QUALITY = flags.DEFINE_integer(
  "quality",
  None,
  "Quality of JPEG (default: 95) and of WebP (default: lossless), 1 to 100.",
)
_CODEC = flags.DEFINE_enum(
  "codec",
  None,
  list(CODECS),
  "Codec of films; default: h264 for 8 bits, else h265; av1 for odd sides; vp9"
  " in webm. ffv1 (mkv) is lossless.",
)
_CRF = flags.DEFINE_integer(
  "crf",
  None,
  "Quality of films, 0 is the best; default: 16 for h264, 18 for h265, 20 for"
  " av1 and vp9.",
)
_PRESET = flags.DEFINE_string(
  "preset",
  None,
  "Speed against size of films, in the codec's words; default: medium, for av1"
  " 6, for vp9 2.",
)
_BLACK_LEVEL = flags.DEFINE_integer(
  "black_level", None, "Integer that is black in the files; default: 0."
)
_WHITE_LEVEL = flags.DEFINE_integer(
  "white_level",
  None,
  "Integer that is white in the files, for example 1023 for 10 bits in files of"
  " 16; default: the largest of their type. Results keep these levels, and"
  " references of the same type are read with them.",
)
_OVERWRITE = flags.DEFINE_bool(
  "overwrite", False, "Restore files again that have a result."
)
_TILE = flags.DEFINE_integer(
  "tile",
  None,
  "Side of overlapping tiles, px of the input; default: the whole image, or the"
  " largest tile that fits the memory.",
)
_SELF_ENSEMBLE = flags.DEFINE_bool(
  "self_ensemble",
  False,
  "Take the mean over 8 flips and turns, in 8 times the time.",
)
_DTYPE = flags.DEFINE_enum(
  "dtype",
  None,
  ["float32", "bfloat16"],
  "Type of the operands of matrix products; bfloat16 is made for TPUs and GPUs;"
  " default: the network's.",
)


def main() -> None:
  """Restores; images that cannot be restored are named at the end."""
  restore.restore_files(
    _CHECKPOINT.value,
    _INPUT.value,
    _OUTPUT.value,
    num_keys=_NUM_KEYS.value,
    reference=_REFERENCE.value,
    output_format=_FORMAT.value,
    quality=_QUALITY.value,
    overwrite=_OVERWRITE.value,
    tile=_TILE.value,
    self_ensemble=_SELF_ENSEMBLE.value,
    dtype=_DTYPE.value,
    level_range=LevelRange(_BLACK_LEVEL.value, _WHITE_LEVEL.value),
    film=EncoderOptions(_CODEC.value, _CRF.value, _PRESET.value),
  )


def run() -> None:
  """Is the program `semanir-restore`."""
  allocator.keep_freed_memory()
  cli.run(main)
