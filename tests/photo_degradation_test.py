"""The degradation of photographs: its noise, its files, its patches."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from configs import photo
from semanir_jax.degradations import (
  GaussianNoise,
  Jpeg,
  Photo,
  bayer,
  degrade_patch,
  make,
)
from semanir_jax.images.color import to_luma

_TRAINING = make("photo", **photo.TRAINING)


def _rng(seed: int = 0) -> np.random.Generator:
  return np.random.default_rng(seed)


def _random(*shape: int) -> np.ndarray:
  return _rng(7).integers(0, 256, shape, dtype=np.uint8)


def _flat(level: int, side: int = 256, channels: int = 3) -> np.ndarray:
  return np.full((side, side, channels), level, np.uint8)


def _levels(degradation: Photo, image: np.ndarray, seed: int = 0) -> np.ndarray:
  """What is added, in levels, by the form of the tests."""
  lq, _ = degradation(np.random.RandomState(seed), image)
  return 255.0 * lq - image


def _correlation(noise: np.ndarray, down: int = 0, right: int = 0) -> float:
  """Of a plane `[H, W]` with itself, shifted."""
  height, width = noise.shape
  a, b = noise[down:, right:], noise[: height - down, : width - right]
  return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_it_is_pure_and_its_input_is_a_files() -> None:
  image = _random(41, 53, 3)
  before, state = image.copy(), np.random.get_state()[1].copy()
  for seed in range(30):
    lq, hq = _TRAINING(_rng(seed), image)
    again, same = _TRAINING(_rng(seed), image)
    np.testing.assert_array_equal(lq, again)
    np.testing.assert_array_equal(hq, same)
    assert lq.dtype == hq.dtype == np.float32
    assert lq.shape == hq.shape == image.shape
    assert lq.min() >= 0 and lq.max() <= 1
    np.testing.assert_allclose(255 * lq, np.rint(255 * lq), atol=1e-4)
  np.testing.assert_array_equal(image, before)
  np.testing.assert_array_equal(np.random.get_state()[1], state)
  assert hash(_TRAINING) == hash(make("photo", **photo.TRAINING))


@pytest.mark.parametrize("sigma", [10, 25, 50])
def test_independent_noise_is_the_stored_noise_of_the_papers_seed(
  sigma: int,
) -> None:
  image = _random(60, 45, 3)
  lq, hq = make(**photo.stored_noise(sigma, "independent").to_dict())(
    np.random.RandomState(0), image
  )
  stored, same = GaussianNoise(sigma, stored=1.0)(
    np.random.RandomState(0), image
  )
  np.testing.assert_array_equal(np.rint(255 * lq), np.rint(255 * stored))
  np.testing.assert_array_equal(hq, same)


@pytest.mark.parametrize(
  ("form", "correlation", "beside"),
  [
    ("independent", 0.0, 0.0),
    ("shared", 1.0, 0.0),
    ("half_shared", 0.5, 0.0),
    # Of the kernel exp(-x^2 / 0.98) at whole x: 0.733 / 1.260.
    ("coarse", 0.0, 0.58),
  ],
)
def test_standard_deviation_and_correlations_of_a_test_form(
  form: str, correlation: float, beside: float
) -> None:
  degradation = make(**photo.stored_noise(25.0, form).to_dict())
  noise = _levels(degradation, _flat(128))
  np.testing.assert_allclose(noise.std(axis=(0, 1)), 25.0, rtol=0.02)
  channels = np.corrcoef(noise.reshape(-1, 3).T)
  np.testing.assert_allclose(channels[0, 1:], correlation, atol=0.02)
  np.testing.assert_allclose(channels[1, 2], correlation, atol=0.02)
  for channel in range(3):
    for shift in ({"down": 1}, {"right": 1}):
      plane = noise[:, :, channel]
      assert _correlation(plane, **shift) == pytest.approx(beside, abs=0.02)


def test_ends_of_what_channels_share_are_as_frequent_as_all_else() -> None:
  correlations = []
  for seed in range(300):
    noise = _levels(Photo(25.0, shared=(0.0, 1.0)), _flat(128, 48), seed)
    correlations.append(np.corrcoef(noise.reshape(-1, 3).T)[0, 1])
  counts, _ = np.histogram(correlations, [-0.1, 0.1, 0.9, 1.1])
  # asin(sqrt(0.1)) = 0.2 of a right angle.
  np.testing.assert_allclose(counts / 300, [0.205, 0.59, 0.205], atol=0.07)


def test_noise_of_photons_grows_with_the_light() -> None:
  degradation = Photo(5.0, shot_255=20.0)
  for level in (40, 128, 200):
    noise = _levels(degradation, _flat(level))
    expected = np.sqrt(5.0**2 + 20.0**2 * level / 255)
    assert noise.std() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_sensor_noise_is_that_of_a_noisy_mosaic(seed: int) -> None:
  """Malvar's filters are linear: whole images and noise come to the same."""
  image = _random(24, 30, 3) // 2 + 64
  degradation = Photo(4.0, shot_255=15.0, bayer=1.0)
  noise = _levels(degradation, image, seed)
  rng = np.random.RandomState(seed)
  above, before = int(2 * rng.random()), int(2 * rng.random())
  whole = np.pad(image, ((above, 0), (before, 0), (0, 0)), mode="edge")
  sensor = bayer.mosaic(whole.astype(np.float32)).sum(axis=2)
  sigma = np.sqrt(4.0**2 + 15.0**2 * sensor / 255)
  noisy = sensor + sigma * rng.normal(size=sensor.shape)
  added = bayer.malvar(noisy) - bayer.malvar(sensor)
  np.testing.assert_allclose(noise, added[above:, before:], atol=0.51)


