"""Packs: lossless, resumable, checked, and read back at random."""

import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from semanir_jax.data import pipeline, prepare, records, sources, sub_images
from semanir_jax.degradations import GaussianNoise
from semanir_jax.images import image_file
from semanir_jax.images.image_file import ImageError, PixelOptions


def _image(height, width, seed):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), np.uint8)


def _write(folder, count=7, height=10, width=13):
  folder.mkdir()
  for seed in range(count):
    image_file.write_image(folder / f"{seed}.png", _image(height, width, seed))
  return folder


def _files(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize(("images_per_shard", "num_shards"), [(3, 3), (8, 1)])
def test_pack_holds_the_files_as_they_are(
  tmp_path, shared_data, monkeypatch, images_per_shard, num_shards
):
  monkeypatch.setattr("os.cpu_count", lambda: 1)  # fewer threads than images
  _write(tmp_path / "in")
  jpeg = shared_data / "bsds500" / "train" / "100075.jpg"
  shutil.copy(jpeg, tmp_path / "in" / "photo.jpg")
  index = prepare.prepare(
    tmp_path / "in", tmp_path / "out", images_per_shard=images_per_shard
  )
  assert (index["records"], len(index["shards"])) == (8, num_shards)
  source = sources.open_source(str(tmp_path / "out"))
  assert isinstance(source, sources.ArrayRecordSource)
  assert [record["name"] for record in source] == [*"0123456", "photo"]
  for record in source:
    expected = (
      image_file.read_image(jpeg)
      if record["name"] == "photo"
      else _image(10, 13, int(record["name"]))
    )
    np.testing.assert_array_equal(record["image"], expected)
  _, files = records.unpack(source._records[7])
  assert files == {"image": jpeg.read_bytes()}
  copy = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(copy[7]["image"], source[7]["image"])
  gray = sources.open_source(str(tmp_path / "out"), pixels=PixelOptions(1, "y"))
  assert gray[7]["image"].shape == (321, 481, 1)


@pytest.mark.parametrize("height", [8, 10, 12, 13, 20])
def test_sub_images_cover_every_pixel(tmp_path, height):
  _write(tmp_path / "in", count=1, height=height, width=13)
  prepare.prepare(tmp_path / "in", tmp_path / "out", crop_size=8, step=4)
  source = sources.ArrayRecordSource(tmp_path / "out")
  whole = _image(height, 13, 0)
  tops = {8: [0], 10: [0, 2], 12: [0, 4], 13: [0, 4, 5], 20: [0, 4, 8, 12]}
  places = [(top, left) for top in tops[height] for left in (0, 4, 5)]
  assert len(source) == len(places)
  for number, (top, left) in enumerate(places):
    assert source[number]["name"] == f"0_s{number:03d}"
    part = whole[top : top + 8, left : left + 8]
    np.testing.assert_array_equal(source[number]["image"], part)


def test_images_smaller_than_the_crop_stay_whole(tmp_path):
  _write(tmp_path / "in", count=1, height=7, width=13)
  prepare.prepare(tmp_path / "in", tmp_path / "out", crop_size=8, step=8)
  (record,) = sources.ArrayRecordSource(tmp_path / "out")
  np.testing.assert_array_equal(record["image"], _image(7, 13, 0))


@pytest.mark.parametrize("crop_size", [None, 8])
@pytest.mark.parametrize("rows", [15, 14, 13])
def test_pairs_are_cut_together(tmp_path, crop_size, rows):
  _write(tmp_path / "lr", count=2, height=7, width=9)
  (tmp_path / "hr").mkdir()
  for seed in range(2):  # one row too many or too few: cut off (modcrop)
    hr = np.pad(
      _image(7, 9, seed).repeat(2, 0).repeat(2, 1), [(0, 1), (0, 0), (0, 0)]
    )[:rows]
    image_file.write_image(tmp_path / "hr" / f"{seed}.png", hr)
  prepare.prepare(
    tmp_path / "lr",
    tmp_path / "out",
    target_folder=tmp_path / "hr",
    crop_size=crop_size,
  )
  source = sources.ArrayRecordSource(tmp_path / "out")
  assert source.scale == 2
  assert len(source) == (2 if crop_size is None else 2 * 2 * 3)
  for record in source:
    doubled = record["input"].repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(record["target"], doubled)


def _interrupt_at(monkeypatch, number):
  """Lets the cutting of image `number` be interrupted, as by Ctrl-C."""
  make = sub_images.Cutter.records

  def interrupted(self, paths):
    if paths["image"].stem == str(number):
      raise KeyboardInterrupt
    return make(self, paths)

  monkeypatch.setattr(sub_images.Cutter, "records", interrupted)


def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path, monkeypatch):
  _write(tmp_path / "in")
  options = {"crop_size": 6, "step": 3, "images_per_shard": 2}
  prepare.prepare(tmp_path / "in", tmp_path / "whole", **options)
  with monkeypatch.context() as patch:
    _interrupt_at(patch, 5)
    with pytest.raises(KeyboardInterrupt):
      prepare.prepare(tmp_path / "in", tmp_path / "out", **options)
  shard = "data-00000-of-00004.array_record"
  assert sorted(_files(tmp_path / "out")) == [
    shard,
    shard.replace("00000-", "00001-"),
    "pack.json",
  ]
  with pytest.raises(ImageError, match="is not finished; run the same prepare"):
    sources.open_source(str(tmp_path / "out"))
  done = (tmp_path / "out" / shard).stat()
  prepare.prepare(tmp_path / "in", tmp_path / "out", **options)
  assert _files(tmp_path / "out") == _files(tmp_path / "whole")
  again = (tmp_path / "out" / shard).stat()
  assert (again.st_ino, again.st_mtime_ns) == (done.st_ino, done.st_mtime_ns)


