r"""Packs a folder of images, or of pairs, into ArrayRecord files, once.

  python -m semanir_jax.data.prepare --input=DIV2K_train_HR \
    --output=packs/div2k --crop_size=480 --step=240

Every training patch costs the decoding of a file, so large images starve a
GPU: cut into sub-images and packed, they are read at random and in small parts.
No pixel changes: files are stored as they are, or as PNG where they were cut.

The same command goes on where it was stopped, since shards are either complete
or absent. In the end `SHA256SUMS` holds the checksums (sha256sum -c SHA256SUMS)
and `pack.json` what was done, with the reasons for bad images left out.

ArrayRecord is written directly, not by a builder of TensorFlow Datasets: that
one cannot be resumed or leave out a bad image, and shuffles by a hash.
"""

import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import tqdm
from absl import flags

from semanir_jax import cli
from semanir_jax.data.folders import ImageFolder, PairedFolder
from semanir_jax.data.pair_folders import find_pair
from semanir_jax.data.records import INDEX_NAME, read_index
from semanir_jax.data.shards import is_done, write_shard
from semanir_jax.data.sub_images import Cutter, Files
from semanir_jax.images.image_file import ImageError
from semanir_jax.machine import files
from semanir_jax.machine.files import Path

_CHECKSUMS_NAME = "SHA256SUMS"
_IMAGES_PER_SHARD = 256


def prepare(
  input_folder: Path,
  output_folder: Path,
  *,
  target_folder: Path | None = None,
  crop_size: int | None = None,
  step: int | None = None,
  on_bad_image: str = "fail",
  recursive: bool = False,
  images_per_shard: int = _IMAGES_PER_SHARD,
) -> dict[str, Any]:
  """Packs images, or pairs; goes on if the pack was begun.

  Args:
    input_folder: images, or the degraded ones of pairs, or a folder that holds
      both (`pair_folders`).
    output_folder: made if absent; read it with `ArrayRecordSource`.
    target_folder: clean images of the pairs, named as in `PairedFolder`.
    crop_size: side of sub-images (`Cutter`), px; None packs whole files.
    step: px between sub-images; None for `crop_size`.
    on_bad_image: "fail" or "skip", as in `ImageFolder`.
    recursive: look into subfolders too.
    images_per_shard: number of images in one file of the pack.

  Returns:
    The contents of `pack.json`: shards, number of records, bad images.

  Raises:
    ImageError: bad images under "fail", an output begun with other images or
      options, or one that cannot be written.
    ValueError: options that do not fit together.
  """
  if target_folder is None and (pair := find_pair(input_folder)):
    input_folder, target_folder = pair
  if target_folder is None:
    source, scale = (
      ImageFolder(input_folder, on_bad_image=on_bad_image, recursive=recursive),
      1,
    )
    items = [{"image": path} for path in source.paths]
  else:
    source = PairedFolder(
      (input_folder, target_folder),
      on_bad_image=on_bad_image,
      recursive=recursive,
    )
    scale = source.scale
    items = [{"input": lq, "target": hq} for lq, hq in source.paths]
  cutter = Cutter(crop_size, crop_size if step is None else step, scale)
  shards = _split(items, images_per_shard)
  output = files.as_path(output_folder)
  roots = (input_folder, target_folder or input_folder)
  if output.resolve() in [files.as_path(root).resolve() for root in roots]:
    raise ImageError(f"{output}: holds the images; choose another output")
  plan = f"{cutter}, {_fingerprint(shards, roots)}"
  index = _open_index(output, plan=plan)
  index["scale"], index["bad_headers"] = scale, source.bad_images
  index["images"] = len(items)
  with tqdm.tqdm(total=len(items), unit="image", disable=None) as bar:
    for name, members in shards.items():
      if is_done(output / name, index["shards"].get(name)):
        bar.update(len(members))
        continue
      index["shards"][name] = write_shard(
        output / name, members, cutter, on_bad_image, bar
      )
      _write_index(output, index)
  return _finish(output, index)


