"""Trains SemanIR; `semanir-train` from a checkout.

python train.py --help
"""

from semanir_jax.commands.train import run

if __name__ == "__main__":
  run()
