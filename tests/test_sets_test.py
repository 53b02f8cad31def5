"""Test sets: their fixed form, and what is said about wrong ones."""

import numpy as np
import pytest
from PIL import Image

from configs import base
from semanir_jax.data import prepare, splits
from semanir_jax.data.records import ArrayRecordSource
from semanir_jax.evaluation import loop, metrics, test_sets
from semanir_jax.images.image_file import ImageError

NO_NOISE = base.noise(0.0)


def _image(height, width, channels=3):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (height, width, channels), np.uint8)


def _write(path, image):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path)


def _example(record, options):
  record = {"name": "kodim01"} | record
  test_set = test_sets.TestSet("x", options, [record])
  (example,) = test_sets.examples(test_set, range(1))
  return example


def test_absent_sets_are_named_and_left_out(tmp_path, warnings):
  _write(tmp_path / "set5/hr/a.png", _image(8, 8))
  sets = {
    "set5": base.test_set("set5/hr", NO_NOISE),
    "pairs": base.test_set("set5/lr,set5/hr", {}),
    "again": base.test_set("set5/lr,set5/hr", {}),
  }
  (found,) = test_sets.open_test_sets(sets, str(tmp_path))
  assert found.name == "set5" and len(found.source) == 1
  absent = f"left out, there is no {tmp_path}/set5/lr"
  assert warnings == [f"pairs, again: {absent}"]


@pytest.mark.parametrize(
  "count, expected, cause",
  [
    (900, 100, "training and validation images of DIV2K"),
    (10, 5, "every image is there 2 times"),
    (100, 68, "68 of the 100 `val` images of BSDS500"),
    (200, 100, "every image is there 2 times"),
    (23, 24, "1 are missing, look for an incomplete download"),
    (25, 24, "1 are too many, look for extra files"),
  ],
)
def test_wrong_count_names_the_likely_cause(
  count, expected, cause, monkeypatch
):
  monkeypatch.setattr(test_sets, "open_source", lambda *_, **__: [{}] * count)
  options = base.test_set("folder", NO_NOISE, num_images=expected)
  with pytest.raises(ValueError, match=cause) as caught:
    test_sets.open_test_set("name", options, "")
  assert f"name (folder) has {count} images" in str(caught.value)
  assert "--config.eval.sets.name.num_images=0" in str(caught.value)


def test_another_split_of_bsds500_is_no_doubled_bsd100(monkeypatch):
  monkeypatch.setattr(test_sets, "open_source", lambda *_, **__: [{}] * 200)
  options = base.benchmark("bsd100", NO_NOISE)
  with pytest.raises(ValueError, match="BSD100 is the `val` split of BSDS500"):
    test_sets.open_test_set("bsd100", options, "")


def test_training_on_the_validation_images_is_named(warnings):
  specs = ("packs/DIV2K_HR", "flickr2k", "bsds500")
  sources = [[{}] * 900, [{}] * 2650, [{}] * 500]
  splits.warn_of_mixed_splits(specs, sources)
  assert len(warnings) == 2
  assert "DIV2K_HR has 900 images: its training split has 800" in warnings[0]
  assert "CBSD68" in warnings[1]
  splits.warn_of_mixed_splits(["div2k"], [[{}] * 800])
  assert len(warnings) == 2
  # Without the two that docs/data.md tells to remove.
  splits.warn_of_mixed_splits(["bsds500"], [[{}] * 498])
  assert "bsds500 has 498 images: its `val` split" in warnings[2]


def test_sub_images_of_the_validation_images_are_named(
  monkeypatch, tmp_path, warnings
):
  for name in ("a", "b"):
    _write(tmp_path / f"bsd/{name}.png", _image(16, 16))
  prepare.prepare(tmp_path / "bsd", tmp_path / "bsd_pack", crop_size=8)
  source = ArrayRecordSource(tmp_path / "bsd_pack")
  assert len(source) == 8
  split = ("bsd", (2,), "they are together")
  monkeypatch.setattr(splits, "MIXED_SPLITS", (split,))
  splits.warn_of_mixed_splits(["bsd_pack"], [source])
  assert warnings == ["bsd_pack has 2 images: they are together"]


