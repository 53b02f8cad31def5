"""Takes the folders of a machine out of logs, before they are committed.

  python -m studies.clean_logs --data_dir=/mnt/sets --folder=/tmp \\
    --logs=pretrained/logs/mine.log,pretrained/logs/mine.starts.jsonl

Names below `--data_dir` then begin with DATA. Names below `--folder` (a
checkout, or what held the runs) become relative to it. Of other absolute names
the last part stays. Both options may be given several times.
"""

import pathlib
from collections.abc import Sequence

from absl import flags, logging

from semanir_jax import cli
from semanir_jax.machine import files
from semanir_jax.machine.portable_names import CHECKOUT, make_portable


def clean(
  path: pathlib.Path, data_dirs: Sequence[str], folders: Sequence[str]
) -> bool:
  """Rewrites a text file with portable names.

  Args:
    path: the file, UTF-8.
    data_dirs: folders of data sets.
    folders: what names may be relative to, beside this checkout.

  Returns:
    Whether the file changed.
  """
  text = path.read_text(encoding="utf-8")
  known = [*folders, CHECKOUT]
  portable = make_portable(text, data_dirs=data_dirs, folders=known)
  if portable != text:
    files.write_bytes(path, portable.encode())
  return portable != text


def main() -> None:
  """Cleans the files of the command line."""
  values = flags.FLAGS
  for name in values.logs:
    if clean(pathlib.Path(name), values.data_dir, values.folder):
      logging.info("cleaned: %s", name)


if __name__ == "__main__":
  flags.DEFINE_list("logs", None, "Text files, with commas between them.")
  flags.DEFINE_multi_string("data_dir", [], "Folder of data sets; repeatable.")
  flags.DEFINE_multi_string("folder", [], "Folder of runs; repeatable.")
  flags.mark_flag_as_required("logs")
  cli.run(main)