def test_the_mosaic_begins_with_any_colour() -> None:
  # Where green is measured, its noise is whole; interpolated, 3 / 4 of it.
  begins_green, degradation = 0, Photo(10.0, bayer=1.0)
  for seed in range(40):
    green = _levels(degradation, _flat(128, 64), seed)[4:-4, 4:-4, 1]
    measured = green[::2, ::2].std() > green[::2, 1::2].std()
    begins_green += measured
  assert 10 <= begins_green <= 30


@pytest.mark.parametrize(("quality", "form"), [(90, "jpeg90"), (75, "jpeg75")])
def test_a_compressed_test_form_is_the_file_of_the_noisy_image(
  quality: int, form: str
) -> None:
  image = _random(70, 50, 3)
  noisy, _ = GaussianNoise(25, stored=1.0)(np.random.RandomState(0), image)
  file, _ = Jpeg(quality)(_rng(), np.rint(255 * noisy).astype(np.uint8))
  lq, _ = make(**photo.stored_noise(25.0, form).to_dict())(
    np.random.RandomState(0), image
  )
  np.testing.assert_array_equal(lq, file)


def test_subsampling_is_drawn_of_those_named() -> None:
  image, drawn = _random(32, 32, 3), {}
  for subsampling in ("4:2:0", "4:2:2", "4:4:4"):
    file = io.BytesIO()
    Image.fromarray(image).save(
      file, "JPEG", quality=80, subsampling=subsampling
    )
    drawn[np.asarray(Image.open(file)).tobytes()] = subsampling
  degradation = Photo(0.0, jpeg=1.0, quality=80)
  names = []
  for seed in range(60):
    lq, _ = degradation(_rng(seed), image)
    names.append(drawn[np.rint(255 * lq).astype(np.uint8).tobytes()])
  assert min(names.count(name) for name in drawn.values()) >= 10
  one = Photo(0.0, jpeg=1.0, quality=80, subsampling="4:2:2")
  lq, _ = one(_rng(), image)
  assert drawn[np.rint(255 * lq).astype(np.uint8).tobytes()] == "4:2:2"


def test_the_first_of_two_files_has_another_grid() -> None:
  """It began 0 to 15 px above and before what has been cut out of it."""
  image, grids = _random(40, 50, 3), set()
  degradation = Photo(0.0, jpeg=1.0, twice=1.0, quality=30, subsampling="4:2:0")
  for seed in range(30):
    rng = np.random.RandomState(seed)
    rng.normal(size=image.shape)  # the noise, of 0 levels
    above, before = (int(16 * rng.random()) for _ in range(2))
    grids.add((above % 8, before % 8))
    whole = np.pad(image, ((above, 0), (before, 0), (0, 0)), mode="edge")
    first, _ = Jpeg(30)(rng, whole)
    cut = np.rint(255 * first[above:, before:]).astype(np.uint8)
    expected, _ = Jpeg(30)(rng, cut)
    lq, _ = degradation(np.random.RandomState(seed), image)
    np.testing.assert_array_equal(lq, expected)
  assert len(grids) > 15


