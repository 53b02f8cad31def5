"""Degradations by the names that configs give them."""

import dataclasses
import difflib
from typing import Any

from semanir_jax.degradations.base import Degradation
from semanir_jax.degradations.bicubic import Bicubic
from semanir_jax.degradations.chain import Chain
from semanir_jax.degradations.haze import Haze
from semanir_jax.degradations.jpeg import Jpeg
from semanir_jax.degradations.mixture import Mixture
from semanir_jax.degradations.mosaic import Demosaic
from semanir_jax.degradations.motion_blur import MotionBlur
from semanir_jax.degradations.noise import GaussianNoise
from semanir_jax.degradations.photo import Photo
from semanir_jax.degradations.rain import Rain
from semanir_jax.degradations.raindrop import Raindrop
from semanir_jax.degradations.snow import Snow


def make(name: str, **options: Any) -> Degradation | Mixture:
  """Builds a degradation from the words of a config.

  Args:
    name: "noise", "bicubic", "jpeg", "demosaic", "photo", "motion_blur",
      "rain", "snow", "raindrop", "haze", "chain" or "mixture".
    **options: fields of the dataclass. The members of a chain or a mixture may
      be given as dicts, `{"name": "noise", "sigma_255": 25}`, or by name.

  Raises:
    ValueError: an unknown name or option (the nearest known one is named), a
      missing option, or a value out of range.
  """
  cls = _BY_NAME.get(name)
  if cls is None:
    raise ValueError(
      f"unknown degradation {_nearest(name, list(_BY_NAME))} (docs/data.md says"
      " how to add one)"
    )
  fields = dataclasses.fields(cls)
  for option in options:
    if option not in (known := [field.name for field in fields]):
      raise ValueError(f"{name} has no option {_nearest(option, known)}")
  for field in fields:
    if field.default is dataclasses.MISSING and field.name not in options:
      raise ValueError(f"{name} needs the option {field.name!r}")
  if cls in (Chain, Mixture):
    options["degradations"] = [_make_member(m) for m in options["degradations"]]
  # Config files give lists; a frozen dataclass holds tuples.
  values = (tuple(v) if isinstance(v, list) else v for v in options.values())
  return cls(**dict(zip(options, values, strict=True)))


_BY_NAME = {
  "noise": GaussianNoise,
  "bicubic": Bicubic,
  "jpeg": Jpeg,
  "demosaic": Demosaic,
  "photo": Photo,
  "motion_blur": MotionBlur,
  "rain": Rain,
  "snow": Snow,
  "raindrop": Raindrop,
  "haze": Haze,
  "chain": Chain,
  "mixture": Mixture,
}


def _make_member(given: Any) -> Any:
  """Makes a degradation of its options or, if it has none, of its name."""
  if isinstance(given, str):
    return make(given)
  if callable(given):
    return given
  # A ConfigDict is no Mapping.
  if hasattr(given, "keys") and "name" in given:
    return make(**given)
  raise ValueError(
    f"degradations has {given!r}; give a dict with its 'name' and options"
  )


def _nearest(word: str, known: list[str]) -> str:
  """Says what an unknown word may have meant."""
  close = difflib.get_close_matches(word, known, n=1)
  hint = f"did you mean {close[0]!r}" if close else f"known: {', '.join(known)}"
  return f"{word!r}; {hint}"
