"""Frames of films as RGB and back, against float64 and bit for bit."""

from unittest import mock

import av
import numpy as np
import pytest

from semanir_jax.films import planes
from semanir_jax.films.library import FilmError

FORMATS = [
  "yuv420p",
  "yuv422p",
  "yuv444p",
  "yuv411p",
  "yuv440p",
  "yuv420p10le",
  "yuv422p10le",
  "yuv444p12le",
  "gray",
  "gray10le",
  "gbrp",
  "gbrp10le",
]
# Kr and Kb of H.273.
WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def random_frame(
  name: str, width: int, height: int, seed: int = 0
) -> tuple[av.VideoFrame, planes.PlaneFormat]:
  """A frame with integers of the whole range, and its layout."""
  rng = np.random.default_rng(seed)
  frame = av.VideoFrame(width, height, name)
  layout = planes.plane_format(name, "a.mp4")
  for view in planes.read_planes(frame, layout):
    view[...] = rng.integers(0, 1 << layout.bits, view.shape)
  return frame, layout


def _reference(frame, layout, colours) -> np.ndarray:
  """RGB of a frame, pixel by pixel in float64."""
  views = [v.astype(np.float64) for v in planes.read_planes(frame, layout)]
  unit = 2.0 ** (layout.bits - 8)
  if colours.color_range == 2:
    black, span = 0.0, 2.0**layout.bits - 1
    chroma = span
  else:
    black, span, chroma = 16 * unit, 219 * unit, 224 * unit
  across, down = layout.sampling
  # As H.273 draws them, for two samples in each direction.
  x0 = {0: 0, 1: 0, 2: 0.5, 3: 0}[colours.chroma_location] * (across - 1)
  y0 = {0: 0.5, 1: 0.5, 2: 0.5, 3: 0}[colours.chroma_location] * (down - 1)
  kr, kb = WEIGHTS[colours.matrix(frame.height)]

  def sample(plane: np.ndarray, y: float, x: float) -> float:
    total = 0.0
    for j in range(plane.shape[0]):
      for i in range(plane.shape[1]):
        weight = max(0, 1 - abs(y - j)) * max(0, 1 - abs(x - i))
        total += weight * plane[j, i]
    return (total - 128 * unit) / chroma

  rgb = np.empty((frame.height, frame.width, 3))
  for y in range(frame.height):
    for x in range(frame.width):
      luma = (views[0][y, x] - black) / span
      # Beyond the outermost samples they are repeated.
      j = np.clip((y - y0) / down, 0, views[1].shape[0] - 1)
      i = np.clip((x - x0) / across, 0, views[1].shape[1] - 1)
      blue, red = (sample(view, j, i) for view in views[1:])
      r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
      rgb[y, x] = r, (luma - kr * r - kb * b) / (1 - kr - kb), b
  return rgb


@pytest.mark.parametrize("name", [n for n in FORMATS if n.startswith("yuv")])
@pytest.mark.parametrize(
  "colours",
  [
    planes.Colours(),
    planes.Colours(color_range=2, colorspace=1, chroma_location=2),
    planes.Colours(color_range=1, colorspace=9, chroma_location=3),
  ],
  ids=["unsaid", "full", "2020"],
)
def test_rgb_is_that_of_the_standard(name, colours):
  frame, layout = random_frame(name, 9, 7)
  found = planes.to_unit(frame, layout, colours)
  assert found.dtype == np.float32
  expected = _reference(frame, layout, colours)
  np.testing.assert_allclose(found, expected, atol=2e-6)


def test_gray_and_rgb_planes_keep_their_order():
  frame, layout = random_frame("gbrp", 5, 4)
  green, blue, red = planes.read_planes(frame, layout)
  found = planes.to_unit(frame, layout, planes.Colours())
  np.testing.assert_allclose(
    found * 255, np.stack([red, green, blue], axis=-1), atol=1e-4
  )
  frame, layout = random_frame("gray10le", 5, 4)
  (gray,) = planes.read_planes(frame, layout)
  found = planes.to_unit(frame, layout, planes.Colours(color_range=1))
  np.testing.assert_allclose(
    found[..., 0], (gray.astype(float) - 64) / 876, atol=1e-6
  )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("color_range", [1, 2])
