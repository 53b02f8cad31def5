"""Flicker against float64 and against what it must be."""

import numpy as np
import pytest

from semanir_jax.films import flicker
from semanir_jax.films.flicker import FlickerMeter


def _reference(judges, versions) -> dict[str, float]:
  """The formula of the module's docstring, block by block in float64."""
  sums = dict.fromkeys(versions, 0.0)
  count = 0
  for t in range(1, len(judges)):
    before, after = (judges[i].astype(np.float64) for i in (t - 1, t))
    height, width = after.shape
    haar = [
      abs(after[y, x] - after[y, x + 1] - after[y + 1, x] + after[y + 1, x + 1])
      / 2
      for y in range(0, height - 1, 2)
      for x in range(0, width - 1, 2)
    ]
    sigma = np.median(haar) / 0.6745
    for top in range(0, height - 15, 16):
      for left in range(0, width - 15, 16):
        change = (after - before)[top : top + 16, left : left + 16]
        means = [
          change[y : y + 4, x : x + 4].mean()
          for y in range(0, 16, 4)
          for x in range(0, 16, 4)
        ]
        if max(map(abs, means)) > 3 * np.sqrt(2) * sigma / 4 + 2:
          continue
        count += 1
        for name, frames in versions.items():
          scale = frames[0].shape[0] // height
          rows = slice(top * scale, (top + 16) * scale)
          columns = slice(left * scale, (left + 16) * scale)
          new, old = (
            frames[i][rows, columns].astype(np.float64) for i in (t, t - 1)
          )
          sums[name] += np.abs(new - old).mean()
  return {name: total / count for name, total in sums.items()}


def _measure(judges, **versions) -> FlickerMeter:
  meter = FlickerMeter()
  for i, judge in enumerate(judges):
    meter.add(judge, **{name: frames[i] for name, frames in versions.items()})
  return meter


def _scene(rng, count: int, sigma: float) -> list[np.ndarray]:
  """A still picture with noise, in which a square moves; odd sides."""
  y, x = np.mgrid[0:70, 0:99]
  still = 120 + 40 * np.sin(x / 5) * np.cos(y / 7)
  frames = []
  for i in range(count):
    frame = still.copy()
    frame[20:40, 10 + 8 * i : 30 + 8 * i] = 240
    noisy = frame + rng.normal(0, sigma, frame.shape)
    frames.append(noisy.astype(np.float32))
  return frames


def test_it_is_the_formula():
  rng = np.random.default_rng(0)
  judges = _scene(rng, 5, 6.0)
  versions = {
    "same": judges,
    "less": _scene(rng, 5, 2.0),
    "large": [f.repeat(2, 0).repeat(2, 1) for f in _scene(rng, 5, 3.0)],
  }
  meter = _measure(judges, **versions)
  found, expected = meter.flicker(), _reference(judges, versions)
  assert 0.5 < meter.share < 1  # blocks that the square crosses are left out
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("sigma", [2.0, 25.0])
def test_noise_on_a_still_picture_flickers_by_its_sigma(sigma):
  rng = np.random.default_rng(1)
  still = rng.uniform(0, 255, (64, 64)).repeat(4, 0).repeat(4, 1)
  frames = [still + rng.normal(0, sigma, still.shape) for _ in range(4)]
  meter = _measure(frames, noisy=frames, still=[still] * 4)
  flicker_of = meter.flicker()
  assert flicker_of["noisy"] == pytest.approx(
    2 * sigma / np.sqrt(np.pi), rel=0.03
  )
  assert flicker_of["still"] == 0
  assert meter.share > 0.9


def test_what_moves_and_cuts_are_not_flicker():
  rng = np.random.default_rng(2)
  wall = rng.uniform(0, 255, (40, 200)).repeat(4, 0).repeat(4, 1)
  pan = [wall[:, 4 * i : 4 * i + 256] for i in range(4)]
  cut = [wall[:, :256], wall[:, 300:556]]
  for frames in (pan, cut):
    meter = _measure(frames, film=frames)
    assert meter.flicker() == {} and meter.share == 0
  # A cut between two still scenes counts for nothing.
  frames = [wall[:, :256]] * 3 + [wall[:, 300:556]] * 3
  meter = _measure(frames, film=frames)
  assert meter.flicker() == {"film": 0.0}
  assert meter.share == pytest.approx(4 / 5)


def test_a_frame_tells_its_own():
  still = np.zeros((32, 32), np.float32)
  meter = FlickerMeter()
  assert meter.add(still, a=still) == {}
  assert meter.add(still, a=still + 3) == {"a": 3}
  assert meter.add(still, a=still + 1) == {"a": 2}
  assert meter.add(still + 99, a=still) == {}
  assert meter.flicker() == {"a": 2.5}


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (15, 15), (17, 3)])
def test_films_smaller_than_a_block_have_none(shape):
  frame = np.zeros(shape, np.float32)
  assert _measure([frame] * 3, a=[frame] * 3).flicker() == {}


def test_noise_is_not_taken_from_edges_and_ramps():
  y, x = np.mgrid[0:64, 0:64]
  ramp = (2 * x + y).astype(np.float32)
  ramp[:, 32:] += 100
  assert flicker.noise_sigma(ramp) == 0
  noisy = ramp + np.random.default_rng(0).normal(0, 5, ramp.shape)
  assert flicker.noise_sigma(noisy) == pytest.approx(5, rel=0.06)