def test_pair_of_other_sizes_is_named_with_a_modcrop_hint(tmp_path):
  _write(tmp_path / "lr/a.png", _image(8, 8))
  _write(tmp_path / "hr/a.png", _image(16, 16))
  _write(tmp_path / "lr/b.png", _image(8, 8))
  _write(tmp_path / "hr/b.png", _image(18, 16))
  with pytest.raises(ImageError, match=r"b\.png.*modcrop"):
    test_sets.open_test_set("x", base.test_set("lr,hr", {}), str(tmp_path))


def test_missing_partner_is_named(tmp_path):
  _write(tmp_path / "set/input/a.png", _image(8, 8))
  _write(tmp_path / "set/target/a.png", _image(8, 8))
  _write(tmp_path / "set/target/b.png", _image(8, 8))
  with pytest.raises(ImageError, match=r"b\.png: has no partner"):
    test_sets.open_test_set("x", base.test_set("set", {}), str(tmp_path))


def test_single_images_where_pairs_are_expected_are_named():
  with pytest.raises(
    ValueError, match="kodim01: is a single image where pairs"
  ):
    _example({"image": _image(8, 8)}, base.test_set("x", {}))


def test_other_form_of_kodak24_is_refused():
  options = base.test_set("kodak24", NO_NOISE, sides_px=(512, 768))
  for height, width in ((512, 768), (768, 512)):
    _example({"image": _image(height, width)}, options)
  with pytest.raises(ValueError, match="kodim01: is 500x500 .* of 768x512"):
    _example({"image": _image(500, 500)}, options)


@pytest.mark.parametrize(
  "height, width, rows, columns",
  [
    (512, 768, slice(6, 506), slice(134, 634)),
    (768, 512, slice(134, 634), slice(6, 506)),
    (500, 500, slice(0, 500), slice(0, 500)),
  ],
)
def test_kodak24_is_cut_as_ffdnet_did(height, width, rows, columns):
  image = _image(height, width)
  options = base.test_set("kodak24", NO_NOISE, center_crop_px=500)
  example = _example({"image": image}, options)
  np.testing.assert_array_equal(
    metrics.to_uint8(example.hq), image[rows, columns]
  )


def test_sides_are_cropped_to_multiples():
  image = _image(19, 30)
  example = _example(
    {"image": image}, base.test_set("x", NO_NOISE, crop_multiple=8)
  )
  np.testing.assert_array_equal(metrics.to_uint8(example.hq), image[:16, :24])


def test_image_without_such_a_centre_is_refused():
  options = base.test_set("kodak24", NO_NOISE, center_crop_px=500)
  with pytest.raises(ValueError, match="kodim01: is 499x768 px, too small"):
    _example({"image": _image(499, 768)}, options)


def test_centres_of_kodak24_give_the_anchor(shared_data):
  # protocols 3.4: Malvar's filters on the 500x500 form.
  options = base.test_set(
    "kodak24", {"name": "demosaic"}, center_crop_px=500, crop_multiple=8
  )
  test_set = test_sets.open_test_set("kodak24", options, str(shared_data))
  protocol = {
    "channel": "rgb",
    "crop_px": 10,
    "ssim": "valid",
    "psnr_b": False,
    "also": (),
  }
  examples = test_sets.examples(test_set, range(len(test_set.source)))
  values = [
    metrics.psnr(result.before, result.target, crop_px=border)
    for result in loop.evaluate_set(None, examples, protocol, batch_size=1)
    for border in (0, 10)
  ]
  np.testing.assert_allclose(
    [np.mean(values[::2]), np.mean(values[1::2])], [35.3681, 35.2945], atol=5e-5
  )


