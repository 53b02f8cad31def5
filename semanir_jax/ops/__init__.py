"""Pure functions: the key-semantic dictionary and attention over it."""

from semanir_jax.ops.attention.api import (
  IMPLEMENTATIONS,
  check_implementation,
  choose_implementation,
  key_semantic_attention,
)
from semanir_jax.ops.dictionary.api import build_dictionary
from semanir_jax.ops.dictionary.random_keys import random_dictionary
from semanir_jax.ops.dictionary.selection import Dictionary
from semanir_jax.ops.whole_numbers import whole_number

__all__ = [
  "IMPLEMENTATIONS",
  "Dictionary",
  "build_dictionary",
  "check_implementation",
  "choose_implementation",
  "key_semantic_attention",
  "random_dictionary",
  "whole_number",
]
