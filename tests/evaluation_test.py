"""Evaluation: what is measured, in which order, by which processes."""

import csv
import json
import pathlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from semanir_jax.evaluation import evaluate, loop, metrics, test_sets
from semanir_jax.evaluation.loop import Round, evaluate_set, evaluate_shared
from semanir_jax.evaluation.measures import as_output, measure
from semanir_jax.images.image_file import ImageError, write_image
from semanir_jax.images.imresize import imresize
from semanir_jax.inference.restorer import Restorer
from semanir_jax.training import setup
from studies.measuring import open_test_set
from tests import processes, small
from tests.evaluation_cases import PROTOCOL, random_example, random_image

pytestmark = pytest.mark.slow

BASELINE_VIEWS = ("input", "target", "comparison")
OPTIONS = base.test_set("ours", base.noise(25.0))


def test_the_input_as_it_is_is_clipped_and_rounded():
  lq = np.array([[[-0.2, 0.5, 1.3]]], np.float32)
  assert as_output(lq, 1).tolist() == [[[0, 128, 255]]]
  assert as_output(lq, 1).dtype == np.uint8


def test_a_smaller_input_is_enlarged_by_matlabs_bicubic():
  lq = random_image(6, 5, 3)
  enlarged = as_output(lq, 3)
  assert enlarged.shape == (18, 15, 3) and enlarged.dtype == np.uint8
  expected = imresize(metrics.to_uint8(lq), 3, rounding="once")
  np.testing.assert_array_equal(enlarged, expected)
  flat = np.full((4, 4, 1), 0.4, np.float32)
  assert set(as_output(flat, 2).ravel().tolist()) == {102}


def test_measure_reports_what_the_protocol_asks():
  target = metrics.to_uint8(random_image(32, 32, 3))
  image = target.copy()
  image[8:24, 8:24] ^= 16
  values = measure(image, target, PROTOCOL)
  assert values == {
    "psnr": metrics.psnr(image, target),
    "ssim": metrics.ssim(image, target),
  }
  # A quarter of the samples is off by 16: 10 log10(255^2 / 64).
  assert values["psnr"] == pytest.approx(30.069, abs=1e-3)
  luma = PROTOCOL | {"channel": "y", "crop_px": 8, "psnr_b": True}
  values = measure(image, target, luma)
  assert list(values) == ["psnr", "ssim", "psnr_b"]
  assert values["psnr"] == metrics.psnr(image, target, crop_px=8, channel="y")
  assert values["psnr_b"] == metrics.psnr_b(
    image, target, crop_px=8, channel="y"
  )


def test_batches_hold_neighbours_of_one_size_in_order():
  sizes = [(12, 12), (12, 12), (12, 12), (12, 14), (12, 12)]
  examples = [
    random_example(str(i), *size, 3, seed=i) for i, size in enumerate(sizes)
  ]
  batches = []

  def restore(images: np.ndarray) -> np.ndarray:
    batches.append(images.shape[:3])
    return images / 2

  results = list(evaluate_set(restore, iter(examples), PROTOCOL, batch_size=2))
  assert batches == [(2, 12, 12), (1, 12, 12), (1, 12, 14), (1, 12, 12)]
  for example, result in zip(examples, results, strict=True):
    assert result.row["name"] == example.name
    after = metrics.to_uint8(example.lq / 2)
    np.testing.assert_array_equal(result.after, after)
    np.testing.assert_array_equal(result.before, metrics.to_uint8(example.lq))
    np.testing.assert_array_equal(result.target, metrics.to_uint8(example.hq))
    assert result.row["psnr"] == metrics.psnr(after, result.target)
    assert result.row["input_psnr"] == metrics.psnr(
      result.before, result.target
    )


def test_images_are_measured_at_a_time_and_while_others_are_restored(
  monkeypatch,
):
  restored = threading.Event()  # all of them, with none measured yet
  together = threading.Barrier(2, timeout=60)
  real = loop.measure_example

  def measured(*arguments: Any) -> Any:
    together.wait()
    assert restored.wait(60)
    return real(*arguments)

  def restore(images: np.ndarray) -> np.ndarray:
    calls.append(1)
    if len(calls) == 4:
      restored.set()
    return images

  monkeypatch.setattr(loop, "measure_example", measured)
  monkeypatch.setattr(loop, "_THREADS", 4)
  calls = []
  examples = [random_example(str(i), 12, 12, 3, seed=i) for i in range(4)]
  results = evaluate_set(restore, examples, PROTOCOL, batch_size=1)
  assert [result.row["name"] for result in results] == list("0123")