def test_a_replaced_image_is_no_image_of_the_pack(tmp_path, monkeypatch):
  _write(tmp_path / "in")
  prepare.prepare(tmp_path / "in", tmp_path / "out")
  monkeypatch.chdir(tmp_path)
  prepare.prepare("in", "out")  # the same folder by another name
  path = tmp_path / "in" / "0.png"
  data = path.read_bytes()
  path.write_bytes(data[:-20] + b"\0" + data[-19:])  # of the same size
  with pytest.raises(ImageError, match="was begun with other images"):
    prepare.prepare("in", "out")


@pytest.mark.parametrize("place", [0.1, 0.5])
def test_a_damaged_record_is_named_with_a_remedy(tmp_path, place):
  _write(tmp_path / "in")
  prepare.prepare(tmp_path / "in", tmp_path / "out")
  (shard,) = (tmp_path / "out").glob("*.array_record")
  data = bytearray(shard.read_bytes())
  for at in range(int(place * len(data)), len(data) - 1):
    data[at] ^= 1
  shard.write_bytes(data)
  with pytest.raises(
    ImageError, match=r"out.*: a shard is damaged .*sha256sum -c SHA256SUMS"
  ):
    list(sources.open_source(str(tmp_path / "out")))


def test_checksums_find_and_mend_a_damaged_shard(tmp_path):
  _write(tmp_path / "in")
  prepare.prepare(tmp_path / "in", tmp_path / "out", images_per_shard=4)
  before = _files(tmp_path / "out")
  check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
  subprocess.run(check, cwd=tmp_path / "out", check=True)
  shard = tmp_path / "out" / "data-00001-of-00002.array_record"
  data = bytearray(shard.read_bytes())
  data[len(data) // 2] ^= 1
  shard.write_bytes(data)
  done = subprocess.run(check, cwd=tmp_path / "out", capture_output=True)
  assert done.returncode == 1
  prepare.prepare(tmp_path / "in", tmp_path / "out", images_per_shard=4)
  assert _files(tmp_path / "out") == before
  shard.write_bytes(data[:-1])
  with pytest.raises(ImageError, match="00001.*of the wrong size; copy"):
    sources.ArrayRecordSource(tmp_path / "out")


def test_another_plan_is_refused(tmp_path):
  _write(tmp_path / "in")
  prepare.prepare(tmp_path / "in", tmp_path / "out")
  with pytest.raises(ImageError, match="out: was begun with other .*remove"):
    prepare.prepare(tmp_path / "in", tmp_path / "out", crop_size=8)
  image_file.write_image(tmp_path / "in" / "new.png", _image(4, 4, 0))
  with pytest.raises(ImageError, match="out: was begun with other"):
    prepare.prepare(tmp_path / "in", tmp_path / "out")


def test_bad_images_fail_or_are_reported(tmp_path):
  _write(tmp_path / "in", count=4)
  (tmp_path / "in" / "text.png").write_text("text")
  with pytest.raises(ImageError, match="(?s)1 of 5 images.*text.png"):
    prepare.prepare(tmp_path / "in", tmp_path / "out")
  assert not (tmp_path / "out").exists()
  (tmp_path / "in" / "text.png").unlink()
  damaged = tmp_path / "in" / "2.png"
  damaged.write_bytes(damaged.read_bytes()[:-40])
  options = {"images_per_shard": 1}
  message = '2.png: .*truncated.*on_bad_image="skip"$'
  with pytest.raises(ImageError, match=message):
    prepare.prepare(tmp_path / "in", tmp_path / "out", **options)
  index = prepare.prepare(
    tmp_path / "in", tmp_path / "out", on_bad_image="skip", **options
  )
  assert (index["records"], len(index["bad_images"])) == (3, 1)
  assert "2.png" in index["bad_images"][0]
  assert json.loads((tmp_path / "out" / "pack.json").read_text()) == index
  source = sources.ArrayRecordSource(tmp_path / "out")
  assert [record["name"] for record in source] == ["0", "1", "3"]


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"crop_size": 4, "step": 5}, r"step=5 must be in \[1, crop_size=4\]"),
    ({"step": 5}, "belong together"),
    ({"crop_size": 0}, "step=0 must be"),
    ({"crop_size": 4, "step": 0}, "step=0 must be"),
    ({"images_per_shard": 0}, "images_per_shard=0"),
  ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
  _write(tmp_path / "in", count=1)
  with pytest.raises(ValueError, match=message):
    prepare.prepare(tmp_path / "in", tmp_path / "out", **options)
  assert not (tmp_path / "out").exists()


