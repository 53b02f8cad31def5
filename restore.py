"""Restores your images with a trained network.

python restore.py --input=photo.jpg --output=restored --checkpoint=runs/demo
"""

from absl import flags

from semanir_jax import cli, restoration

_INPUT = flags.DEFINE_string("input", None, "Image file, or folder of images.")
_OUTPUT = flags.DEFINE_string(
  "output", None, "Folder for the results (PNG); a file name for one image."
)
_CHECKPOINT = flags.DEFINE_string(
  "checkpoint", None, "Workdir of a training run, or one step of it."
)
_NUM_KEYS = flags.DEFINE_integer(
  "num_keys", None, "k, keys per token; default: the checkpoint's.", 1
)
_REFERENCE = flags.DEFINE_string(
  "reference",
  None,
  "Clean image, or folder of clean images of the same names: prints PSNR and"
  " SSIM and writes before / after / truth side by side.",
)
flags.mark_flags_as_required(["input", "output", "checkpoint"])


def main() -> None:
  """Restores; an image that cannot be restored is named at the end."""
  restoration.restore_files(
    _CHECKPOINT.value,
    _INPUT.value,
    _OUTPUT.value,
    num_keys=_NUM_KEYS.value,
    reference=_REFERENCE.value,
  )


if __name__ == "__main__":
  cli.run(main)
