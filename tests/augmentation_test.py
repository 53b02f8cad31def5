"""Training pictures smaller, or of stronger colours, than the files."""

import numpy as np
import pytest

from semanir_jax.data import pipeline
from semanir_jax.data.augmentation import Augmentation
from semanir_jax.degradations import GaussianNoise
from semanir_jax.training import data, phases
from tests import small

LUMA = np.array([0.299, 0.587, 0.114])


def _image(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _augmented(image, *, seed=0, smallest=1, **ranges):
  before = image.copy()
  image.flags.writeable = False
  rng = np.random.default_rng(seed)
  changed = Augmentation(**ranges)(rng, image, smallest=smallest)
  np.testing.assert_array_equal(image, before)
  assert changed.dtype == np.uint8 and changed.ndim == 3
  return changed


def test_ranges_of_one_change_and_draw_nothing():
  rng, image = np.random.default_rng(1), _image(9, 12, 3)
  assert Augmentation()(rng, image, smallest=4) is image
  assert rng.bit_generator.state == np.random.default_rng(1).bit_generator.state


@pytest.mark.parametrize("channels", [1, 3])
def test_shrinking_averages_and_does_not_fold_detail(channels):
  rows, columns = np.indices((64, 96))
  ramp = np.repeat((rows + columns)[:, :, None], channels, 2).astype(np.uint8)
  small_ramp = _augmented(ramp, shrink=(2.0, 2.0))
  assert small_ramp.shape == (32, 48, channels)
  rows, columns = np.indices((32, 48))
  centres = (2 * rows + 2 * columns + 1)[2:-2, 2:-2, None]
  assert np.abs(small_ramp[2:-2, 2:-2].astype(int) - centres).max() <= 1
  # Stripes of 3 px, too fine for half the size, become gray; every second pixel
  # of them would be stripes of 3 px again.
  stripes = np.where(np.indices((66, 96))[0] % 3 == 0, 240, 0)
  stripes = np.repeat(stripes[:, :, None], channels, 2).astype(np.uint8)
  assert stripes[::2].std() > 100
  assert _augmented(stripes, shrink=(2.0, 2.0))[2:-2].std() < 30


def test_shrinking_is_uniform_and_leaves_room_for_a_patch():
  image = _image(60, 90, 3)
  rng, augmentation = np.random.default_rng(0), Augmentation(shrink=(1.0, 3.0))
  sides = [augmentation(rng, image, smallest=1).shape[1] for _ in range(1000)]
  factors = 90 / np.array(sides)
  assert 1.0 <= factors.min() < 1.05 and 2.95 < factors.max() <= 3.0
  assert abs(factors.mean() - 2.0) < 0.1
  for smallest, shape in (
    (40, (40, 60, 3)),
    (60, (60, 90, 3)),
    (61, (60, 90, 3)),
  ):
    changed = _augmented(image, smallest=smallest, shrink=(3.0, 3.0))
    assert changed.shape == shape


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.7])
def test_saturation_scales_the_distance_from_luma(factor):
  image = 96 + _image(20, 30, 3) // 8  # nothing leaves the range
  changed = _augmented(image, saturation=(factor, factor)).astype(float)
  luma = image @ LUMA
  expected = luma[:, :, None] + factor * (image - luma[:, :, None])
  assert np.abs(changed - expected).max() <= 0.51
  assert np.abs(changed @ LUMA - luma).max() <= 0.51


def test_colours_beyond_the_range_are_clipped():
  image = np.full((2, 2, 3), (250, 10, 10), np.uint8)
  np.testing.assert_array_equal(
    _augmented(image, saturation=(3.0, 3.0))[0, 0], (255, 0, 0)
  )


def test_saturation_is_drawn_from_its_range():
  image = np.full((1, 1, 3), (120, 100, 100), np.uint8)
  rng, augmentation = np.random.default_rng(0), Augmentation((1, 1), (0, 4))
  reds = [
    int(augmentation(rng, image, smallest=1)[0, 0, 0]) for _ in range(1000)
  ]
  # Luma 106: red lies 14 above it.
  assert min(reds) <= 107 and max(reds) >= 161
  assert abs(np.mean(reds) - (105.98 + 2 * 14.02)) < 2