def test_the_target_is_the_image_before_the_blur_or_after() -> None:
  image = _random(40, 50, 3)
  options = {"blur": 1.0, "blur_px": (1.0, 1.0)}
  lq, hq = Photo(0.0, **options)(_rng(3), image)
  np.testing.assert_array_equal(hq, image.astype(np.float32) / 255)
  assert np.std(lq) < 0.6 * np.std(hq)
  same, blurred = Photo(0.0, deblur=False, **options)(_rng(3), image)
  np.testing.assert_array_equal(lq, same)
  np.testing.assert_allclose(blurred, lq, atol=0.5001 / 255)


def test_half_of_the_blurs_differ_along_two_axes() -> None:
  point = np.zeros((31, 31, 3), np.uint8)
  point[15, 15] = 255
  degradation = Photo(0.0, blur=1.0, blur_px=(0.6, 1.2), deblur=False)
  alike = turned = 0
  for seed in range(60):
    kernel = degradation(_rng(seed), point)[1][:, :, 0]
    alike += np.allclose(kernel, kernel.T, atol=1e-6)
    turned += not np.allclose(kernel, kernel[:, ::-1], atol=1e-3)
  assert 18 <= alike <= 42 and turned >= 12


def test_gray_pictures_have_equal_channels_in_and_out() -> None:
  image = _random(48, 40, 3)
  degradation = make("photo", **(photo.TRAINING | {"gray": 1.0, "clean": 0.0}))
  for seed in range(30):
    pair = degradation(_rng(seed), image)
    for pixels in pair:
      np.testing.assert_array_equal(pixels, pixels[:, :, :1].repeat(3, axis=2))
  _, hq = Photo(25.0, gray=1.0)(_rng(), image)
  np.testing.assert_allclose(255 * hq[:, :, :1], to_luma(image), atol=0.501)
  shares = [
    np.ptp(Photo(9.0, gray=0.25)(_rng(seed), image)[1], axis=2).max() == 0
    for seed in range(400)
  ]
  assert 70 <= sum(shares) <= 130


def test_gray_images_of_one_channel_stay_so() -> None:
  image = _random(48, 40, 1)
  for seed in range(20):
    lq, hq = _TRAINING(_rng(seed), image)
    assert lq.shape == hq.shape == (48, 40, 1)
  with pytest.raises(ValueError, match="no colours to interpolate"):
    Photo(25.0, bayer=1.0)(_rng(), image)


def test_the_share_of_clean_images_is_left_alone_or_nearly() -> None:
  image = _random(32, 32, 3) // 2 + 64
  degradation = Photo(25.0, jpeg=1.0, clean=0.5)
  exact = nearly = 0
  for seed in range(400):
    lq, hq = degradation(_rng(seed), image)
    error = 255 * np.std(lq - hq)
    exact += error == 0
    nearly += 0 < error < 2.2
  # Noise below a fifth of a level is rounded away.
  assert 75 <= exact <= 160 and 60 <= nearly <= 125
  lq, hq = make(**photo.stored_noise(0.0, "independent").to_dict())(
    np.random.RandomState(0), image
  )
  np.testing.assert_array_equal(lq, hq)


def test_logarithms_of_the_noise_are_uniform() -> None:
  sigmas = [
    _levels(Photo((2.0, 32.0)), _flat(128, 48), seed).std()
    for seed in range(300)
  ]
  logs = np.log2(sigmas)
  assert logs.min() > 0.8 and logs.max() < 5.1
  assert logs.mean() == pytest.approx(3.0, abs=0.25)
  assert logs.std() == pytest.approx(4 / np.sqrt(12), abs=0.15)


_WITHOUT_NOISE = [
  Photo(0.0, blur=1.0, blur_px=1.2, deblur=False),
  Photo(0.0, blur=1.0, deblur=False, jpeg=1.0, quality=40),
  Photo(0.0, jpeg=1.0, quality=40, subsampling="4:2:2", gray=1.0),
]