def _split(items: Sequence[Files], size: int) -> dict[str, Sequence[Files]]:
  """Deals the images out to shards, by file name."""
  if size < 1:
    raise ValueError(f"images_per_shard={size} must be at least 1")
  starts = range(0, len(items), size)
  return {
    f"data-{number:05d}-of-{len(starts):05d}.array_record": items[s : s + size]
    for number, s in enumerate(starts)
  }


def _fingerprint(
  shards: dict[str, Sequence[Files]], roots: Sequence[Path]
) -> str:
  """Hashes which files of the folders `roots`, of which size and last change,
  go where; not where the folders lie.
  """

  def facts(path: pathlib.Path, root: Path) -> tuple[str, int, int]:
    status = path.stat()
    inside = path.relative_to(root).as_posix()
    return inside, status.st_size, status.st_mtime_ns

  plan = [
    (name, [tuple(map(facts, item.values(), roots)) for item in items])
    for name, items in shards.items()
  ]
  return hashlib.sha256(json.dumps(plan).encode()).hexdigest()


def _open_index(output: pathlib.Path, *, plan: str) -> dict[str, Any]:
  """Reads the index of a pack that was begun, or begins one."""
  if (output / INDEX_NAME).exists():
    index = read_index(output)
    if index["plan"] != plan:
      raise ImageError(
        f"{output}: was begun with other images or options; remove it, or "
        "choose another output"
      )
    return index
  try:
    files.make_folder(output)
  except OSError as error:
    raise ImageError(
      f"{output}: cannot be made ({error.strerror}); choose another output"
    ) from error
  index = {"plan": plan, "finished": False, "shards": {}}
  _write_index(output, index)
  return index


def _write_index(output: pathlib.Path, index: dict[str, Any]) -> None:
  files.write_bytes(output / INDEX_NAME, json.dumps(index, indent=1).encode())


def _finish(output: pathlib.Path, index: dict[str, Any]) -> dict[str, Any]:
  """Writes the checksums and marks the pack as complete."""
  shards = index["shards"]
  lines = [f"{facts['sha256']}  {name}\n" for name, facts in shards.items()]
  files.write_bytes(output / _CHECKSUMS_NAME, "".join(lines).encode())
  index["records"] = sum(facts["records"] for facts in shards.values())
  index["bad_images"] = index["bad_headers"] + [
    reason for facts in shards.values() for reason in facts["bad_images"]
  ]
  index["finished"] = True
  _write_index(output, index)
  return index


def main() -> None:
  """Packs what the flags name, and says what was left out."""
  args = flags.FLAGS
  index = prepare(
    args.input,
    args.output,
    target_folder=args.target,
    crop_size=args.crop_size,
    step=args.step,
    on_bad_image=args.on_bad_image,
    recursive=args.recursive,
    images_per_shard=args.images_per_shard,
  )
  print(f"{args.output}: {index['records']} records, checksums in SHA256SUMS")
  for reason in index["bad_images"]:
    print(f"left out: {reason}")


def _define_flags() -> None:
  flags.DEFINE_string(
    "input", None, "Folder of images or pairs.", required=True
  )
  flags.DEFINE_string(
    "target", None, "Folder of clean images, if --input is degraded."
  )
  flags.DEFINE_string("output", None, "Folder to write.", required=True)
  flags.DEFINE_integer(
    "crop_size", None, "Side of sub-images, px; default: whole images."
  )
  flags.DEFINE_integer("step", None, "Distance of neighbouring sub-images, px.")
  flags.DEFINE_enum(
    "on_bad_image",
    "fail",
    ["fail", "skip"],
    "Stop at a bad image, or leave it out.",
  )
  flags.DEFINE_bool("recursive", False, "Look into subfolders too.")
  flags.DEFINE_integer(
    "images_per_shard", _IMAGES_PER_SHARD, "Images in a file."
  )


if __name__ == "__main__":
  _define_flags()
  cli.run(main)
