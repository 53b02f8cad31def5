"""Evaluates a checkpoint; `semanir-eval` from a checkout.

python eval.py --help
"""

from semanir_jax.commands.eval import run

if __name__ == "__main__":
  run()