def test_a_pack_among_its_images_is_refused(tmp_path):
  _write(tmp_path / "in", count=1)
  (tmp_path / "link").symlink_to(tmp_path / "in")
  with pytest.raises(ImageError, match="link: holds the images; choose ano"):
    prepare.prepare(tmp_path / "in", tmp_path / "link")
  assert len(list((tmp_path / "in").iterdir())) == 1


def test_unwritable_output_is_named(tmp_path):
  _write(tmp_path / "in", count=1)
  (tmp_path / "file").touch()
  with pytest.raises(ImageError, match="file/out: cannot be made"):
    prepare.prepare(tmp_path / "in", tmp_path / "file" / "out")


def test_workers_read_a_pack(tmp_path):
  _write(tmp_path / "in")
  prepare.prepare(tmp_path / "in", tmp_path / "out", images_per_shard=3)
  batches = []
  for num_workers in (0, 1):
    iterator = pipeline.make_train_iterator(
      [sources.ArrayRecordSource(tmp_path / "out")],
      degradation=GaussianNoise(sigma_255=25.0),
      patch_size=8,
      batch_size=16,
      seed=0,
      num_workers=num_workers,
    )
    batches.append({key: x.copy() for key, x in next(iterator).items()})
    iterator.close()
  for key in ("lq", "hq"):
    np.testing.assert_array_equal(batches[0][key], batches[1][key])


def test_command_line(tmp_path):
  _write(tmp_path / "in", count=3)
  for name in ("text.png", "words.png"):
    (tmp_path / "in" / name).write_text("text")
  command = [
    *(sys.executable, "-m", "semanir_jax.data.prepare"),
    *(f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"),
    *("--crop_size=8", "--step=5"),
  ]
  failed = subprocess.run(command, capture_output=True, text=True)
  assert failed.returncode == 1
  first, *listed, remedy = failed.stderr.splitlines()
  assert first.startswith("error: 2 of 5 images cannot be used")
  assert [line.split(":")[0] for line in listed] == [
    f"  {tmp_path / 'in' / name}" for name in ("text.png", "words.png")
  ]
  assert "on_bad_image" in remedy
  done = subprocess.run(
    [*command, "--on_bad_image=skip"], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert "12 records" in done.stdout
  assert "left out: " in done.stdout
