"""Where images come from: what is found, paired, and refused by name."""

import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from absl import logging

from semanir_jax.data import records, sources
from semanir_jax.data.pairing import pair_scale
from semanir_jax.images import image_file
from semanir_jax.images.image_file import ImageError, PixelOptions
from tests import png_files


def _image(height=6, width=8, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, channels), np.uint8)


def _write(folder, names, **shape):
  folder.mkdir(parents=True, exist_ok=True)
  for seed, name in enumerate(names):
    (folder / name).parent.mkdir(exist_ok=True)
    image_file.write_image(folder / name, _image(**shape, seed=seed))
  return folder


def _damage(path):
  """Cuts the end of a file off, so that only its header can be read."""
  path.write_bytes(path.read_bytes()[:-40])


def test_folder_in_order_and_pickled(tmp_path):
  _write(tmp_path / "b", ["z.png", "a.png"])
  _write(tmp_path / "a", ["m.png"])
  source = sources.ImageFolder([tmp_path / "b", tmp_path / "a" / "m.png"])
  assert [record["name"] for record in source] == ["a", "z", "m"]
  np.testing.assert_array_equal(source[1]["image"], _image(seed=0))
  copy = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(copy[1]["image"], source[1]["image"])


def test_bad_headers_are_all_named_at_once(tmp_path):
  _write(tmp_path, ["a.png", "b.png"])
  (tmp_path / "text.png").write_text("text")
  (tmp_path / "zero.jpg").touch()
  image_file.write_image(tmp_path / "deep.png", _image().astype(np.uint16))
  with pytest.raises(ImageError) as error:
    sources.ImageFolder(tmp_path)
  for part in ("3 of 5", "text.png", "zero.jpg", "deep.png: has 16", "skip"):
    assert part in str(error.value)
  source = sources.ImageFolder(tmp_path, on_bad_image="skip")
  assert [path.name for path in source.paths] == ["a.png", "b.png"]
  assert len(source.bad_images) == 3
  (tmp_path / "a.png").write_text("now bad too")
  (tmp_path / "b.png").write_text("now bad too")
  with pytest.raises(ImageError, match="none is left"):
    sources.ImageFolder(tmp_path, on_bad_image="skip")
  with pytest.raises(ValueError, match="on_bad_image='ignore'"):
    sources.ImageFolder(tmp_path, on_bad_image="ignore")


def test_damaged_pixels_fail_or_the_next_image_stands_in(tmp_path):
  _write(tmp_path, ["a.png", "b.png", "c.png"])
  _damage(tmp_path / "b.png")
  _damage(tmp_path / "c.png")
  with pytest.raises(ImageError, match='b.png: .*truncated.*image="skip"$'):
    sources.ImageFolder(tmp_path)[1]
  source = sources.ImageFolder(tmp_path, on_bad_image="skip")
  assert [source[index]["name"] for index in (1, 0, 2, 1)] == ["a"] * 4
  assert len(source.bad_images) == 2
  _damage(tmp_path / "a.png")
  with pytest.raises(ImageError, match="no image can be read(?s:.*)a.png"):
    sources.ImageFolder(tmp_path, on_bad_image="skip")[0]


def test_channels(tmp_path):
  _write(tmp_path, ["gray.png"], channels=1)
  _write(tmp_path, ["rgb.png"])
  source = sources.ImageFolder(tmp_path, pixels=PixelOptions(channels=3))
  assert [source[i]["image"].shape for i in (0, 1)] == [(6, 8, 3)] * 2
  source = sources.ImageFolder(tmp_path, pixels=PixelOptions(1, "y"))
  assert [source[i]["image"].shape for i in (0, 1)] == [(6, 8, 1)] * 2
  with pytest.raises(ImageError, match='rgb.png: is a colour.*gray="y"'):
    sources.ImageFolder(tmp_path, pixels=PixelOptions(channels=1))


