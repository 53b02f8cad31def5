"""Training batches: the same on any topology, and made of proper patches."""

import itertools
import json
import pickle
import threading

import numpy as np
import pytest
from etils import epath
from grain import checkpoint

from semanir_jax import degradations
from semanir_jax.data import cache, pipeline, sources
from semanir_jax.images.image_file import ImageError
from tests.small import Images

IDENTITY = degradations.GaussianNoise(sigma_255=0.0)
NOISE = degradations.GaussianNoise(sigma_255=(0.0, 50.0))


def _images(count=7, height=20, width=24, channels=3) -> Images:
  rng = np.random.default_rng(0)
  shape = (count, height, width, channels)
  return Images(rng.integers(0, 256, shape, np.uint8))


def _batches(images=None, *, count=4, **options):
  options = {
    "degradation": NOISE,
    "patch_size": 8,
    "batch_size": 8,
    "seed": 3,
  } | options
  source = _images() if images is None else images
  iterator = pipeline.make_train_iterator([source], **options)
  batches = list(itertools.islice(iterator, count))
  iterator.close()
  return batches


def _assert_equal(some, others):
  assert len(some) == len(others)
  for a, b in zip(some, others, strict=True):
    assert a.keys() == b.keys() == {"lq", "hq"}
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_share_the_global_batch(process_count):
  whole = _batches(count=7)
  assert len(whole) == 7
  shares = [
    _batches(count=7, process_index=index, process_count=process_count)
    for index in range(process_count)
  ]
  joined = [
    {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    for parts in zip(*shares, strict=True)
  ]
  _assert_equal(joined, whole)


def test_seeds_epochs_and_records_differ():
  one = _batches(count=2)
  _assert_equal(one, _batches(count=2))
  assert not np.array_equal(one[0]["lq"], one[1]["lq"])
  assert not np.array_equal(one[0]["lq"], _batches(seed=4)[0]["lq"])
  same = np.stack([_images().items[0]] * 8)
  rows = _batches(Images(same), count=1)[0]["hq"]
  assert len({row.tobytes() for row in rows}) == len(rows)


def test_state_restores_exactly_and_counts_batches():
  options = {"degradation": NOISE, "patch_size": 8, "batch_size": 4, "seed": 0}
  first = pipeline.make_train_iterator([_images()], **options)
  for _ in range(3):
    next(first)
  state = json.loads(json.dumps(first.get_state()))
  assert state == {"batches_taken": 3, "records": len(_images())}
  expected = [next(first) for _ in range(3)]
  second = pipeline.make_train_iterator([_images()], **options)
  second.set_state(state)
  _assert_equal([next(second) for _ in range(3)], expected)
  second.set_state(state)  # also back in time, on a running iterator
  _assert_equal([next(second) for _ in range(3)], expected)
  assert second.get_state() == state | {"batches_taken": 6}
  first.close(), second.close()


def test_looking_ahead_takes_nothing():
  expected = _batches()
  stream = pipeline.make_train_iterator(
    [_images()], degradation=NOISE, patch_size=8, batch_size=8, seed=3
  )
  state = stream.get_state()
  assert stream.look_ahead(3) is None and stream.look_ahead(2) is None
  assert stream.get_state() == state
  _assert_equal([next(stream) for _ in range(4)], expected)
  assert stream.look_ahead(2) is None
  assert stream.get_state() == state | {"batches_taken": 4}
  stream.set_state(state)
  _assert_equal([next(stream) for _ in range(4)], expected)
  stream.close()


def test_what_is_wrong_ahead_is_raised_where_it_is():
  class OneDamaged(Images):
    def __getitem__(self, index):
      if index == 6:
        raise ImageError("6.png: is damaged")
      return super().__getitem__(index)

  pixels = np.zeros((40, 20, 24, 3), np.uint8)
  stream = pipeline.make_train_iterator(
    [OneDamaged(pixels)], degradation=NOISE, patch_size=8, batch_size=2, seed=1
  )
  good = 0
  while stream.look_ahead(3) is None:
    next(stream)
    good += 1
  assert good > 0
  assert "6.png" in str(stream.look_ahead(0))
  for _ in range(2):
    next(stream)
  for _ in range(2):
    with pytest.raises(ImageError, match="6.png: is damaged"):
      next(stream)
  assert stream.get_state()["batches_taken"] == good + 2
  stream.set_state({"batches_taken": 0, "records": 40})
  assert stream.look_ahead(1) is None
  stream.close()


def test_a_position_in_other_records_is_told(caplog):
  options = {"degradation": NOISE, "patch_size": 8, "batch_size": 4, "seed": 0}
  stream = pipeline.make_train_iterator([_images()], **options)
  stream.set_state({"batches_taken": 3})  # as saved before records were
  stream.set_state(stream.get_state())
  assert not caplog.text
  more = pipeline.make_train_iterator([_images(), _images()], **options)
  more.set_state(stream.get_state())
  number = len(_images())
  assert f"{2 * number} training images, {number} when the" in caplog.text


def test_grain_checkpoints_it(tmp_path):
  options = {"degradation": NOISE, "patch_size": 8, "batch_size": 4, "seed": 0}
  first = pipeline.make_train_iterator([_images()], **options)
  next(first), next(first)
  handler = checkpoint.CheckpointHandler()
  handler.save(epath.Path(tmp_path), item=first)
  second = pipeline.make_train_iterator([_images()], **options)
  handler.restore(epath.Path(tmp_path), item=second)
  _assert_equal([next(second)], [next(first)])
  first.close(), second.close()


def test_workers_change_nothing_and_restore_across():
  expected = _batches(count=6)
  options = {"degradation": NOISE, "patch_size": 8, "batch_size": 8, "seed": 3}
  workers = pipeline.make_train_iterator(
    [_images()], num_workers=2, cache_bytes=1 << 20, **options
  )
  got = [{k: v.copy() for k, v in next(workers).items()} for _ in range(5)]
  _assert_equal(got, expected[:5])
  state = workers.get_state()
  workers.close()
  threads = pipeline.make_train_iterator([_images()], **options)
  threads.set_state(state)
  _assert_equal([next(threads)], expected[5:])
  threads.close()


def test_as_many_threads_read_as_are_asked_for():
  num_threads = 6  # above the 4 batches that are made ahead
  together = threading.Barrier(num_threads)
  waited = threading.local()

  class Slow(Images):
    def __getitem__(self, index):
      main = threading.current_thread() is threading.main_thread()
      if not main and not getattr(waited, "once", False):
        waited.once = True
        together.wait(timeout=20)
      return super().__getitem__(index)

  _batches(Slow(_images().items), num_threads=num_threads, count=1)
  assert not together.broken


def _turns(image):
  rotations = [np.rot90(image, k) for k in range(4)]
  return rotations + [rotation[::-1] for rotation in rotations]


def test_patches_are_uniform_over_places_and_orientations():
  height, width, size = 10, 9, 8
  rows, columns = np.mgrid[:height, :width]
  image = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
  batches = _batches(
    Images([image] * 10), count=60, batch_size=32, degradation=IDENTITY
  )
  patches = np.concatenate([batch["hq"] for batch in batches]) * 255
  count = {
    turned[top : top + size, left : left + size].astype(np.float32).tobytes(): 0
    for turned in _turns(image)
    for top in range(turned.shape[0] - size + 1)
    for left in range(turned.shape[1] - size + 1)
  }
  assert len(count) == 8 * 3 * 2
  for patch in np.rint(patches).astype(np.float32):
    count[patch.tobytes()] += 1
  expected = len(patches) / len(count)
  chi_square = sum((n - expected) ** 2 / expected for n in count.values())
  assert chi_square < 82.7  # 47 degrees of freedom, p = 0.001


def test_a_patch_is_cut_from_the_degraded_whole_image():
  image = _images(1, 43, 37).items[0]  # odd sides: cut to multiples of 4
  degrade = degradations.Bicubic(scale=4)
  wholes = [
    degrade(np.random.default_rng(0), turned) for turned in _turns(image)
  ]
  for batch in _batches(Images([image]), degradation=degrade, count=3):
    assert batch["lq"].shape == (8, 2, 2, 3)
    assert batch["hq"].shape == (8, 8, 8, 3)
    for lq, hq in zip(batch["lq"], batch["hq"], strict=True):
      assert sum(
        np.array_equal(lq, whole_lq[top : top + 2, left : left + 2])
        for whole_lq, whole_hq in wholes
        for top in range(whole_lq.shape[0] - 1)
        for left in range(whole_lq.shape[1] - 1)
        if np.array_equal(
          hq, whole_hq[4 * top : 4 * top + 8, 4 * left : 4 * left + 8]
        )
      )


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("side", [3, 9])
def test_pairs_stay_together(scale, side):
  """Also where the images are smaller than the patch (side 3)."""
  pairs = [
    (lq, lq.repeat(scale, axis=0).repeat(scale, axis=1))
    for lq in _images(3, side, side + 1).items
  ]
  for batch in _batches(Images(pairs), degradation=None, patch_size=6 * scale):
    assert batch["lq"].shape == (8, 6, 6, 3)
    hq = batch["lq"].repeat(scale, axis=1).repeat(scale, axis=2)
    np.testing.assert_array_equal(batch["hq"], hq)


def test_small_images_are_mirrored():
  image = _images(1, 5, 8).items[0]
  padded = [
    np.pad(
      turned,
      (
        (0, max(0, 8 - turned.shape[0])),
        (0, max(0, 8 - turned.shape[1])),
        (0, 0),
      ),
      "symmetric",
    )
    for turned in _turns(image)
  ]
  known = {(turned / np.float32(255)).tobytes() for turned in padded}
  for batch in _batches(Images([image]), degradation=IDENTITY):
    assert all(hq.tobytes() in known for hq in batch["hq"])


def test_all_records_are_used_as_often():
  images = Images(np.full((8, 9, 3), value, np.uint8) for value in range(21))
  endless = _batches(images, degradation=IDENTITY, batch_size=21, count=48)
  values = np.rint([b["hq"][:, 0, 0, 0] * 255 for b in endless]).astype(int)
  np.testing.assert_array_equal(np.bincount(values.ravel()), [48] * 21)


@pytest.mark.parametrize("degradation", [
  degradations.GaussianNoise(sigma_255=25.0),
  degradations.Jpeg(quality=(10, 40)),
  degradations.Demosaic(),
  degradations.Bicubic(scale=2),
])  # fmt: skip
def test_photographs_become_float_batches(degradation):
  source = sources.open_photographs("train")
  (batch,) = _batches(source, degradation=degradation, patch_size=64, count=1)
  assert batch["hq"].shape == (8, 64, 64, 3)
  side = 64 // degradation.scale
  assert batch["lq"].shape == (8, side, side, 3)
  assert batch["lq"].dtype == batch["hq"].dtype == np.float32
  assert 0 <= batch["hq"].min() < 0.2 < 0.6 < batch["hq"].max() <= 1


def test_the_target_of_pairs_serves_as_clean_image():
  clean = _images()
  pairs = Images((255 - image, image) for image in clean.items)
  _assert_equal(_batches(pairs), _batches(clean))


def test_cache_keeps_within_its_bound():
  images = _images(5, 16, 16)  # 768 bytes each
  _batches(images, count=20)
  assert images.reads <= 5 + 2 + 1  # two threads may read the same at first
  for bound, kept in ((0, 0), (768 * 2 + 767, 2)):
    records = cache.CachedRecords([_images(5, 16, 16)], bound)
    first = [records[index] for index in range(5)]
    again = [records[index] for index in range(5)]
    assert sum(a is b for a, b in zip(first, again, strict=True)) == kept
    copy = pickle.loads(pickle.dumps(records))  # for a worker
    assert not copy._kept
    for _ in range(2):  # all the memory is free again
      assert [copy[index] is copy[index] for index in range(5)].count(
        True
      ) == kept
      copy.forget()
      assert not copy._kept


@pytest.fixture
def caches(monkeypatch) -> list[cache.CachedRecords]:
  """What is made in place of `CachedRecords` during the test."""
  made = []

  class Noted(cache.CachedRecords):
    def __init__(self, source, cache_bytes):
      super().__init__(source, cache_bytes)
      made.append(self)

  monkeypatch.setattr(pipeline, "CachedRecords", Noted)
  return made


def test_closing_frees_the_memory_for_the_next_phase(caches):
  iterator = pipeline.make_train_iterator(
    [_images()], degradation=NOISE, patch_size=8, batch_size=8, seed=0
  )
  next(iterator)
  assert caches[0]._kept
  iterator.close()
  assert not caches[0]._kept


def test_workers_share_the_memory_of_the_cache(caches):
  for num_workers in (0, 1, 4):
    pipeline.make_train_iterator(
      [_images()],
      degradation=NOISE,
      patch_size=8,
      batch_size=8,
      seed=0,
      num_workers=num_workers,
      cache_bytes=1000,
    )
  assert [records._cache_bytes for records in caches] == [1000, 1000, 250]


def test_several_sources_are_one():
  parts = [_images(2), _images(0), _images(3)]
  records = cache.CachedRecords(parts, 0)
  assert len(records) == 5
  for index, (part, place) in enumerate(
    [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
  ):
    expected = parts[part].items[place]
    np.testing.assert_array_equal(records[index]["image"], expected)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"batch_size": 6, "process_count": 4}, "batch_size=6 .*process_count=4"),
    ({"process_index": 2, "process_count": 2}, "process_index=2"),
    (
      {"degradation": None},
      "number 0: is a single image; choose a degradation",
    ),
    ({"degradation": degradations.Demosaic(), "patch_size": 7}, "patch_size=7"),
    ({"patch_size": 0}, "patch_size=0"),
    ({"images": Images([])}, "source 0 is empty"),
  ],
)
def test_options_that_do_not_fit(options, message):
  with pytest.raises(ValueError, match=message):
    _batches(**options)


def test_gray_images_stay_one_channel():
  (batch,) = _batches(_images(channels=1), count=1)
  assert batch["lq"].shape == batch["hq"].shape == (8, 8, 8, 1)


def test_mixed_channels_and_pairs_that_are_none_are_refused():
  with pytest.raises(ValueError, match=r"sources of \[1, 3\] channels"):
    pipeline.make_train_iterator(
      [_images(), _images(channels=1)],
      degradation=NOISE,
      patch_size=8,
      batch_size=2,
      seed=0,
    )
  lq, hq = _images(1, 8, 8).items[0], _images(1, 16, 16).items[0]
  with pytest.raises(ValueError, match=r"pairs of scales \[1, 2\]; train on"):
    pipeline.make_train_iterator(
      [Images([(lq, hq)]), Images([(lq, lq)])],
      degradation=None,
      patch_size=8,
      batch_size=2,
      seed=0,
    )
  lq = _images(1, 9, 9).items[0]
  pairs = Images([(lq, lq), (lq, lq[:, 1:])])
  with pytest.raises(ImageError, match="number 1: input .* not a pair"):
    _batches(pairs, degradation=None, count=5)
