"""Says which folders of the checkout become which packages; the rest of what
`pip install` needs to know is in pyproject.toml.
"""

import tempfile

import setuptools

_BUNDLED = "semanir_jax.bundled"

# Not `build` beside this file: modules that have moved since would come along.
_build = tempfile.TemporaryDirectory()

setuptools.setup(
  options={"build": {"build_base": _build.name}},
  packages=[
    *setuptools.find_namespace_packages(
      include=["semanir_jax", "semanir_jax.*"]
    ),
    f"{_BUNDLED}.configs",
    f"{_BUNDLED}.pretrained",
  ],
  package_dir={
    f"{_BUNDLED}.configs": "configs",
    f"{_BUNDLED}.pretrained": "pretrained",
  },
  package_data={
    "": ["*.json"],  # tile sizes, scores
    f"{_BUNDLED}.pretrained": [
      "*.safetensors",
      "NOTICE",
      "PHOTOGRAPHS.tsv",
      "README.md",
      "SHA256SUMS",
    ],
  },
  include_package_data=False,
)
