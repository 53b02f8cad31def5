"""Degradations one after another: files in between, contexts that add up."""

from typing import Any

import numpy as np
import pytest

from semanir_jax.degradations import (
  Bicubic,
  Chain,
  Degradation,
  Demosaic,
  GaussianNoise,
  Jpeg,
  Mixture,
  Photo,
  degrade_patch,
  make,
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


def test_each_degrades_the_file_that_the_one_before_has_made() -> None:
  image = _random(40, 50, 3)
  lq, hq = Chain((GaussianNoise(25), Jpeg(30), Jpeg(80)))(
    np.random.RandomState(3), image
  )
  noisy, clean = GaussianNoise(25)(np.random.RandomState(3), image)
  assert noisy.min() < 0 and noisy.max() > 1
  stored = np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8)
  first, _ = Jpeg(30)(_rng(), stored)
  expected, _ = Jpeg(80)(_rng(), np.rint(255 * first).astype(np.uint8))
  np.testing.assert_array_equal(lq, expected)
  np.testing.assert_array_equal(hq, clean)


def test_a_chain_of_one_is_that_one() -> None:
  """Its input is left as it was made, beyond the range of a file."""
  image = _random(24, 30, 3)
  for member in GaussianNoise(50), Bicubic(2), Jpeg(10), Demosaic():
    chain = Chain((member,))
    assert (chain.scale, chain.multiple) == (member.scale, member.multiple)
    for made, expected in zip(
      chain(_rng(1), image), member(_rng(1), image), strict=True
    ):
      np.testing.assert_array_equal(made, expected)
    assert chain.context(_Fixed(0.0)) == tuple(member.context(_Fixed(0.0)))


def test_the_target_is_the_first_ones() -> None:
  image = _random(40, 50, 3)
  soft = Photo(0.0, blur=1.0, blur_px=1.0, deblur=False)
  _, hq = Chain((soft, Jpeg(50)))(_rng(2), image)
  np.testing.assert_array_equal(hq, soft(_rng(2), image)[1])
  _, hq = Chain((Jpeg(50), soft))(_rng(2), image)
  np.testing.assert_array_equal(hq, image.astype(np.float32) / 255)


def test_scales_multiply_and_multiples_are_met_by_every_member() -> None:
  chain = Chain((Jpeg(90), Bicubic(2), Demosaic(), Bicubic(3)))
  assert (chain.scale, chain.multiple) == (6, 12)
  lq, hq = chain(_rng(), _random(59, 40, 3))
  assert lq.shape == (8, 6, 3) and hq.shape == (48, 36, 3)


_CHAINS = [
  Chain((Demosaic(), Bicubic(2))),
  Chain((Bicubic(2), Demosaic())),
  Chain((Bicubic(3), Bicubic(2), Demosaic())),
  Chain((Photo(0.0, blur=1.0, blur_px=1.1), Demosaic(), Demosaic())),
  Chain((Chain((Demosaic(), Demosaic())), Bicubic(2))),
]


def _check_patch(
  rng: Any, image: np.ndarray, degradation: Degradation, *at: int
) -> bool:
  """Whether the patch at (top, left) of side size equals the whole's."""
  top, left, size = at
  whole_lq, whole_hq = degradation(np.random.RandomState(0), image)
  lq, hq = degrade_patch(
    rng, image, top=top, left=left, size=size, degradation=degradation
  )
  target = whole_hq[top : top + size, left : left + size]
  np.testing.assert_array_equal(hq, target)
  top, left, size = (px // degradation.scale for px in at)
  expected = whole_lq[top : top + size, left : left + size]
  assert lq.shape == expected.shape
  return bool(np.array_equal(lq, expected))


@pytest.mark.parametrize("chain", _CHAINS, ids=repr)
def test_a_patch_equals_the_patch_of_the_whole(chain: Chain) -> None:
  step = chain.multiple
  sides = [((150 + px) // step) * step for px in (0, 20)]
  image = _random(sides[0] + step - 1, sides[1] + 1, 3)
  size = 24
  for top in (0, step, 60, sides[0] - size):
    for left in (0, 48, sides[1] - size):
      rng = np.random.RandomState(0)
      assert _check_patch(rng, image, chain, top, left, size)


@pytest.mark.parametrize(
  "chain",
  [
    Chain((Jpeg(30), Demosaic())),
    Chain((Jpeg(30), Jpeg(60))),
    Chain((Jpeg(30), Bicubic(2), Demosaic())),
    Chain((Demosaic(), Jpeg(90))),
  ],
  ids=repr,
)
def test_a_jpeg_in_a_chain_lies_as_the_whole_where_the_grids_meet(
  chain: Chain,
) -> None:
  image = _random(256, 240, 3)
  for value in (0.0, 0.5 / 16, 5.5 / 16, 15.5 / 16):
    above, _, before, _ = chain.context(_Fixed(value))
    for top, left in ((above + 32, before + 48), (above, before), (0, 0)):
      assert _check_patch(_Fixed(value), image, chain, top, left, 32), value


def test_contexts_add_up_and_stay_on_the_grid() -> None:
  rng = _rng()
  for chain in (
    Chain((Jpeg(30), Bicubic(2))),
    Chain((Bicubic(3), Jpeg(30), Demosaic())),
  ):
    contexts = np.array([chain.context(rng) for _ in range(300)])
    assert not np.any(contexts[:, [0, 2]] % chain.multiple)
    assert len(set(contexts[:, 0].tolist())) >= 8  # the grid lies at random
  twice = Chain((Jpeg(30), Jpeg(30))).context(_Fixed(3.5 / 16))
  assert twice == (38, 32, 38, 32)


def test_make_builds_a_chain_from_the_words_of_a_config() -> None:
  members = [{"name": "noise", "sigma_255": [0, 50]}, Jpeg(10), "demosaic"]
  expected = Chain((GaussianNoise((0, 50)), Jpeg(10), Demosaic()))
  assert make("chain", degradations=members) == expected
  assert hash(expected) == hash(make("chain", degradations=members))
  mixture = Mixture((expected, Jpeg(20)))
  lq, hq = degrade_patch(
    _rng(), _random(64, 64, 3), top=8, left=6, size=16, degradation=mixture
  )
  assert lq.shape == hq.shape == (16, 16, 3)


@pytest.mark.parametrize(
  ("members", "message"),
  [
    ([], "degradations is empty; a chain needs at least one"),
    ([Mixture((Jpeg(9), Jpeg(8)))], "'mixture'.* a mixture of chains instead"),
    ([Jpeg(9), {"name": "jpg", "quality": 9}], "'jpg'; did you mean 'jpeg'"),
    ([Jpeg(9), "jpeg"], "jpeg needs the option 'quality'"),
    ([Jpeg(9), 25], "degradations has 25; give a dict with its 'name'"),
    ([{"quality": 9}], "give a dict with its 'name' and options"),
  ],
)
def test_unfit_members_are_refused(members: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message) as refusal:
    make("chain", degradations=members)
  assert "\n" not in str(refusal.value)
