"""Motion blur: its paths, its light, its regions, its patches."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from semanir_jax.degradations import MotionBlur, degrade_patch, make, scene
from tests.scene_cases import check_patches, random_image

# Blur alone.
_BLUR: dict[str, Any] = {
  "regions": 1,
  "lights": 0.0,
  "read_255": 0.0,
  "shot_255": 0.0,
  "jpeg": 0.0,
}


def _rng(seed: int = 0) -> np.random.RandomState:
  return np.random.RandomState(seed)


def _path(rng: Any, length: float, jitter: float) -> np.ndarray:
  """The documented path, step by step."""
  turns = jitter * rng.normal(0.0, 1.0, 64)
  heading, points = 2 * np.pi * rng.random(), [np.zeros(2)]
  for turn in turns:
    heading += turn
    move = length / 64 * np.array([np.sin(heading), np.cos(heading)])
    points.append(points[-1] + move)
  return np.array(points) - points[32]


def _blurred(linear: np.ndarray, points: np.ndarray) -> np.ndarray:
  """The mean of the picture as seen from every point, in float64."""
  grid = np.mgrid[: linear.shape[0], : linear.shape[1]].astype(np.float64)
  planes = [
    np.mean(
      [
        ndimage.map_coordinates(
          linear[:, :, channel],
          grid + point[:, None, None],
          order=1,
          mode="reflect",
        )
        for point in points
      ],
      axis=0,
    )
    for channel in range(linear.shape[2])
  ]
  return np.stack(planes, axis=2)


def _levels(pixels: np.ndarray) -> np.ndarray:
  return np.rint(255 * pixels)


@pytest.mark.parametrize("length", [0.0, 3.3, 21.0])
def test_it_is_the_mean_along_the_path_in_linear_light(length: float) -> None:
  image = random_image(40, 33, 3)
  degradation = MotionBlur(length_px=length, jitter=0.1, **_BLUR)
  lq, hq = degradation(_rng(4), image)
  linear = _blurred((image / 255.0) ** 2.2, _path(_rng(4), length, 0.1))
  expected = 255 * linear ** (1 / 2.2)
  np.testing.assert_allclose(255 * lq, expected, rtol=0, atol=0.51)
  np.testing.assert_array_equal(hq, image.astype(np.float32) / 255)
  if not length:
    np.testing.assert_array_equal(lq, hq)


def test_it_is_pure_and_its_input_is_a_files() -> None:
  degradation = make("motion_blur")
  for channels in (1, 3):
    image = random_image(41, 53, channels)
    before, state = image.copy(), np.random.get_state()[1].copy()
    for seed in range(6):
      lq, hq = degradation(np.random.default_rng(seed), image)
      again, same = degradation(np.random.default_rng(seed), image)
      np.testing.assert_array_equal(lq, again)
      np.testing.assert_array_equal(hq, same)
      assert lq.dtype == hq.dtype == np.float32
      assert lq.shape == hq.shape == image.shape
      np.testing.assert_allclose(255 * lq, _levels(lq), atol=1e-4)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
  assert hash(degradation) == hash(make("motion_blur"))


def _traces(**options: Any) -> list[np.ndarray]:
  """Linear light of a point, blurred with 40 seeds, `[81, 81]`."""
  image = np.zeros((81, 81, 1), np.uint8)
  image[40, 40] = 255
  degradation = MotionBlur(**(_BLUR | options))
  return [degradation(_rng(s), image)[0][:, :, 0] ** 2.2 for s in range(40)]


def test_paths_are_as_long_as_they_say_and_nearly_straight() -> None:
  y, x = np.mgrid[-40:41, -40:41]
  for trace in _traces(length_px=30.0, jitter=(0.02, 0.08)):
    seen = trace > 0
    assert np.hypot(y[seen], x[seen]).max() <= 15 + 1.5  # half, and a pixel
    spread = np.cov(np.stack([y[seen], x[seen]]), aweights=trace[seen])
    across, along = np.sqrt(np.linalg.eigvalsh(spread))
    # Of a straight line of 30 px: 30 / sqrt(12) = 8.7.
    assert 6.5 < along < 9.2 and across < 0.35 * along
  longest = max(int((t.max(axis=1) > 0).sum()) for t in _traces(length_px=64.0))
  assert 45 < longest <= 65


def test_headings_are_even_and_the_middle_is_the_targets_moment() -> None:
  y, x = np.mgrid[-40:41, -40:41]
  headings = []
  for trace in _traces(length_px=30.0, jitter=0.0):
    middle = np.array([(trace * y).sum(), (trace * x).sum()]) / trace.sum()
    np.testing.assert_allclose(middle, 0.0, atol=0.3)
    far = np.argmax(np.hypot(y, x) * (trace > 0))
    headings.append(np.arctan2(y.flat[far], x.flat[far]) % np.pi)
  counts, _ = np.histogram(headings, 4, (0, np.pi))
  assert counts.min() >= 2


def test_a_flat_picture_stays_flat_whatever_the_regions() -> None:
  options = _BLUR | {"regions": 5, "lights": 1.0, "light": 4.0}
  for level, seed in itertools.product((0, 77, 240, 255), range(4)):
    image = np.full((60, 50, 3), level, np.uint8)
    lq, hq = MotionBlur(**options)(_rng(seed), image)
    if level < 0.9 * 255:
      np.testing.assert_allclose(lq, hq, atol=1e-6)
    else:
      assert np.ptp(lq) == 0 and lq.min() >= hq.max()


def test_a_region_has_a_path_of_its_own(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  """Its share falls linearly from left to right here."""
  image = random_image(48, 48, 3)

  def ramp(rng: Any, where: scene.Scene, **options: Any) -> np.ndarray:
    del rng, options
    y, x = where.grid()
    return 0.0 * y + np.clip(1 - (x - where.left) / 40.0, 0.0, 1.0)

  monkeypatch.setattr(scene, "draw_blob", ramp)
  monkeypatch.setattr(
    scene, "place", lambda rng, shape: scene.Scene(480, 720, 40, 80, *shape[:2])
  )
  options = _BLUR | {"length_px": 20.0, "jitter": 0.05, "regions": 2}
  lq, _ = MotionBlur(**options)(_rng(2), image)
  rng = _rng(2)
  linear = (image / 255.0) ** 2.2
  first, second = (_blurred(linear, _path(rng, 20.0, 0.05)) for _ in range(2))
  share = np.clip(1 - np.arange(48) / 40.0, 0.0, 1.0)[None, :, None]
  mixed = (1 - share) * first + share * second
  np.testing.assert_allclose(255 * lq, 255 * mixed ** (1 / 2.2), atol=0.51)


def test_the_number_of_regions_is_drawn_with_both_ends(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  drawn = []

  def nowhere(rng: Any, where: scene.Scene, **options: Any) -> np.ndarray:
    drawn[-1] += 1
    assert 8.0 <= options["border_px"] <= 32.0
    return np.zeros(np.broadcast_shapes(*(g.shape for g in where.grid())))

  monkeypatch.setattr(scene, "draw_blob", nowhere)
  image = random_image(8, 8, 1)
  for seed in range(150):
    drawn.append(1)
    MotionBlur(**(_BLUR | {"regions": (1, 5)}))(_rng(seed), image)
  assert np.bincount(drawn)[1:] == pytest.approx([30] * 5, abs=17)


def test_clipped_lights_leave_brighter_traces() -> None:
  image = np.zeros((61, 61, 1), np.uint8)
  image[29:32, 29:32] = 255
  options = _BLUR | {"length_px": 30.0, "jitter": 0.0}
  plain, _ = MotionBlur(**options)(_rng(1), image)
  lit, _ = MotionBlur(**(options | {"lights": 1.0, "light": 4.0}))(
    _rng(1), image
  )
  trace = (plain > 0.05) & (lit < 1)
  ratio = (lit[trace] / plain[trace]) ** 2.2
  np.testing.assert_allclose(np.median(ratio), 4.0, rtol=0.05)
  image[image > 0] = 229  # below 0.9: not clipped
  same, _ = MotionBlur(**(options | {"lights": 1.0, "light": 4.0}))(
    _rng(1), image
  )
  np.testing.assert_array_equal(same, MotionBlur(**options)(_rng(1), image)[0])


def test_noise_comes_after_the_blur() -> None:
  for level in (40, 128, 200):
    image = np.full((128, 128, 3), level, np.uint8)
    options = _BLUR | {"read_255": 5.0, "shot_255": 20.0}
    lq, hq = MotionBlur(**options)(_rng(), image)
    expected = np.sqrt(5.0**2 + 20.0**2 * level / 255)
    assert 255 * np.std(lq - hq) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("regions", [1, 5])
def test_a_patch_equals_the_patch_of_the_whole(
  monkeypatch: pytest.MonkeyPatch, regions: int
) -> None:
  options = _BLUR | {"regions": regions, "lights": 1.0, "length_px": (30.0, 40)}
  check_patches(monkeypatch, MotionBlur(**options), random_image(150, 160, 3))


def test_patches_need_their_context() -> None:
  """Else the test above could not fail."""
  image = random_image(112, 112, 3)
  degradation = MotionBlur(**(_BLUR | {"length_px": 30.0}))
  whole, _ = degradation(_rng(), image)
  alone, _ = degradation(_rng(), image[40:72, 40:72])
  assert not np.array_equal(alone, whole[40:72, 40:72])


def test_the_grid_of_jpeg_lies_at_random() -> None:
  degradation, rng = MotionBlur(length_px=(2.0, 25.0)), _rng()
  contexts = np.array([degradation.context(rng) for _ in range(300)])
  for top_or_left in contexts[:, 0], contexts[:, 2]:
    assert set(top_or_left.tolist()) == set(range(29, 45))
  assert np.all(contexts[:, [1, 3]] == 29)
  assert MotionBlur(**_BLUR).context(rng) == (13, 13, 13, 13)
  lq, hq = degrade_patch(
    rng, random_image(90, 90, 3), top=9, left=30, size=32,
    degradation=degradation,
  )  # fmt: skip
  assert lq.shape == hq.shape == (32, 32, 3)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"length_px": 65}, "length_px=65 .* between 0.0 and 64.0"),
    ({"length_px": (9, 3)}, "length_px"),
    ({"jitter": -0.1}, "jitter=-0.1"),
    ({"regions": 0}, "regions=0 .* integer between 1 and 5"),
    ({"regions": 1.5}, "regions=1.5 .* integer"),
    ({"border_px": 1}, "border_px=1 .* between 4.0"),
    ({"lights": 2}, "lights=2 .* share of the images"),
    ({"light": 0.5}, "light=0.5 .* between 1.0"),
    ({"read_255": (0, 4)}, "read_255=.* no logarithm to draw at 0"),
    ({"shot_255": 51}, "shot_255=51 .* 50.0"),
    ({"jpeg": "no"}, "jpeg='no'"),
    ({"quality": 101}, "quality=101"),
    ({"length": 9}, "no option 'length'; did you mean 'length_px'"),
  ],
)
def test_unfit_options_are_refused(
  options: dict[str, Any], message: str
) -> None:
  with pytest.raises(ValueError, match=message) as refusal:
    make("motion_blur", **options)
  assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
  "image", [np.zeros((8, 8, 3)), random_image(8, 8, 4)], ids=["float", "alpha"]
)
def test_unfit_images_are_refused(image: np.ndarray) -> None:
  with pytest.raises(ValueError, match="uint8 image"):
    MotionBlur()(_rng(), image)
