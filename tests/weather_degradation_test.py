"""Rain, snow, raindrops and haze against plain forms; the maps of a scene."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from semanir_jax.degradations import (
  Haze,
  Rain,
  Raindrop,
  Snow,
  make,
  raindrop,
  scene,
)
from tests.scene_cases import check_patches, random_image

_NAMES = ("rain", "snow", "raindrop", "haze")


def _rng(seed: int = 0) -> np.random.RandomState:
  return np.random.RandomState(seed)


def _flat(level: int, *shape: int) -> np.ndarray:
  return np.full((*shape, 3), level, np.uint8)


@pytest.mark.parametrize("name", _NAMES)
def test_it_is_pure_and_its_input_is_a_files(name: str) -> None:
  degradation = make(name)
  changed = 0
  for channels in (1, 3):
    image = random_image(61, 53, channels)
    before, state = image.copy(), np.random.get_state()[1].copy()
    for seed in range(4):
      lq, hq = degradation(np.random.default_rng(seed), image)
      again, same = degradation(np.random.default_rng(seed), image)
      np.testing.assert_array_equal(lq, again)
      np.testing.assert_array_equal(hq, same)
      np.testing.assert_array_equal(hq, image.astype(np.float32) / 255)
      assert lq.dtype == hq.dtype == np.float32
      assert lq.shape == hq.shape == image.shape
      assert lq.min() >= 0 and lq.max() <= 1
      np.testing.assert_allclose(255 * lq, np.rint(255 * lq), atol=1e-4)
      changed += not np.array_equal(lq, hq)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
  assert changed >= 7  # a window may have no drop
  assert hash(degradation) == hash(make(name))


@pytest.mark.parametrize(
  "degradation",
  [
    Rain(streaks=0.0),
    Rain(streaks=0.0, blur=0.0),
    Haze(),
    Raindrop(radius_px=(3.0, 9.0), view_px=20.0, blur_px=1.5, drops=1500),
    Raindrop(radius_px=12.0, view_px=30.0, blur_px=0.0, drops=900, glare=0.0),
    Raindrop(radius_px=8.0, view_px=9.0, blur_px=5.0, drops=900, glare=0.0),
  ],
  ids=repr,
)
def test_a_patch_equals_the_patch_of_the_whole(
  monkeypatch: pytest.MonkeyPatch, degradation: Any
) -> None:
  check_patches(monkeypatch, degradation, random_image(150, 160, 3))


def test_patches_need_their_context(monkeypatch: pytest.MonkeyPatch) -> None:
  """Else the test above could not fail."""
  image, cut = random_image(112, 112, 3), slice(40, 72)
  for degradation in (
    Rain(streaks=0.0, veil=0.0),
    Raindrop(radius_px=12.0, drops=900, glare=0.0),
  ):
    places = iter([(480, 720, 0, 0, 112, 112), (480, 720, 40, 40, 32, 32)])
    monkeypatch.setattr(
      scene, "place", lambda rng, shape, at=places: scene.Scene(*next(at))
    )
    whole, _ = degradation(_rng(), image)
    if isinstance(degradation, Rain):
      alone, _ = degradation(_rng(), image[cut, cut])
    else:
      next_place = scene.Scene(*next(places))
      monkeypatch.setattr(scene, "place", lambda rng, shape, at=next_place: at)
      alone, _ = degradation(_rng(), image[cut, cut])
    assert not np.array_equal(alone, whole[cut, cut])


def test_an_image_is_a_window_of_a_scene_anywhere() -> None:
  tops, lefts = [], []
  for seed in range(200):
    where = scene.place(_rng(seed), (100, 120, 3))
    assert (where.height, where.width) == (480, 720)
    assert (where.rows, where.columns) == (100, 120)
    tops.append(where.top)
    lefts.append(where.left)
  assert 0 <= min(tops) < 20 and 360 < max(tops) <= 380
  assert 0 <= min(lefts) < 30 and 570 < max(lefts) <= 600
  whole = scene.place(_rng(), (500, 1000, 3))
  assert whole == scene.Scene(500, 1000, 0, 0, 500, 1000)
  states = []
  for shape in (100, 120, 3), (500, 1000, 3):  # what follows is the same
    rng = _rng()
    scene.place(rng, shape)
    states.append(rng.random())
  assert states[0] == states[1]


def test_a_view_interpolates_linearly() -> None:
  where = scene.Scene(61, 87, 7, 11, 30, 41)
  y, x = where.grid()
  samples = _rng().normal(size=(y.size, x.size))
  rows, columns = np.mgrid[7:37, 11:52] / 4.0
  expected = ndimage.map_coordinates(samples, [rows, columns], order=1)
  view = where.view(samples)
  assert view.dtype == np.float32
  np.testing.assert_allclose(view[:, :, 0], expected, atol=1e-6)


def test_maps_are_smooth_and_within_their_range() -> None:
  for seed in range(20):
    where = scene.place(_rng(seed), (64, 64, 3))
    noise = scene.draw_noise(_rng(seed), where, 4)
    near = scene.draw_nearness(_rng(seed), where)
    blob = scene.draw_blob(_rng(seed), where, share=(0.2, 0.4), border_px=20.0)
    for field in noise, near, blob:
      assert field.min() >= 0 and field.max() <= 1
      steps = [np.abs(np.diff(field, axis=axis)).max() for axis in (0, 1)]
      assert max(steps) < 0.5
    assert blob.max() == 1 and blob.min() == 0
    lattice = _rng(seed).uniform(0.0, 1.0, (5, 5))
    np.testing.assert_allclose(noise[0, 0], lattice[0, 0])
    np.testing.assert_allclose(noise[-1, -1], lattice[-1, -1])
  means = [
    scene.draw_nearness(_rng(s), scene.place(_rng(s), (9, 9))).mean(axis=1)
    for s in range(40)
  ]
  rows = np.mean(means, axis=0)  # the lower, the nearer
  assert rows[-1] - rows[0] > 0.3


@pytest.mark.parametrize("beta", [0.0, 1.7])
def test_haze_is_the_formula(
  monkeypatch: pytest.MonkeyPatch, beta: float
) -> None:
  image = random_image(48, 48, 3)

  def ramp(rng: Any, where: scene.Scene) -> np.ndarray:
    del rng
    y, x = where.grid()
    return 0.0 * x + np.clip(y / 40.0, 0.0, 1.0)

  monkeypatch.setattr(scene, "draw_nearness", ramp)
  monkeypatch.setattr(
    scene, "place", lambda rng, shape: scene.Scene(480, 720, 0, 0, *shape[:2])
  )
  lq, hq = Haze(beta=beta, air=0.8)(_rng(), image)
  near = np.clip(np.arange(48) / 40.0, 0.0, 1.0)[:, None, None]
  t = np.exp(-beta * np.minimum(1 - near, 0.7))
  expected = image * t + 255 * 0.8 * (1 - t)
  # Linear between samples 4 px apart, over the kink of `min` too.
  np.testing.assert_allclose(255 * lq, expected, atol=1.3)
  veiled, _ = Rain(blur=0.0, streaks=0.0, beta=beta, air=0.3)(_rng(), image)
  t = np.exp(-beta * 0.1 / (near + 0.1))
  expected = image * t + 255 * 0.3 * (1 - t)
  inner = slice(12, None)  # where exp is nearly linear between the samples
  np.testing.assert_allclose(255 * veiled[inner], expected[inner], atol=1.5)
  if not beta:
    np.testing.assert_array_equal(lq, hq)
    np.testing.assert_array_equal(veiled, hq)


def _streaks(length: int, degrees: int) -> np.ndarray:
  """Rain on black, `[96, 90]`, of fixed options."""
  degradation = Rain(
    blur=0.0, veil=0.0, length_px=length, angles=float(degrees), strength=0.5
  )
  return degradation(_rng(3), _flat(0, 96, 90))[0][:, :, 0]


@pytest.mark.parametrize("degrees", [80, 100])
def test_streaks_are_the_generators(degrees: int) -> None:
  rng, length = _rng(3), 25
  mean = rng.uniform(-1.0, -0.8)
  sigma = np.sqrt(rng.uniform(0.7, 1.0))
  zoom = rng.uniform(1.01, 1.21)
  rng.random(2)  # the length and the angle, of one each
  gain = 0.5 * (0.2 + 0.04 * length + 0.05 * rng.random())
  # The line, drawn one point after the other.
  angle, taps = np.deg2rad(degrees), np.zeros((27, 27))
  points = np.linspace(-length / 2, length / 2, 4 * length + 1)
  for along in points:
    row, column = 13 - along * np.sin(angle), 13 + along * np.cos(angle)
    for r in (int(row), int(row) + 1):
      for c in (int(column), int(column) + 1):
        if max(r, c) < 27:
          weight = (1 - abs(row - r)) * (1 - abs(column - c))
          taps[r, c] += weight / len(points)
  noise = np.clip(rng.normal(mean, sigma, (96 + 26, 90 + 26)), 0.0, 1.0)
  sides = round(zoom * 122), round(zoom * 116)
  large = np.asarray(
    Image.fromarray(noise.astype(np.float32)).resize(
      sides[::-1], Image.Resampling.BICUBIC
    )
  )
  top, left = (
    int(rng.random() * (sides[0] - 121)),
    int(rng.random() * (sides[1] - 115)),
  )
  window = large[top : top + 122, left : left + 116].astype(np.float64)
  spread = ndimage.correlate(window, taps)[13:-13, 13:-13]
  expected = np.minimum(gain * np.maximum(spread, 0.0), 1.0)
  np.testing.assert_allclose(_streaks(length, degrees), expected, atol=2.1e-3)


def test_streaks_run_along_their_angle() -> None:
  for degrees, right in ((60, 5), (90, 0), (120, -5)):
    rain = _streaks(30, degrees)
    rain = rain - rain.mean()
    # 9 px up is so many px to the right.
    alike = {
      shift: float(
        (rain[9:, 10:-10] * np.roll(rain, -shift, 1)[:-9, 10:-10]).sum()
      )
      for shift in (-5, 0, 5)
    }
    assert max(alike, key=lambda shift: alike[shift]) == right


def test_steps_of_rain_can_be_left_out() -> None:
  image = random_image(40, 44, 3)
  off = {"blur": 0.0, "streaks": 0.0, "veil": 0.0}
  lq, hq = Rain(**off)(_rng(), image)
  np.testing.assert_array_equal(lq, hq)
  blurred, _ = Rain(**(off | {"blur": 1.0}))(_rng(2), image)
  sigma = min(1.0, abs(_rng(2).normal(0.5, 0.5)))
  expected = ndimage.gaussian_filter(
    image.astype(np.float64), (sigma, sigma, 0), truncate=4.0
  )
  np.testing.assert_allclose(255 * blurred, expected, atol=0.6)
  streaked, _ = Rain(**(off | {"streaks": 1.0}))(_rng(), image)
  assert np.all(streaked >= hq) and np.mean(streaked > hq) > 0.5
  weak, _ = Rain(**(off | {"streaks": 1.0, "strength": 0.1}))(_rng(), image)
  assert np.all(weak <= streaked)
  shares = [
    np.array_equal(*Rain(**(off | {"veil": 0.3}))(_rng(seed), image[:8, :8]))
    for seed in range(200)
  ]
  assert 120 <= sum(shares) <= 160


def test_snow_is_laid_over_the_image_by_its_mask() -> None:
  image = random_image(40, 44, 3)
  snow = Snow(white=0.9)
  lq, _ = snow(_rng(3), image)
  mask = snow.draw_mask(_rng(3), image.shape)
  expected = image * (1.0 - mask) + 255 * 0.9 * mask
  np.testing.assert_allclose(255 * lq, expected, atol=0.51)


@pytest.mark.parametrize("coverage", [0.02, 0.106, 0.245])
def test_the_mean_of_a_mask_is_its_coverage(coverage: float) -> None:
  snow = Snow(coverage=coverage, radius_px=(0.8, 5.0))
  masks = [snow.draw_mask(_rng(seed), (90, 100, 3)) for seed in range(12)]
  assert np.mean(masks) == pytest.approx(coverage, rel=0.1)
  for mask in masks:
    assert mask.shape == (90, 100, 1) and mask.min() >= 0 and mask.max() <= 1


def test_flakes_are_as_dense_at_the_border_as_within() -> None:
  snow = Snow(coverage=0.3, radius_px=5.0, fall=0.0, layers=1)
  masks = [snow.draw_mask(_rng(seed), (24, 30, 3)) for seed in range(200)]
  mean = np.mean(masks, axis=0)[:, :, 0]
  for edge in (mean[0], mean[-1], mean[:, 0], mean[:, -1]):
    assert edge.mean() == pytest.approx(0.3, rel=0.15)


def test_larger_flakes_are_fainter() -> None:
  snow = Snow(radius_px=(1.0, 16.0), opacity=0.8)
  sizes = []
  for seed in range(12):
    flakes = snow._flakes(_rng(seed), 90.0)
    peaks = [float(flake.max()) for flake in flakes]
    np.testing.assert_allclose(peaks, peaks[0], rtol=1e-6)
    size = (0.8 / peaks[0]) ** 2  # by the documented root
    sizes.append(size)
    areas = [(flake > 0.5 * peaks[0]).sum() for flake in flakes]
    assert 0.5 * size**2 < np.mean(areas) < 30 * size**2 + 30
  assert 1 <= min(sizes) < 3 and 8 < max(sizes) <= 16.01


@pytest.mark.parametrize(("angle", "vertical"), [(90.0, True), (0.0, False)])
def test_flakes_are_spread_along_their_fall(
  angle: float, vertical: bool
) -> None:
  snow = Snow(coverage=0.05, radius_px=1.0, fall=9.0, angle=angle, layers=1)
  mask = snow.draw_mask(_rng(), (80, 80, 3))[:, :, 0]
  down, right = (
    float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    for a, b in ((mask[4:], mask[:-4]), (mask[:, 4:], mask[:, :-4]))
  )
  assert (down > right + 0.2) == vertical


def _one_drop(image: np.ndarray, **options: Any) -> np.ndarray:
  """A picture with a drop of 20 px and nothing else, in its middle."""
  degradation = Raindrop(
    **{
      "drops": 1,
      "radius_px": 20.0,
      "view_px": 40.0,
      "blur_px": 0.0,
      "soft": 0.3,
      "opacity": 1.0,
      "rim": 0.0,
      "brightness": 1.0,
      "sky": 0.8,
      "share": 0.0,
      "glare": 0.0,
    }
    | options
  )
  return degradation(_rng(), image)[0]


@pytest.fixture
def in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
  """The only drop has seed 0 and lies at (60, 70); it is a circle."""
  # All options are fixed: the first numbers are the drop's place.
  place = _rng().random_sample(2) * [480, 720]
  row, column = place.astype(int)
  monkeypatch.setattr(
    scene,
    "place",
    lambda rng, shape: scene.Scene(480, 720, row - 60, column - 70, *shape[:2]),
  )
  monkeypatch.setattr(
    scene, "outline", lambda rng, angle, wobble: np.ones_like(angle)
  )
  monkeypatch.setattr(
    scene, "turn", lambda y, x, radii, angle: (np.hypot(y, x) / 20, y * 0 + x)
  )


@pytest.mark.usefixtures("in_the_middle")
def test_a_drop_is_its_formula() -> None:
  image = random_image(130, 150, 3)
  image = ndimage.uniform_filter(image, (9, 9, 1))
  options = {"rim": 0.4, "share": 0.5, "sky": 0.8, "glare": 0.1}
  lq = _one_drop(image, soft=0.5, opacity=0.9, **options)
  # g and s of the drop: the numbers after the radii and the angle of its form.
  rng = _rng()
  rng.random(2)
  form = _rng(int(rng.random() * 2**31))
  form.uniform(0.85, 1.0, 2), form.random()
  g, s = form.uniform(0.8, 1.2), 0.5 * form.uniform(0.8, 1.2)
  clean = image / 255.0
  for row, column in ((60, 70), (52, 70), (70, 62), (64, 84), (78, 70), (9, 9)):
    u = np.array([row - 60, column - 70]) / 20
    size = np.hypot(*u)
    glared = 0.9 * clean[row, column] + 0.1 * 0.8
    if size >= 1:
      np.testing.assert_allclose(lq[row, column], glared, atol=2.1e-3)
      continue
    at = np.array([60, 70]) - 40 * (0.6 + 0.4 * size**2) * u
    seen = np.array(
      [
        ndimage.map_coordinates(clean[:, :, c], at[:, None], order=1)[0]
        for c in range(3)
      ]
    )
    light = ((1 - s) * g * seen + s * 0.8) * (1 - 0.4 * size**4)
    rise = np.clip((1 - size) / 0.5, 0, 1)
    alpha = 0.9 * (3 * rise**2 - 2 * rise**3)
    expected = (1 - alpha) * glared + alpha * np.minimum(light, 1.0)
    np.testing.assert_allclose(lq[row, column], expected, atol=2.1e-3)


@pytest.mark.usefixtures("in_the_middle")
def test_what_a_drop_shows_is_smoothed_by_its_deviation() -> None:
  """It is shrunk before, by 4: the smoothing is within some levels."""
  image = ndimage.uniform_filter(random_image(200, 200, 3), (3, 3, 1))
  image[:, :70] //= 3
  options = {"soft": 0.01, "view_px": 30.0}
  smooth = ndimage.gaussian_filter(image.astype(float), (8.0, 8.0, 0))
  found = 255 * _one_drop(image, blur_px=8.0, **options)
  expected = 255 * _one_drop(np.rint(smooth).astype(np.uint8), **options)
  y, x = np.mgrid[-60:140, -70:130]
  inside = np.hypot(y, x) < 18
  error = (found - expected)[inside]
  assert np.std(expected[inside]) > 20
  assert np.abs(error.mean()) < 0.5 and np.std(error) < 3


@pytest.mark.usefixtures("in_the_middle")
def test_a_drop_shows_its_surroundings_upside_down() -> None:
  image = _flat(60, 130, 150)
  image[:60] = 180  # the sky
  lq = 255 * _one_drop(image)
  above, below = lq[50, 70].mean(), lq[70, 70].mean()
  assert below > 2 * above


def test_drops_that_touch_run_together() -> None:
  for drops, radius_px in ((200, (5.0, 50.0)), (800, (3.0, 12.0)), (0, 9.0)):
    wet = Raindrop(drops=drops, radius_px=radius_px)
    found = wet._draw_drops(_rng(), scene.place(_rng(), (480, 720, 3)))
    places, radii = found[:, :2], found[:, 2]
    assert len(found) <= drops and (not drops or len(found) > 10)
    for i in range(len(found)):
      apart = np.hypot(*(places[i + 1 :] - places[i]).T)
      assert np.all(apart >= radii[i + 1 :] + radii[i])
    if drops:
      low, high = radius_px
      assert low <= radii.min() and radii.max() <= high
  wide = Raindrop(drops=40, radius_px=4.0)
  large = wet = wide._draw_drops(_rng(), scene.place(_rng(), (960, 1440, 3)))
  assert 120 <= len(large) <= 160  # four scenes


def test_what_a_drop_shows_beyond_the_picture_is_mirrored() -> None:
  for side in (1, 5, 8):
    expected = np.pad(np.arange(side), 23, mode="symmetric")
    found = raindrop._mirrored(np.arange(-23, side + 23), side)
    np.testing.assert_array_equal(found, expected)
  flat = _flat(100, 30, 34)
  lq, _ = Raindrop(
    radius_px=9.0, view_px=60.0, drops=2000, soft=0.1, rim=0.0, share=0.0,
    glare=0.0,
  )(_rng(), flat)  # fmt: skip
  assert 0.8 * 0.9 * 100 - 1 <= 255 * lq.min()
  assert 255 * lq.max() <= 1.2 * 1.4 * 100 + 1


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("rain", {"blur": 2}, "blur=2 .* share of the images"),
    ("rain", {"veil": -1}, "veil=-1 .* share"),
    ("rain", {"mean": 2}, "mean=2 .* between -10.0 and 1.0"),
    ("rain", {"variance": -1}, "variance=-1"),
    ("rain", {"zoom": 0.5}, "zoom=0.5 .* between 1.0"),
    ("rain", {"length_px": (20.5, 30)}, "length_px=.* integer"),
    ("rain", {"angles": ()}, r"angles=\(\) .* numbers of degrees"),
    ("rain", {"angles": ("left",)}, "angles=.*'left'"),
    ("rain", {"strength": -1}, "strength=-1"),
    ("rain", {"beta": (3, 2)}, "beta"),
    ("rain", {"air": 1.1}, "air=1.1 .* between 0.0 and 1.0"),
    ("rain", {"fog": 1.0}, "no option 'fog'"),
    ("snow", {"coverage": 0.0}, "coverage=0.0 is no snow.* clean images"),
    ("snow", {"coverage": 0.9}, "coverage=0.9 .* 0.8"),
    ("snow", {"layers": 0}, "layers=0 .* integer"),
    ("snow", {"radius_px": (0.0, 4.0)}, "radius_px=.* between 0.3 and 50.0"),
    ("snow", {"fall": -1}, "fall=-1"),
    ("snow", {"angle": 200}, "angle=200"),
    ("snow", {"opacity": 0}, "opacity=0"),
    ("snow", {"white": 2}, "white=2"),
    ("raindrop", {"drops": 3.5}, "drops=3.5 .* integer"),
    ("raindrop", {"radius_px": 0.5}, "radius_px=0.5 .* between 1.0"),
    ("raindrop", {"view_px": 300}, "view_px=300"),
    ("raindrop", {"blur_px": 30}, "blur_px=30"),
    ("raindrop", {"soft": 0}, "soft=0"),
    ("raindrop", {"opacity": 2}, "opacity=2"),
    ("raindrop", {"rim": -1}, "rim=-1"),
    ("raindrop", {"brightness": 9}, "brightness=9"),
    ("raindrop", {"sky": 2}, "sky=2"),
    ("raindrop", {"share": 2}, "share=2"),
    ("raindrop", {"glare": 2}, "glare=2"),
    ("haze", {"beta": -1}, "beta=-1"),
    ("haze", {"air": (0.9, 0.6)}, "air"),
    ("haze", {"farthest": 2}, "farthest=2"),
  ],
)
def test_unfit_options_are_refused(
  name: str, options: dict[str, Any], message: str
) -> None:
  with pytest.raises(ValueError, match=message) as refusal:
    make(name, **options)
  assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize(
  "image", [np.zeros((8, 8, 3)), random_image(8, 8, 4)], ids=["float", "alpha"]
)
def test_unfit_images_are_refused(name: str, image: np.ndarray) -> None:
  with pytest.raises(ValueError, match="uint8 image"):
    make(name)(_rng(), image)
