"""The variants that an ablation compares, each by what it changes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import base

# The paper's k, in training and at inference, over the tokens of its window.
SHARES = tuple(k / 1024 for k in base.RANDOM_K)


class Variant(NamedTuple):
  """One row of the table.

  Attributes:
    label: what it is, for tables and figures.
    changes: fields of a config that make it, by dotted name.
    all_keys: it is evaluated at every k, and not at its own alone.
  """

  label: str
  changes: Callable[[ConfigDict], dict[str, Any]]
  all_keys: bool = False


def num_tokens(config: ConfigDict) -> int:
  """N, tokens of a window."""
  return config.model.window_size**2


def shares_of_window(n: int) -> tuple[int, ...]:
  """The paper's k, as shares of a window of N tokens."""
  return tuple(max(1, round(share * n)) for share in SHARES)


def _set(**fields: Any) -> Callable[[ConfigDict], dict[str, Any]]:
  """Options of the network to other values."""
  return lambda config: {f"model.{k}": value for k, value in fields.items()}


def _keys(share: float) -> Callable[[ConfigDict], dict[str, Any]]:
  """Another k, as a share of the window."""

  def changes(config: ConfigDict) -> dict[str, Any]:
    k = max(1, round(share * num_tokens(config)))
    most = max(k, config.model.max_keys)
    return {"model.num_keys": k, "model.max_keys": most}

  return changes


def _window(side: int) -> Callable[[ConfigDict], dict[str, Any]]:
  """Another window, and the same shares of its tokens."""

  def changes(config: ConfigDict) -> dict[str, Any]:
    ratio = side**2 / num_tokens(config)
    return {
      "model.window_size": side,
      "model.num_keys": max(1, round(ratio * config.model.num_keys)),
      "model.max_keys": max(1, round(ratio * config.model.max_keys)),
    }

  return changes


def _random_k(config: ConfigDict) -> dict[str, Any]:
  """Another k at every step of the training."""
  return {"train.random_num_keys": shares_of_window(num_tokens(config))}


BASE = "stage"
VARIANTS: Mapping[str, Variant] = {
  BASE: Variant("SemanIR: one dictionary per stage", _set(), all_keys=True),
  "layer": Variant("dictionary rebuilt per layer", _set(dictionary="layer")),
  "random_keys": Variant(
    "random keys, the same everywhere", _set(dictionary="random")
  ),
  "full": Variant("full window attention", _keys(1)),
  "random_k": Variant("random k in training", _random_k, all_keys=True),
  "k_1_16": Variant("k = N/16", _keys(1 / 16)),
  "k_1_8": Variant("k = N/8", _keys(1 / 8)),
  "k_1_4": Variant("k = N/4", _keys(1 / 4)),
  "k_1_2": Variant("k = N/2", _keys(1 / 2)),
  "window_8": Variant("window 8", _window(8)),
  "window_16": Variant("window 16", _window(16)),
  "window_32": Variant("window 32", _window(32)),
  "cosine": Variant("cosine similarity", _set(similarity="cosine")),
  "no_shift": Variant("no shifted windows", _set(shift="none")),
}


def make_config(config: ConfigDict, name: str, seed: int) -> ConfigDict:
  """The config of one run of a variant; validation is left to the study."""
  changed = config.copy_and_resolve_references().unlock()
  changed.train.random_num_keys = ()  # or a variant's own k would not be used
  changed.update_from_flattened_dict(VARIANTS[name].changes(config))
  changed.update_from_flattened_dict({"seed": seed, "eval.every_steps": 0})
  return changed.lock()


def evaluated_keys(config: ConfigDict, name: str) -> tuple[int, ...]:
  """The k that a trained variant is evaluated at, its own first."""
  own = config.model.num_keys
  if not VARIANTS[name].all_keys:
    return (own,)
  n = num_tokens(config)
  others = {*shares_of_window(n), n} - {own}
  return own, *sorted(k for k in others if k <= config.model.max_keys)