def test_pairs_by_name_with_scale_and_modcrop(tmp_path):
  _write(tmp_path / "lr", ["0001x3.png", "0002x3.png"], height=4, width=5)
  _write(tmp_path / "hr", ["0001.png"], height=12, width=15)
  _write(tmp_path / "hr", ["0002.bmp"], height=14, width=16)
  source = sources.PairedFolder((tmp_path / "lr", tmp_path / "hr"))
  assert (len(source), source.scale) == (2, 3)
  record = source[1]
  assert record["name"] == "0002"
  assert record["input"].shape == (4, 5, 3)
  np.testing.assert_array_equal(record["target"], _image(14, 16)[:12, :15])


def test_inputs_whose_sides_are_rounded_up_are_cut(tmp_path):
  # As MATLAB's x8 of DIV2K: 170 rows of 1356. The last one shows more than 8.
  _write(tmp_path / "lr", ["0.png", "1.png"], height=6, width=5)
  _write(tmp_path / "hr", ["0.png"], height=44, width=40)
  _write(tmp_path / "hr", ["1.png"], height=48, width=33)
  source = sources.PairedFolder((tmp_path / "lr", tmp_path / "hr"))
  assert source.scale == 8
  for index, (height, width) in enumerate([(5, 5), (6, 4)]):
    record = source[index]
    assert record["input"].shape == (height, width, 3)
    assert record["target"].shape == (8 * height, 8 * width, 3)
    lq = image_file.read_image(source.paths[index][0])
    np.testing.assert_array_equal(record["input"], lq[:height, :width])


@pytest.mark.parametrize(
  ("lq", "hq", "scale"),
  [
    ((10, 10), (20, 20), 2),
    ((10, 10), (21, 19), 2),
    ((10, 10), (22, 20), 0),
    ((10, 10), (10, 10), 1),
    ((10, 10), (10, 9), 0),
    ((10, 10), (4, 4), 0),
    ((170, 255), (1356, 2040), 8),
    ((10, 10), (40, 20), 0),
  ],
)
def test_the_scale_of_a_pair_is_whole_or_none(lq, hq, scale):
  assert pair_scale(lq, hq) == scale


def test_accents_of_a_mac_are_those_of_others(tmp_path):
  composed, decomposed = "caf\u00e9", "cafe\u0301"
  _write(tmp_path / "input", [f"{composed}.png"])
  _write(tmp_path / "target", [f"{decomposed}.png"])
  assert len(sources.PairedFolder(tmp_path)) == 1
  _write(tmp_path / "target", [f"{composed}.png"])
  with pytest.raises(ImageError, match="has the name of"):
    sources.PairedFolder(tmp_path)


def test_pairs_that_are_none_are_named(tmp_path):
  names = ["a.png", "b.png", "sub/c.png"]
  _write(tmp_path / "input", names)
  _write(tmp_path / "target", names)
  options = {"recursive": True}
  assert len(sources.PairedFolder(tmp_path, **options)) == 3
  _write(tmp_path / "input", ["alone.png"])
  _write(tmp_path / "target", ["also.png"])
  image_file.write_image(tmp_path / "target" / "b.png", _image(6, 9))
  with pytest.raises(ImageError) as error:
    sources.PairedFolder(tmp_path, **options)
  for part in (
    "alone.png: has no partner of the same name in the target folder",
    "also.png: has no partner of the same name in the input folder",
    "b.png: is 6x9 but its input b.png 6x8",
    "modcrop",
    "3 of 5",
  ):
    assert part in str(error.value)
  source = sources.PairedFolder(tmp_path, on_bad_image="skip", **options)
  assert [pair[0].stem for pair in source.paths] == ["a", "c"]
  _write(tmp_path / "input", ["a.bmp"])
  with pytest.raises(ImageError, match="a.png: has the name of a.bmp|a.bmp: h"):
    sources.PairedFolder(tmp_path)


def test_a_pair_of_which_a_late_orientation_turns_one_is_named(tmp_path):
  _write(tmp_path / "input", ["a.png", "b.png"])
  _write(tmp_path / "target", ["a.png", "b.png"])
  png_files.add_late_exif(tmp_path / "input" / "b.png", {274: 6})
  source = sources.PairedFolder(tmp_path)
  source.read(0)
  with pytest.raises(ImageError, match="b.png: is 6x8 but its input b.png 8x6"):
    source.read(1)


