"""Test sets of the literature: where they lie, and how large they are."""

from collections.abc import Mapping

# Folder below the data folder, and number of images; see docs/data.md.
BENCHMARKS: Mapping[str, tuple[str, int]] = {
  "set5": ("set5/hr", 5),
  "set14": ("set14", 14),
  "bsd100": ("bsd100", 100),
  "urban100": ("urban100", 100),
  "manga109": ("manga109", 109),
  "set12": ("set12", 12),
  "bsd68": ("cbsd68", 68),  # made gray
  "cbsd68": ("cbsd68", 68),
  "kodak24": ("kodak24", 24),
  "mcmaster": ("mcmaster", 18),
  "classic5": ("classic5", 5),
  "live1": ("live1", 29),
  "bsds500": ("bsds500/test", 200),
  "gopro": ("gopro/test", 1111),
  "hide": ("hide/test", 2025),
  "realblur_j": ("realblur_j/test", 980),
  "realblur_r": ("realblur_r/test", 980),
  "test1": ("outdoor_rain/test1", 750),
  "snow100k_l": ("snow100k/test_l", 16_801),
  "raindrop": ("raindrop/test_a", 58),
  # A few pairs beside the benchmarks they are of, not the benchmarks.
  "gopro_samples": ("gopro_samples", 4),
  "reds_samples": ("reds_samples", 12),
  "outdoor_rain_samples": ("outdoor_rain_samples", 4),
  "rain200l_samples": ("rain200l_samples", 3),
  "raindrop_samples": ("raindrop_samples", 4),
}