@pytest.mark.parametrize("channels", [1, 3])
def test_dither_fills_the_gaps_between_levels(channels):
  image = 3 * (_image(60, 50, channels) // 3)
  added = _augmented(image, dither=1).astype(int) - image
  inside = (image > 0) & (image < 255)
  counts = [np.mean(added[inside] == step) for step in (-1, 0, 1)]
  np.testing.assert_allclose(counts, 1 / 3, atol=0.03)
  white = np.full((20, 20, channels), 255, np.uint8)
  assert set(np.unique(_augmented(white, dither=1))) == {254, 255}


def test_dither_comes_before_the_other_changes():
  image = np.full((64, 64, 3), 99, np.uint8)
  assert _augmented(image, dither=9, shrink=(2.0, 2.0)).std() < 4.0
  assert _augmented(image, dither=9).std() > 5.0


def test_the_share_of_graphics_is_flat_and_saturated():
  rng, image = np.random.default_rng(0), 96 + _image(40, 40, 3) // 8
  augmentation = Augmentation(graphics=0.25)
  changed = [augmentation(rng, image, smallest=32) for _ in range(200)]
  drawn = [picture for picture in changed if picture is not image]
  assert 30 <= len(drawn) <= 70
  for picture in drawn:
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
  equal = [np.all(p[:, 1:] == p[:, :-1], axis=2).mean() for p in drawn]
  assert np.mean(equal) > 0.8  # flat, between edges
  assert len({picture.tobytes() for picture in drawn}) == len(drawn)
  ends = [np.mean((p.min(axis=2) == 0) & (p.max(axis=2) == 255)) for p in drawn]
  assert np.mean(ends) > 0.4
  # A ground and 24 shapes, unless mixed along smooth edges.
  smooth = [len(np.unique(p.reshape(-1, 3), axis=0)) > 25 for p in drawn]
  assert 0.3 < np.mean(smooth) < 0.7


@pytest.mark.parametrize(
  ("ranges", "message"),
  [
    ({"shrink": (0.5, 1.0)}, r"data.shrink=\(0.5, 1.0\) .* at least 1"),
    ({"shrink": (2.0, 1.5)}, "the smallest first"),
    ({"shrink": (2.0,)}, "two numbers"),
    ({"shrink": ("a", "b")}, "two numbers"),
    ({"shrink": (1.0, float("inf"))}, "data.shrink"),
    ({"saturation": (-1.0, 1.0)}, "data.saturation=.* at least 0"),
    ({"saturation": (1.0, float("nan"))}, "data.saturation"),
    ({"dither": -1}, "data.dither=-1 .* between 0 and 127"),
    ({"dither": 0.5}, "data.dither=0.5 .* whole number"),
    ({"graphics": 1.5}, "data.graphics=1.5 .* between 0 and 1"),
  ],
)
def test_ranges_that_are_none_are_refused(ranges, message):
  with pytest.raises(ValueError, match=message):
    Augmentation(**ranges)


def _batch(items, *, degradation, augmentation):
  iterator = pipeline.make_train_iterator(
    [small.Images(items)],
    degradation=degradation,
    patch_size=8,
    batch_size=4,
    seed=0,
    augmentation=augmentation,
  )
  batch = next(iterator)
  iterator.close()
  return batch


def test_images_are_changed_before_they_are_degraded():
  gray_of_colours = Augmentation(saturation=(0.0, 0.0))
  batch = _batch(
    [_image(20, 24, 3)],
    degradation=GaussianNoise((0.0, 0.0)),
    augmentation=gray_of_colours,
  )
  np.testing.assert_array_equal(batch["lq"], batch["hq"])
  assert np.ptp(batch["hq"], axis=3).max() <= 1.01 / 255
  assert batch["hq"].std() > 0.1


def test_what_cannot_be_changed_is_refused():
  noise, pair = GaussianNoise((0.0, 0.0)), (_image(16, 16, 3),) * 2
  with pytest.raises(ValueError, match=r"saturation=.* RGB .* 1 channel"):
    _batch(
      [_image(16, 16, 1)],
      degradation=noise,
      augmentation=Augmentation(saturation=(1.0, 2.0)),
    )
  with pytest.raises(ValueError, match=r"graphics=0.5 .* RGB .* 1 channel"):
    _batch(
      [_image(16, 16, 1)],
      degradation=noise,
      augmentation=Augmentation(graphics=0.5),
    )
  for ranges in (
    {"shrink": (1.0, 2.0)},
    {"saturation": (1.0, 2.0)},
    {"dither": 1},
    {"graphics": 0.5},
  ):
    with pytest.raises(ValueError, match="pairs as they are"):
      _batch([pair], degradation=None, augmentation=Augmentation(**ranges))
  _batch([pair], degradation=None, augmentation=Augmentation())
  shrunk = Augmentation(shrink=(1.0, 2.0))
  _batch([_image(16, 16, 1)], degradation=noise, augmentation=shrunk)


def test_configs_choose_the_ranges():
  def hq(**changes):
    config = small.config(data__num_threads=1, **changes)
    sources = [small.Images([_image(40, 40, 3)])]
    iterator = data.make_data(config, sources, phases.make_phases(config, 1)[0])
    batch = next(iterator)["hq"]
    iterator.close()
    return batch

  plain, gray = hq(), hq(data__saturation=(0.0, 0.0))
  assert np.ptp(gray, axis=3).max() <= 1.01 / 255 < np.ptp(plain, axis=3).max()
  assert hq(data__shrink=(2.0, 2.0)).std() < 0.8 * plain.std()
  assert np.any(hq(data__dither=1) != plain)
  graphic = hq(data__graphics=1.0)
  assert np.all(graphic[:, 1:] == graphic[:, :-1], axis=3).mean() > 0.5
