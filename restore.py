"""Restores your images; `semanir-restore` from a checkout.

python restore.py --help
"""

from semanir_jax.commands.restore import run

if __name__ == "__main__":
  run()
