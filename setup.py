"""Says which folders of the checkout become which packages; the rest of what
`pip install` needs to know is in pyproject.toml.
"""

import setuptools

_BUNDLED = "semanir_jax.bundled"

setuptools.setup(
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
      "README.md",
      "SHA256SUMS",
    ],
  },
  include_package_data=False,
)