def test_a_pair_that_changed_since_it_was_listed_is_not_cut(tmp_path):
  _write(tmp_path / "input", ["a.png"])
  _write(tmp_path / "target", ["a.png"])
  source = sources.PairedFolder(tmp_path)
  image_file.write_image(tmp_path / "target" / "a.png", _image(8, 6))
  with pytest.raises(ImageError, match="a.png: is 8x6 but its input a.png 6x8"):
    source.read(0)


def test_one_odd_pair_does_not_decide_the_scale(tmp_path):
  names = [f"{i}.png" for i in range(4)]
  _write(tmp_path / "input", names)
  _write(tmp_path / "target", names)
  image_file.write_image(tmp_path / "input" / "0.png", _image(3, 4))
  with pytest.raises(ImageError, match="(?s)1 of 4.*0.png: is 6x8 but its"):
    sources.PairedFolder(tmp_path)
  source = sources.PairedFolder(tmp_path, on_bad_image="skip")
  assert (len(source), source.scale) == (3, 1)


def test_a_link_to_nothing_is_an_image_that_is_missing(tmp_path):
  _write(tmp_path, ["a.png"])
  (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
  with pytest.raises(ImageError, match="(?s)1 of 2.*b.png: No such file"):
    sources.ImageFolder(tmp_path)


def test_pairs_of_gray_and_colour_need_channels(tmp_path):
  _write(tmp_path / "input", ["a.png"], channels=1)
  _write(tmp_path / "target", ["a.png"])
  with pytest.raises(ImageError, match="1 channels but its target 3; save"):
    sources.PairedFolder(tmp_path)
  record = sources.PairedFolder(tmp_path, pixels=PixelOptions(channels=3))[0]
  assert record["input"].shape == record["target"].shape == (6, 8, 3)


def test_real_pairs(shared_data):
  for scale in (2, 3, 4, 8):
    lr = shared_data / "set5" / "lr_bicubic" / f"x{scale}"
    source = sources.open_source(f"{lr},{shared_data / 'set5' / 'hr'}")
    assert (source.scale, len(source)) == (scale, 5)
    record = source[4]
    assert record["name"] == "woman"
    assert record["target"].shape[0] == scale * record["input"].shape[0]
  for name, count in (("gopro_samples", 4), ("rain200l_samples", 3)):
    assert len(sources.open_source(str(shared_data / name))) == count


def test_photographs_are_these():
  """A wheel with other images would change every demo: then look again."""
  sizes = {
    record["name"]: record["image"].shape
    for split in ("train", "test")
    for record in sources.open_photographs(split)
  }
  assert sizes == {
    "astronaut": (512, 512, 3),
    "coffee": (400, 600, 3),
    "motorcycle_left": (500, 741, 3),
    "motorcycle_right": (500, 741, 3),
    "rocket": (427, 640, 3),
    "flower": (427, 640, 3),
    "chelsea": (300, 451, 3),
    "china": (427, 640, 3),
  }


def test_photographs_import_neither_package_nor_jax():
  code = (
    "import sys\n"
    "from semanir_jax.data import sources\n"
    "sources.open_photographs('test')[0]\n"
    "slow = {'jax', 'skimage', 'sklearn', 'tensorflow_datasets', 'scipy'}\n"
    "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


def test_photographs_say_what_to_install(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
  with pytest.raises(ImageError, match="pip install scikit-image"):
    sources.open_photographs("train")


def test_open_source_understands(tmp_path):
  _write(tmp_path / "pairs" / "input", ["a.png"])
  shutil.copytree(tmp_path / "pairs" / "input", tmp_path / "pairs" / "target")
  pairs = tmp_path / "pairs"
  for spec, kind in (
    (f"{pairs}", sources.PairedFolder),
    (f"{pairs}/input,{pairs}/target", sources.PairedFolder),
    (f"{pairs}/input", sources.ImageFolder),
    (f"{pairs}/input/a.png", sources.ImageFolder),
    ("photographs:test", sources.ImageFolder),
  ):
    source = sources.open_source(spec, pixels=PixelOptions(1, "y"))
    assert isinstance(source, kind), spec
    assert source[0].get("image", source[0].get("target")).shape[2] == 1
  for spec, message in (
    ("photographs:all", "photographs:all: use one of"),
    ("tfds:div2k", "tfds:NAME:SPLIT"),
    (f"{tmp_path}/none", "none: no such folder"),
  ):
    with pytest.raises(ValueError, match=message):
      sources.open_source(spec)
  (tmp_path / "loose.array_record").touch()
  with pytest.raises(ImageError, match="pack.json: cannot be read.*prepare"):
    sources.open_source(str(tmp_path))


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
  """Small sets of TensorFlow Datasets, prepared without TensorFlow."""
  tfds = pytest.importorskip("tensorflow_datasets")
  folder = tmp_path_factory.mktemp("tfds")
  picture = tfds.features.Image(shape=(None, None, 3), encoding_format="png")

  def build(set_name, features, example):
    class Builder(tfds.core.GeneratorBasedBuilder):
      VERSION = tfds.core.Version("1.0.0")
      name = set_name

      def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=features)

      def _split_generators(self, dl_manager):
        return {"train": ((i, example) for i in range(5))}

      def _generate_examples(self):
        raise NotImplementedError

    Builder(data_dir=folder, file_format="array_record").download_and_prepare()

  files = {}
  for key, image in (
    ("lr", _image(4, 5)),
    ("hr", _image(9, 10)),
    ("image", _image()),
    ("clear", _image(channels=4)),
  ):
    files[key] = str(folder / f"{key}.png")  # Arrays would need TensorFlow.
    image_file.write_image(files[key], image)
  pair = {key: files[key] for key in ("lr", "hr")}
  features = tfds.features.FeaturesDict
  build("toy_pairs", features({"lr": picture, "hr": picture}), pair)
  build("toy_images", features({"image": picture}), {"image": files["image"]})
  clear = tfds.features.Image(shape=(None, None, 4), encoding_format="png")
  build("toy_clear", features({"image": clear}), {"image": files["clear"]})
  build("toy_text", features({"text": tfds.features.Text()}), {"text": "a"})
  return folder


@pytest.mark.filterwarnings("default")
def test_tfds_sets(tfds_dir):
  source = sources.open_source("tfds:toy_images:train", data_dir=tfds_dir)
  assert len(list(source)) == len(source) == 5
  np.testing.assert_array_equal(source[2]["image"], _image())
  assert source[2]["name"] == "tfds:toy_images:train[2]"
  part = sources.open_source("tfds:toy_pairs:train[:40%]", data_dir=tfds_dir)
  assert len(list(part)) == len(part) == 2
  record = pickle.loads(pickle.dumps(part))[1]
  np.testing.assert_array_equal(record["input"], _image(4, 5))
  # As of `PairedFolder`, a row that is too many is cut off.
  np.testing.assert_array_equal(record["target"], _image(9, 10)[:8])
  clear = sources.open_source("tfds:toy_clear:train", data_dir=tfds_dir)
  with pytest.raises(ImageError, match=r"train\[1\]: is uint8 \(6, 8, 4\)"):
    clear[1]
  with pytest.raises(ImageError, match=r"features \['text'\]; a set with"):
    sources.open_source("tfds:toy_text:train", data_dir=tfds_dir)
  with pytest.raises(
    ImageError, match="(?s)not prepared.*download_and_prepare"
  ):
    sources.open_source("tfds:div2k/bicubic_x2:train", data_dir=tfds_dir)
  with pytest.raises(ValueError, match="nosuch"):
    sources.open_source("tfds:nosuch:train", data_dir=tfds_dir)
  with pytest.raises(ValueError, match="valid"):
    sources.open_source("tfds:toy_images:valid", data_dir=tfds_dir)


def test_a_tfds_pair_of_no_scale_is_named():
  pair = {"input": _image(4, 5), "target": _image(7, 19)}
  with pytest.raises(ImageError, match=r"^tfds:x\[3\]: a target of \(7, 19\)"):
    records._cut_to_scale(pair, "tfds:x[3]")


def test_skipping_is_logged(tmp_path, monkeypatch):
  _write(tmp_path, ["a.png"])
  (tmp_path / "text.png").write_text("text")
  lines = []
  monkeypatch.setattr(logging, "warning", lambda *args: lines.append(args))
  sources.ImageFolder(tmp_path, on_bad_image="skip")
  assert "text.png" in str(lines)