@pytest.mark.parametrize(
  "size, expected",
  [
    ((480, 720), (480, 720)),  # Outdoor-Rain and RainDrop stay as they are
    ((17, 33), (32, 48)),
    ((1024, 768), (1024, 768)),
    ((2048, 1000), (1024, 512)),
    ((600, 1025), (608, 1024)),
  ],
)
def test_all_weather_sizes(size, expected):
  assert test_sets.all_weather_size(*size) == expected


def test_pairs_are_resized_alike():
  target = np.full((20, 40, 3), 51, np.uint8)
  pair = {"input": _image(20, 40), "target": target}
  example = _example(pair, base.test_set("x", {}, resize="all_weather"))
  assert example.lq.shape == example.hq.shape == (32, 48, 3)
  assert (example.hq == np.float32(0.2)).all()
  expected = Image.fromarray(pair["input"]).resize((48, 32), Image.LANCZOS)
  np.testing.assert_array_equal(metrics.to_uint8(example.lq), expected)
  # A size that fits is not filtered.
  pair = {"input": _image(32, 48), "target": _image(32, 48)}
  example = _example(pair, base.test_set("x", {}, resize="all_weather"))
  np.testing.assert_array_equal(metrics.to_uint8(example.lq), pair["input"])


def test_gray_pairs_are_resized():
  pair = {"input": _image(20, 40, 1), "target": _image(20, 40, 1)}
  example = _example(pair, base.test_set("x", {}, resize="all_weather"))
  assert example.lq.shape == (32, 48, 1)


def test_unknown_resize_is_named():
  pair = {"input": _image(8, 8), "target": _image(8, 8)}
  with pytest.raises(ValueError, match="unknown resize 'weather'"):
    _example(pair, base.test_set("x", {}, resize="weather"))


def test_noise_starts_anew_at_every_image():
  record = {"image": _image(8, 8), "name": "a"}
  options = base.test_set("x", base.noise(25.0))
  test_set = test_sets.TestSet("x", options, [record] * 2)
  first, second = test_sets.examples(test_set, range(2))
  np.testing.assert_array_equal(first.lq, second.lq)


def test_a_mistake_in_a_degradation_is_told_before_an_image_is_read(tmp_path):
  options = base.test_set("nowhere", base.noise(25.0, 400.0))
  options.degradation.sigma_255 = (25.0, -1.0)
  with pytest.raises(ValueError, match="sigma_255"):
    test_sets.open_test_sets({"ours": options}, str(tmp_path))


def test_an_image_too_small_for_the_degradation_is_named():
  record = {"image": _image(3, 8), "name": "small"}
  options = base.test_set("x", {"name": "bicubic", "scale": 4})
  with pytest.raises(ValueError, match="^small: "):
    _example(record, options)


def test_an_image_that_is_there_twice_is_named(tmp_path):
  for name in ("a.png", "b.png", "b.bmp"):
    _write(tmp_path / "in" / name, _image(8, 8))
  options = base.test_set("in", NO_NOISE)
  with pytest.raises(ValueError, match=r"b.png: has the name of .*b.bmp; an"):
    test_sets.open_test_set("ours", options, str(tmp_path))


def test_a_test_set_that_a_network_learns_from_is_named(warnings):
  sets = {
    "seen": base.test_set("bsds500/test", NO_NOISE),
    "new": base.test_set("set5", NO_NOISE),
  }
  splits.warn_of_seen_images(sets, ("bsds500/train", "bsds500/test"))
  (warning,) = warnings
  assert warning.startswith(
    "seen: the network was trained on the images of bsd"
  )


def test_a_folder_with_a_comma_is_one_folder(tmp_path):
  _write(tmp_path / "a,b/c,d/0.png", _image(8, 8))
  sets = {"ours": base.test_set("c,d", NO_NOISE)}
  (found,) = test_sets.open_test_sets(sets, str(tmp_path / "a,b"))
  assert found.name == "ours" and len(found.source) == 1
