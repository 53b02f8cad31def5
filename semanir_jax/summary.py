"""Prints every named size with its parameter count beside the published one.

python -m semanir_jax.summary
"""

import math

import jax

from semanir_jax.models.parameters import abstract_params
from semanir_jax.models.semanir import SemanIR
from semanir_jax.models.sizes import PUBLISHED_MILLIONS, SIZES


def count_parameters(model: SemanIR) -> int:
  """Counts the parameters of a model, by a trace (nothing is computed)."""
  leaves = jax.tree.leaves(abstract_params(model))
  return sum(math.prod(leaf.shape) for leaf in leaves)


def main() -> None:
  """Prints the table."""
  print(f"{'size':8} {'scale':>5} {'parameters':>12} {'published':>10}  match")
  for name, options in SIZES.items():
    for scale in (2, 3, 4) if options["architecture"] == "columnar" else (1,):
      model = SemanIR(**{**options, "scale": scale})
      count = count_parameters(model)
      published = PUBLISHED_MILLIONS.get((name, scale))
      if published is None:
        verdict = "-  ours, no published figure"
      elif round(count / 1e6, 2) == published:
        verdict = f"{published:.2f} M  yes"
      else:
        off = 100 * (count / (published * 1e6) - 1)
        verdict = f"{published:.2f} M  {off:+.2f} % (widths are ours)"
      print(f"{name:8} {'x' + str(scale):>5} {count:12,d} {verdict:>10}")


if __name__ == "__main__":
  main()
