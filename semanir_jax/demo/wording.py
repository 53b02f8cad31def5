"""Says in plain words what a network does, and what a degradation does."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from semanir_jax.demo.service import known_degradations
from semanir_jax.networks.learned import learned_by
from semanir_jax.networks.loaded_network import LoadedNetwork

# What the page offers to do to a clean picture, by degradation.
_ACTIONS: Mapping[str, str] = {
  "noise": "add noise",
  "jpeg": "save it as JPEG",
  "bicubic": "make it smaller",
  "demosaic": "make it a sensor's mosaic",
  "photo": "add the noise and JPEG artifacts of a photograph",
  "motion_blur": "blur it by motion",
  "rain": "add rain",
  "snow": "add snow",
  "raindrop": "add raindrops",
  "haze": "add haze",
  "chain": "apply several degradations",
}
# What a network does, by degradation; noise and JPEG have values.
_TASKS: Mapping[str, str] = {
  "bicubic": "It enlarges pictures that bicubic interpolation made smaller.",
  "demosaic": "It makes a colour picture from a sensor's RGGB mosaic, which is"
  " a gray file.",
  "photo": "It removes sensor noise and JPEG artifacts from photographs.",
  "motion_blur": "It removes motion blur.",
  "rain": "It removes rain.",
  "snow": "It removes snow.",
  "raindrop": "It removes raindrops on the lens.",
  "haze": "It removes haze.",
  "chain": "It undoes several degradations of one picture.",
}


def name_action(degradation: str) -> str:
  """Returns what a degradation does to a picture, in a few words."""
  return _ACTIONS.get(degradation, degradation)


def describe_use(network: LoadedNetwork) -> str:
  """Describes in short sentences what a network is for."""
  known = known_degradations(network)
  sentences = [_describe_task(options) for options in known.values()]
  if not known:
    sentences = ["It learned from pairs of degraded and clean pictures."]
  if not network.takes_mosaics:
    sentences.append(f"It takes {_name_kind(network)} pictures.")
  scale = network.model.scale
  sentences.append(
    f"The result is {scale} times as wide and high."
    if scale > 1
    else "The result has the size of the picture."
  )
  return " ".join(sentences)


def _name_kind(network: LoadedNetwork) -> str:
  """Names the pictures that a network is for."""
  learned = learned_by(network)
  if network.model.in_channels == 1:
    return "gray"
  return "colour and gray" if learned and learned.gray else "colour"


def _describe_task(options: Mapping[str, Any]) -> str:
  name = options["name"]
  match name:
    case "noise":
      sigma = _range(options["sigma_255"])
      if sigma == "0":  # the share of a mixture that stays clean
        return "It keeps clean pictures as they are."
      kind = (
        "as 8-bit files hold it"
        if options.get("stored")
        else "as benchmarks add it: not clipped"
      )
      return f"It removes noise of sigma {sigma} (of 255), {kind}."
    case "jpeg":
      quality = _range(options["quality"])
      return f"It removes JPEG artifacts of quality {quality}."
  return _TASKS.get(name, f"It undoes the degradation {name!r}.")


def _range(value: Any) -> str:
  """Writes a number, or the two ends of a range."""
  low, high = float(np.min(value)), float(np.max(value))
  return f"{low:g} to {high:g}" if low < high else f"{low:g}"
