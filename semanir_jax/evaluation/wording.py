"""Says what was measured in words: protocol, degradation, columns."""

from collections.abc import Mapping
from typing import Any

CHANNELS = {
  "rgb": "all channels",
  "y": "BT.601 Y (not rounded)",
  "y_rounded": "BT.601 Y (rounded)",
}


def measures(protocol: Mapping[str, Any]) -> str:
  """Says how PSNR and SSIM are measured, see `measures.measure`."""
  return (
    f"8 bits; PSNR in dB on {CHANNELS[protocol['channel']]}, crop"
    f" {protocol['crop_px']} px; SSIM {protocol['ssim']}"
  )


def network(protocol: Mapping[str, Any]) -> str:
  """Says which network was measured, and how it was run."""
  plus = ", self-ensemble of 8" if protocol["self_ensemble"] else ""
  return (
    f"{protocol['network']}; k = {protocol['num_keys']}, window"
    f" {protocol['window_size']}{plus}"
  )


def degradation_line(options: Mapping[str, Any]) -> str:
  """Says how the inputs of a set were made."""
  degradation = dict(options["degradation"])
  name = degradation.pop("name", "pairs as they are")
  words = [f"{key} {value}" for key, value in degradation.items()]
  defaults = {"gray": "", "center_crop_px": 0, "crop_multiple": 1, "resize": ""}
  for key, default in defaults.items():
    if options[key] != default:
      words.append(f"{key} {options[key]}")
  return f"{options['source']}: {', '.join([name, *words])}"


def title(key: str) -> str:
  """Names a column, as "input SSIM (zero_pad)", "SemanIR's published SSIM"."""
  key = "published_psnr" if key == "published" else key
  kind = key.removeprefix("input_").removeprefix("published_")
  prefix = key.removesuffix(kind).replace("_", " ")
  prefix = prefix.replace("published", "SemanIR's published")
  metric, _, choice = kind.partition("_")
  if kind == "psnr_b":
    return f"{prefix}PSNR-B"
  return prefix + metric.upper() + (f" ({choice})" if choice else "")


def scores(row: Mapping[str, Any]) -> str:
  """Says PSNR and SSIM of one image or means, the input's in brackets."""
  return (
    f"PSNR {row['psnr']:.2f} dB (input {row['input_psnr']:.2f}), SSIM"
    f" {row['ssim']:.4f} ({row['input_ssim']:.4f})"
  )


def number(key: str, value: float) -> str:
  """Writes two digits of dB, four of SSIM."""
  return f"{value:.{4 if 'ssim' in key else 2}f}"