def test_what_was_measured_before_a_failure_comes_first():
  def examples() -> Iterator[Any]:
    yield random_example("0", 12, 12, 3)
    yield random_example("1", 12, 12, 3)
    raise ImageError("2.png: is damaged")

  results = evaluate_set(None, examples(), PROTOCOL, batch_size=4)
  assert [next(results).row["name"] for _ in range(2)] == ["0", "1"]
  with pytest.raises(ImageError, match="2.png"):
    next(results)


def test_without_a_network_the_input_is_measured():
  example = random_example("a", 12, 12, 3, scale=2)
  (result,) = evaluate_set(None, [example], PROTOCOL, batch_size=4)
  assert result.row["psnr"] == result.row["input_psnr"]
  np.testing.assert_array_equal(result.after, as_output(example.lq, 2))


def test_a_result_of_another_size_is_refused_by_name():
  example = random_example("baby", 12, 12, 3, scale=2)
  results = evaluate_set(lambda x: x, [example], PROTOCOL, batch_size=1)
  with pytest.raises(ValueError, match="baby: the network returns .12, 12, 3"):
    next(results)


class _Records(list):
  """A source that remembers what was read, and raises the errors in it."""

  def __init__(self, records: Iterable[Any]) -> None:
    super().__init__(records)
    self.read: list[int] = []

  def __getitem__(self, index: int) -> dict[str, Any]:
    self.read.append(index)
    record = super().__getitem__(index)
    if isinstance(record, Exception):
      raise record
    return record