def test_what_a_network_leaves_alone_stays_bit_for_bit(name, color_range):
  frame, layout = random_frame(name, 11, 9)
  colours = planes.Colours(color_range=color_range)
  before = planes.to_unit(frame, layout, colours)
  made = planes.from_unit(
    before.copy(), layout, colours, frame=frame, before=before
  )
  assert made.format.name == name
  for new, old in zip(
    planes.read_planes(made, layout),
    planes.read_planes(frame, layout),
    strict=True,
  ):
    np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_conversion_inverts_colours_that_are_smooth(name):
  layout = planes.plane_format(name, "a.mp4")
  colours = planes.Colours(color_range=1, colorspace=1)
  y, x = np.mgrid[0:12, 0:16].astype(np.float32)
  rgb = np.stack([0.2 + x / 40, 0.7 - y / 40, 0.3 + (x + y) / 80], axis=-1)
  rgb = rgb.mean(axis=2, keepdims=True) if layout.kind == "gray" else rgb
  made = planes.from_unit(rgb, layout, colours)
  back = planes.to_unit(made, layout, colours)
  # Half a level of luma and two of chroma, inside the border.
  levels = 4 / (219 << (layout.bits - 8))
  assert np.abs(back - rgb)[3:-3, 3:-3].max() < levels


def test_chroma_of_a_change_is_a_mean_of_the_triangle():
  layout = planes.plane_format("yuv420p", "a.mp4")
  rgb = np.zeros((8, 8, 3), np.float32)
  rgb[3, 4] = (1, 0, 0)
  made = planes.from_unit(rgb, layout, planes.Colours(colorspace=6))
  _, _, red = planes.read_planes(made, layout)
  # Rows 3/4 and 1/4 of a half, columns 1/2: chroma lies at the left.
  expected = np.zeros((4, 4))
  expected[1, 2] = 224 * 0.5 * 0.375 * 0.5
  expected[2, 2] = 224 * 0.5 * 0.125 * 0.5
  np.testing.assert_allclose(red - 128.0, expected, atol=0.51)


def test_frames_without_colours_are_told_from_others():
  for name, gray in (("yuv420p", 128), ("yuv420p10le", 512)):
    frame, layout = random_frame(name, 6, 4)
    assert not planes.is_gray(frame, layout)
    for view in planes.read_planes(frame, layout)[1:]:
      view[...] = gray
    assert planes.is_gray(frame, layout)
    rgb = planes.to_unit(frame, layout, planes.Colours())
    assert (rgb == rgb[..., :1]).all()
  assert planes.is_gray(*random_frame("gray", 6, 4))
  assert not planes.is_gray(*random_frame("gbrp", 6, 4))


def test_luma_counts_from_black_to_white():
  frame, layout = random_frame("yuv420p10le", 4, 2)
  planes.read_planes(frame, layout)[0][...] = [[64, 940, 502, 64]] * 2
  luma = planes.luma_255(frame, layout, planes.Colours())
  np.testing.assert_allclose(luma[0], [0, 255, 127.5, 0], atol=1e-4)
  frame, layout = random_frame("gbrp", 4, 2)
  for view in planes.read_planes(frame, layout):
    view[...] = 51
  luma = planes.luma_255(frame, layout, planes.Colours())
  np.testing.assert_allclose(luma, 51, atol=1e-4)


def test_a_matrix_that_a_player_would_guess_otherwise_is_said():
  unsaid = planes.Colours()
  assert unsaid.for_height(540, 700) == unsaid
  assert unsaid.for_height(540, 1080).colorspace == 6
  said = planes.Colours(colorspace=1)
  assert said.for_height(540, 1080) == said


@pytest.mark.parametrize("name", ["yuva420p", "grayf32le", "pal8", "rgba"])
def test_pixels_of_other_kinds_are_refused_by_name(name):
  with pytest.raises(FilmError, match=f"a.mp4: has pixels of the kind {name},"):
    planes.plane_format(name, "a.mp4")


def test_one_thread_lays_samples_out():
  """Several lost rows of one frame of p010 in some hundreds."""
  frame = mock.Mock(wraps=random_frame("yuv420p10le", 322, 242)[0])
  frame.format.name = "p010le"
  planes.as_planes(frame, planes.plane_format("p010le", "a.mp4"))
  assert frame.reformat.call_args.kwargs["threads"] == 1


@pytest.mark.parametrize("name", ["nv12", "bgr24", "p010le"])
def test_samples_in_another_order_are_laid_out_anew(name):
  layout = planes.plane_format(name, "a.mp4")
  frame, _ = random_frame(layout.name, 8, 6)
  packed = frame.reformat(format=name)
  again = planes.as_planes(packed, layout)
  assert again.format.name == layout.name
  for new, old in zip(
    planes.read_planes(again, layout),
    planes.read_planes(frame, layout),
    strict=True,
  ):
    np.testing.assert_array_equal(new, old)
