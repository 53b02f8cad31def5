"""Networks as StableHLO programs, for use without Flax and this package."""