class _Fixed:
  """A generator whose uniform draws are all the same."""

  def __init__(self, value: float):
    self._value = value

  def random(self) -> float:
    return self._value

  def uniform(self, low: float, high: float) -> float:
    return low + self._value * (high - low)

  def normal(self, mean: float, sigma: float, shape: Any) -> np.ndarray:
    """The same noise at the same place of whatever is cut from a period of 16
    px, so that a patch and the whole can be compared.
    """
    period = 16
    planes = _rng(5).normal(mean, 1.0, (period, period, 3))
    repeats = [-(-side // period) for side in shape[:2]]
    noise = np.tile(planes, (*repeats, 1))[: shape[0], : shape[1]]
    return sigma * (
      noise[:, :, : shape[2]] if len(shape) > 2 else noise[..., 0]
    )


@pytest.mark.parametrize(
  "degradation",
  [
    *_WITHOUT_NOISE,
    Photo(9.0),
    Photo(9.0, shot_255=9.0, shared=0.5, coarse=1.0, coarse_px=0.8),
    Photo(9.0, shot_255=9.0, bayer=1.0),
    Photo(9.0, bayer=1.0, coarse=1.0, coarse_px=0.8, jpeg=1.0, quality=90),
    Photo(9.0, blur=1.0, bayer=1.0, jpeg=1.0, twice=1.0, quality=90),
  ],
  ids=repr,
)
def test_a_patch_equals_the_patch_of_the_whole(degradation: Photo) -> None:
  """Where the grid of JPEG and the period of the noise meet the whole's."""
  image, size = _random(208, 224, 3), 40
  # The context of a patch in the middle begins at a multiple of 16.
  above, _, before, _ = degradation.context(_Fixed(0.0))
  whole_lq, whole_hq = degradation(_Fixed(0.0), image)
  for top, left in ((16 * 5 + above, 16 * 4 + before), (above, before), (0, 0)):
    lq, hq = degrade_patch(
      _Fixed(0.0), image, top=top, left=left, size=size, degradation=degradation
    )
    cut = slice(top, top + size), slice(left, left + size)
    np.testing.assert_array_equal(hq, whole_hq[cut])
    np.testing.assert_array_equal(lq, whole_lq[cut])


def test_patches_need_their_context() -> None:
  """Else the test above could not fail."""
  image = _random(112, 112, 3)
  for degradation in (
    Photo(0.0, blur=1.0, deblur=False),
    Photo(9.0, coarse=1.0),
    Photo(9.0, bayer=1.0),
    Photo(0.0, jpeg=1.0, quality=40),
  ):
    whole, _ = degradation(_Fixed(0.5), image)
    alone, _ = degradation(_Fixed(0.5), image[16:48, 16:48])
    assert not np.array_equal(alone, whole[16:48, 16:48])


def test_the_grid_of_the_last_file_lies_at_random() -> None:
  rng = _rng()
  contexts = np.array([_TRAINING.context(rng) for _ in range(400)])
  least = contexts.min()
  for top_or_left in contexts[:, 0], contexts[:, 2]:
    assert set(top_or_left.tolist()) == set(range(least, least + 16))
  assert np.all(contexts[:, [1, 3]] == least)
  assert abs(np.corrcoef(contexts[:, 0], contexts[:, 2])[0, 1]) < 0.2
  assert Photo(25.0).context(rng) == (0, 0, 0, 0)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({}, "photo needs the option 'read_255'"),
    ({"read_255": -1}, "read_255=-1 .* between 0.0 and 255.0"),
    ({"read_255": (0, 50)}, r"read_255=\(0, 50\) has no logarithm"),
    ({"read_255": 9, "shot_255": (0, 9)}, "shot_255=.* has no logarithm"),
    ({"read_255": 9, "shared": 1.5}, "shared=1.5 .* between 0.0 and 1.0"),
    ({"read_255": 9, "bayer": 2}, "bayer=2 .* share of the images"),
    ({"read_255": 9, "coarse_px": -1}, "coarse_px=-1"),
    ({"read_255": 9, "blur_px": (2, 1)}, "blur_px"),
    ({"read_255": 9, "quality": 0}, "quality=0 .* integer"),
    ({"read_255": 9, "subsampling": "4:1:1"}, "'4:1:1' .* 4:2:0, 4:2:2, 4:4:4"),
    ({"read_255": 9, "subsampling": ()}, "subsampling"),
    ({"read_255": 9, "deblur": "no"}, "deblur='no'"),
    ({"read_255": 9, "clean": "all"}, "clean='all'"),
    ({"read_255": 9, "grey": 0.1}, "no option 'grey'; did you mean 'gray'"),
  ],
)
def test_unfit_options_are_refused(
  options: dict[str, Any], message: str
) -> None:
  with pytest.raises(ValueError, match=message) as refusal:
    make("photo", **options)
  assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
  "image", [np.zeros((8, 8, 3)), _random(8, 8, 4), _random(8, 8)], ids=repr
)
def test_unfit_images_are_refused(image: np.ndarray) -> None:
  with pytest.raises(ValueError, match="uint8 image"):
    Photo(25.0)(_rng(), image)
