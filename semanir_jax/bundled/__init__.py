"""What comes with the package: the configs and the trained networks.

In a checkout they are its folders `configs` and `pretrained`; `pip install`
copies both beside this file.
"""

import pathlib


def folder(name: str) -> pathlib.Path:
  """Finds "configs" or "pretrained", wherever the package was started from.

  Returns:
    Its absolute path.
  """
  here = pathlib.Path(__file__).resolve().parent
  installed = here / name
  return installed if installed.is_dir() else here.parents[1] / name