def _records(count: int) -> _Records:
  """Images of two sizes."""
  images = [
    random_image(12, (12, 14)[i // 3 % 2], 3, seed=i) * 255
    for i in range(count)
  ]
  return _Records(
    {"image": image.astype(np.uint8), "name": f"image{i}"}
    for i, image in enumerate(images)
  )


def _test_set(records: _Records) -> test_sets.TestSet:
  return test_sets.TestSet("ours", OPTIONS, records)


def _shared(
  records: _Records, *, batch_size: int = 2, max_images: int = 0
) -> list[Round]:
  """All rounds, of a network that halves its input."""
  return list(
    evaluate_shared(
      lambda images: images / 2,
      _test_set(records),
      PROTOCOL,
      batch_size=batch_size,
      max_images=max_images,
    )
  )


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_processes_measure_every_image_once_in_order(
  monkeypatch, num_processes, count
):
  records = _records(count)
  examples = test_sets.examples(_test_set(records), range(count))
  alone = evaluate_set(lambda x: x / 2, examples, PROTOCOL, batch_size=2)
  expected = [result.row for result in alone]

  def work(index: int) -> tuple[list[int], list[Round]]:
    own = _records(count)
    return own.read, _shared(own)

  shares = processes.play(num_processes, work, monkeypatch)
  for index, (read, rounds) in enumerate(shares):
    assert read == list(range(index, count, num_processes))
    assert [row for one in rounds for row in one.rows] == expected
    own = {i: r.row for one in rounds for i, r in one.results.items()}
    assert own == {i: expected[i] for i in read}
  # They meet as often, whatever their share is.
  assert len({len(rounds) for _, rounds in shares}) == 1


def test_processes_measure_max_images_in_all(monkeypatch):
  def work(index: int) -> list[str]:
    rounds = _shared(_records(7), max_images=4)
    return [row["name"] for one in rounds for row in one.rows]

  names = [f"image{i}" for i in range(4)]
  assert processes.play(3, work, monkeypatch) == [names] * 3


def test_an_unreadable_image_ends_all_processes_at_once(monkeypatch):
  monkeypatch.setattr(jax, "local_device_count", lambda: 1)
  records = _records(6)
  records[3] = ImageError("3.png: is damaged")
  rows = [[], []]

  def work(index: int) -> None:
    for one in evaluate_shared(
      None, _test_set(records), PROTOCOL, batch_size=1, max_images=0
    ):
      rows[index] += [row["name"] for row in one.rows]

  other, own = processes.play(2, work, monkeypatch)
  assert type(own) is ImageError and str(own) == "3.png: is damaged"
  assert str(other) == "process 1: 3.png: is damaged"
  assert rows == [["image0", "image1", "image2"]] * 2


def test_each_device_gets_a_batch(monkeypatch):
  restored = []

  def restore(images: np.ndarray) -> np.ndarray:
    restored.append(len(images))
    return images

  monkeypatch.setattr(jax, "local_device_count", lambda: 3)
  records = _Records([_records(1)[0]] * 14)
  rounds = evaluate_shared(
    restore, _test_set(records), PROTOCOL, batch_size=2, max_images=0
  )
  assert [len(one.rows) for one in rounds] == restored == [6, 6, 2]


def test_processes_that_see_other_files_are_refused(monkeypatch, tmp_path):
  for index, count in enumerate((2, 3)):
    folder = tmp_path / str(index) / "ours"
    folder.mkdir(parents=True)
    for i in range(count):
      write_image(folder / f"{i}.png", np.zeros((4, 4, 3), np.uint8))

  def work(index: int) -> None:
    test_sets.open_test_sets({"ours": OPTIONS}, str(tmp_path / str(index)))

  for error in processes.play(2, work, monkeypatch):
    assert str(error) == (
      "images per test set: {'ours': 2} in process 0, {'ours': 3} in process 1;"
      " all processes must read the same files"
    )


@pytest.mark.parametrize(
  ("field", "value", "least"), [("max_images", -1, 0), ("batch_size", 0, 1)]
)
def test_counts_that_are_none_are_refused(tmp_path, field, value, least):
  config = base.get_config("smoke").unlock()
  config.eval[field] = value
  message = f"config.eval.{field}={value} must be at least {least}"
  with pytest.raises(ValueError, match=message):
    evaluate.evaluate(
      config.eval,
      checkpoint_path=None,
      data_dir=str(tmp_path),
      output=tmp_path / "out",
      num_keys=None,
    )
  assert not list(tmp_path.iterdir())
  for begin in (setup.make_plan, lambda c: open_test_set(c, None, None)):
    with pytest.raises(ValueError, match=message):
      begin(config)


def test_processes_write_their_pictures_and_the_first_the_tables(
  monkeypatch, tmp_path
):
  (tmp_path / "ours").mkdir()
  for i in range(3):
    pixels = metrics.to_uint8(random_image(16, 16, 3, seed=i))
    write_image(tmp_path / f"ours/{i}.png", pixels)
  config = base.get_config("smoke").eval.unlock()
  config.update(max_images=0, num_pictures=2)
  config.sets = ConfigDict({"ours": OPTIONS})

  def run(index: int, folder: str) -> pathlib.Path:
    evaluate.evaluate(
      config,
      checkpoint_path=None,
      data_dir=str(tmp_path),
      output=tmp_path / folder,
      num_keys=None,
    )
    return tmp_path / folder

  def files(folder: pathlib.Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}

  alone = files(run(0, "alone"))
  assert "ours/comparison/1.png" in alone
  # A part of the set is another evaluation.
  assert json.loads(alone["results.json"])["protocol"]["max_images"] == 0
  work = lambda index: run(index, f"share{index}")  # noqa: E731
  first, second = map(files, processes.play(2, work, monkeypatch))
  assert not set(first) & set(second)
  assert first | second == alone
  assert set(second) == {f"ours/{view}/1.png" for view in BASELINE_VIEWS}


def test_an_image_that_cannot_be_measured_loses_no_batch_before(tmp_path):
  (tmp_path / "ours").mkdir()
  for i, side in enumerate((16, 16, 5)):
    pixels = metrics.to_uint8(random_image(side, side, 3, seed=i))
    write_image(tmp_path / f"ours/{i}.png", pixels)
  config = base.get_config("smoke").eval.unlock()
  config.update(max_images=0, batch_size=2)
  config.sets = ConfigDict({"ours": OPTIONS})
  with pytest.raises(ValueError, match="^2: .* or leave the image out"):
    evaluate.evaluate(
      config,
      checkpoint_path=None,
      data_dir=str(tmp_path),
      output=tmp_path / "out",
      num_keys=None,
    )
  with open(tmp_path / "out" / "ours_unfinished.csv") as file:
    assert [row["name"] for row in csv.DictReader(file)] == ["0", "1"]


@pytest.mark.parametrize(
  "changes", [{"ssim": "valdi"}, {"channel": "z"}, {"also": ("psnr_yy",)}]
)
def test_a_protocol_that_measures_nothing_is_refused(changes):
  options = {"batch_size": 1, "max_images": 0}
  loop.check_options(options | {"protocol": PROTOCOL | {"crop_px": 200}})
  with pytest.raises(ValueError, match="valdi|'z'|psnr_yy"):
    loop.check_options(options | {"protocol": PROTOCOL | changes})


def test_an_image_that_a_network_refuses_is_named():
  restorer = Restorer(small.USHAPE, small.params(small.USHAPE))
  gray = random_example("gray", 16, 16, 1)
  with pytest.raises(ValueError, match="^gray: images of 1 channels; this n"):
    list(evaluate_set(restorer, [gray], PROTOCOL, batch_size=1))


def test_an_image_too_small_to_be_measured_is_named():
  example = random_example("small", 5, 16, 3)
  with pytest.raises(ValueError, match="^small: .*needs 11 px on each side"):
    list(evaluate_set(None, [example], PROTOCOL, batch_size=1))
