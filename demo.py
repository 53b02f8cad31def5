"""Restores your images in the browser; `semanir-demo` from a checkout.

python demo.py --help
"""

from semanir_jax.commands.demo import run

if __name__ == "__main__":
  run()
