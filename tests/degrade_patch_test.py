"""Patches equal the degraded whole; mixtures; degradations from a config."""

import itertools
from typing import Any

import ml_collections
import numpy as np
import pytest

from semanir_jax.degradations import (
  Bicubic,
  Degradation,
  Demosaic,
  GaussianNoise,
  Jpeg,
  Mixture,
  degrade_patch,
  make,
  modcrop,
)


class _Fixed:
  """A generator whose uniform draws are all the same."""

  def __init__(self, value: float):
    self._value = value

  def random(self) -> float:
    return self._value


def _rng(seed: int = 0) -> np.random.Generator:
  return np.random.default_rng(seed)


def _random(*shape: int) -> np.ndarray:
  return _rng(7).integers(0, 256, shape, dtype=np.uint8)


def _check_patch(
  rng: Any, image: np.ndarray, degradation: Degradation, *at: int
) -> bool:
  """Whether the patch at (top, left) of side size equals the whole's."""
  top, left, size = at
  whole_lq, whole_hq = degradation(rng, image)
  lq, hq = degrade_patch(
    rng, image, top=top, left=left, size=size, degradation=degradation
  )
  assert hq.flags.owndata and lq.flags.owndata
  target = whole_hq[top : top + size, left : left + size]
  np.testing.assert_array_equal(hq, target)
  top, left, size = (px // degradation.scale for px in at)
  expected = whole_lq[top : top + size, left : left + size]
  assert lq.shape == expected.shape
  return bool(np.array_equal(lq, expected))


@pytest.mark.parametrize(
  "degradation",
  [Bicubic(2), Bicubic(3), Bicubic(4), Bicubic(8, rounding="once"), Demosaic()],
  ids=repr,
)
def test_a_patch_equals_the_patch_of_the_whole(degradation) -> None:
  """At every corner, at the borders and inside; sides that need a modcrop."""
  step = degradation.multiple
  image = _random(21 * step + step - 1, 19 * step + 1, 3)
  size = 4 * step
  tops = [0, step, 7 * step, 16 * step, 17 * step]
  lefts = [0, step, 7 * step, 14 * step, 15 * step]
  for top, left in itertools.product(tops, lefts):
    assert _check_patch(_rng(), image, degradation, top, left, size)


def test_patches_need_their_context() -> None:
  """Else the test above could not fail."""
  for degradation in (Bicubic(2), Bicubic(3), Demosaic()):
    image = _random(96, 96, 3)
    whole, _ = degradation(_rng(), image)
    cut = slice(24, 48)
    alone, _ = degradation(_rng(), image[cut, cut])
    cut = slice(24 // degradation.scale, 48 // degradation.scale)
    assert not np.array_equal(alone, whole[cut, cut])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_patch_equals_the_whole_where_the_grids_meet(
  channels: int,
) -> None:
  image = _random(120, 130, 3)[:, :, :channels]
  # Phase 0: 16 px above, so that rows 32 and 64 of the image start a unit.
  for at in ((32, 64, 25), (64, 32, 16), (32, 32, 17), (32, 32, 32)):
    assert _check_patch(_Fixed(0.0), image, Jpeg(95), *at)
  # Phase 5: 21 px above.
  assert _check_patch(_Fixed(5.5 / 16), image, Jpeg(95), 37, 53, 30)
  # Close to the top left corner the context ends at the image's own grid.
  for at in ((0, 0, 24), (3, 14, 24), (13, 16, 33)):
    assert _check_patch(_rng(), image, Jpeg(95), *at)
  # The bottom right corner: the image ends within the context.
  assert _check_patch(_Fixed(0.0), image, Jpeg(95), 80, 96, 34)
  # Elsewhere the grids do not meet.
  assert not _check_patch(_Fixed(0.0), image, Jpeg(95), 33, 64, 25)


def test_jpeg_grids_lie_at_random() -> None:
  rng = _rng()
  contexts = np.array([Jpeg(10).context(rng) for _ in range(400)])
  for top_or_left in contexts[:, 0], contexts[:, 2]:
    assert set(top_or_left.tolist()) == set(range(16, 32))
  assert np.corrcoef(contexts[:, 0], contexts[:, 2])[0, 1] < 0.2


def test_aligned_jpeg_patches_begin_a_file() -> None:
  """At every place, be it in the middle of a block of the whole picture."""
  image = _random(120, 130, 3)
  for top, left in (0, 0), (5, 37), (88, 98):
    lq, _ = degrade_patch(
      _rng(),
      image,
      top=top,
      left=left,
      size=32,
      degradation=Jpeg(10, aligned=1.0),
    )
    file, _ = Jpeg(10)(_rng(), image[top : top + 48, left : left + 48])
    np.testing.assert_array_equal(lq, file[:32, :32])


def test_the_share_of_aligned_jpeg_patches() -> None:
  rng, half = _rng(), Jpeg(10, aligned=0.5)
  contexts = [half.context(rng) for _ in range(400)]
  assert contexts.count((0, 16, 0, 16)) == pytest.approx(200, abs=40)
  assert all(context[0] >= 16 for context in contexts if context[0])
  # Without any, seeds give the batches that they gave before there was a share.
  rng, same = _rng(), _rng()
  Jpeg(10).context(rng)
  same.random(2)
  assert rng.bit_generator.state == same.bit_generator.state


def test_noise_of_a_patch_has_the_size_of_the_patch() -> None:
  image = _random(40, 50, 3)
  lq, hq = degrade_patch(
    _rng(1), image, top=3, left=5, size=16, degradation=GaussianNoise(25)
  )
  expected, target = GaussianNoise(25)(_rng(1), image[3:19, 5:21])
  np.testing.assert_array_equal(lq, expected)
  np.testing.assert_array_equal(hq, target)


@pytest.mark.parametrize(
  ("top", "left", "size", "message"),
  [
    (2, 0, 8, "multiples of 4"),
    (0, 2, 8, "multiples of 4"),
    (0, 0, 6, "multiples of 4"),
    (0, 0, 0, "0 px"),
    (-4, 0, 8, "leaves the 20x24 image"),
    (16, 0, 8, "leaves the 20x24 image"),
    (0, 20, 8, "skip the image"),
  ],
)
def test_patches_off_the_grid_or_the_image_are_refused(
  top: int, left: int, size: int, message: str
) -> None:
  with pytest.raises(ValueError, match=message):
    degrade_patch(
      _rng(), _random(23, 24, 3), top=top, left=left, size=size,
      degradation=Bicubic(4),
    )  # fmt: skip


def test_modcrop_crops_bottom_and_right() -> None:
  image = _random(11, 9, 3)
  np.testing.assert_array_equal(modcrop(image, 4), image[:8, :8])
  np.testing.assert_array_equal(modcrop(image, 1), image)
  with pytest.raises(ValueError, match=r"\(11, 9, 3\) is smaller than 10 px"):
    modcrop(image, 10)


def test_a_mixture_draws_by_weight() -> None:
  members = (GaussianNoise(15), Jpeg(10), Demosaic(), Jpeg(40))
  mixture, rng = Mixture(members, weights=(0, 3, 1, 0)), _rng()
  assert (mixture.scale, mixture.multiple) == (1, 2)
  drawn = [members.index(mixture.sample(rng)) for _ in range(2000)]
  assert set(drawn) == {1, 2}
  assert np.mean(np.array(drawn) == 1) == pytest.approx(0.75, abs=0.03)
  assert mixture.sample(_Fixed(0.0)) == members[1]
  drawn = [members.index(Mixture(members).sample(rng)) for _ in range(2000)]
  assert np.bincount(drawn) == pytest.approx([500] * 4, abs=60)


def test_a_mixture_applies_the_degradation_it_draws() -> None:
  image = _random(64, 64, 3)
  mixture = Mixture((Demosaic(), GaussianNoise(50)))
  kinds = []
  for seed in range(20):
    where = {"top": 8, "left": 10, "size": 16}
    lq, _ = degrade_patch(_rng(seed), image, degradation=mixture, **where)
    member = mixture.sample(_rng(seed))
    kinds.append(type(member))
    if member == Demosaic():
      expected = Demosaic()(_rng(), image)[0][8:24, 10:26]
      np.testing.assert_array_equal(lq, expected)
    else:
      assert 40 < 255 * np.std(lq - image[8:24, 10:26] / 255) < 60
  assert len(set(kinds)) == 2


def test_make_builds_from_the_words_of_a_config() -> None:
  assert make("noise", sigma_255=[0, 50]) == GaussianNoise((0, 50))
  assert make("bicubic", scale=4) == Bicubic(4)
  assert make("jpeg", quality=10) == Jpeg(10)
  assert make("demosaic") == Demosaic()
  expected = Mixture((GaussianNoise(15), Jpeg((10, 40))), (1, 2))
  members = (
    {"name": "noise", "sigma_255": 15},
    ml_collections.ConfigDict({"name": "jpeg", "quality": (10, 40)}),
  )
  assert make("mixture", degradations=members, weights=[1, 2]) == expected
  assert hash(make("jpeg", quality=[10, 40])) == hash(Jpeg((10, 40)))


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("nose", {}, "'nose'; did you mean 'noise'"),
    (
      "blur",
      {},
      "'blur'; known: noise, bicubic, jpeg, demosaic, photo, motion_blur",
    ),
    ("noise", {"sigma": 5}, "noise has no option 'sigma'.*'sigma_255'"),
    ("noise", {}, "noise needs the option 'sigma_255'"),
    ("noise", {"sigma_255": -1}, "sigma_255=-1 .* between 0.0 and 255.0"),
    ("noise", {"sigma_255": [50, 0]}, "sigma_255"),
    ("noise", {"sigma_255": [1, 2, 3]}, "sigma_255"),
    ("noise", {"sigma_255": "25"}, "sigma_255='25'"),
    ("noise", {"sigma_255": 5, "channel_order": "rbg"}, "'rbg'"),
    ("noise", {"sigma_255": 5, "rounding": "up"}, "rounding='up'.*'down'"),
    ("bicubic", {"scale": 1}, "scale=1 .*2 or more"),
    ("bicubic", {"scale": 2.0}, "scale=2.0"),
    ("bicubic", {"scale": 2, "rounding": "never"}, "rounding='never'"),
    ("jpeg", {"quality": 0}, "quality=0 .* integer"),
    ("jpeg", {"quality": [10, 101]}, "quality"),
    ("jpeg", {"quality": 10.5}, "quality=10.5 .* integer"),
    ("jpeg", {"quality": 10, "aligned": 1.5}, "aligned=1.5 .* 0 and 1"),
    ("noise", {"sigma_255": 25, "stored": -0.5}, "stored=-0.5 .* 0 and 1"),
    ("jpeg", {"quality": 10, "aligned": "all"}, "aligned='all' .* 0 and 1"),
    ("mixture", {"degradations": []}, "empty"),
    ("mixture", {"degradations": [Bicubic(2), Bicubic(4)]}, "one scale"),
    ("mixture", {"degradations": [Mixture((Jpeg(9),))]}, "holds a mixture"),
    ("mixture", {"degradations": [Jpeg(9)], "weights": [1, 1]}, "weights"),
    ("mixture", {"degradations": [Jpeg(9)], "weights": [0]}, "weights"),
    ("mixture", {"degradations": [Jpeg(9)], "weights": [np.nan]}, "weights"),
  ],
)
def test_unfit_options_are_refused(
  name: str, options: dict[str, Any], message: str
) -> None:
  with pytest.raises(ValueError, match=message):
    make(name, **options)
