"""Paths in buckets: what they do, and what they say of what goes wrong."""

import importlib.util
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from semanir_jax.data import listing, prepare
from semanir_jax.data.records import ArrayRecordSource
from semanir_jax.data.sources import ImageFolder, locate, open_source
from semanir_jax.images.image_file import read_image, write_image
from semanir_jax.machine import files
from semanir_jax.machine.files import FileError
from semanir_jax.restoration import planning
from semanir_jax.training import record, tensorboard
from tests import bucket_server, events
from tests.bucket_server import BUCKET

if importlib.util.find_spec("gcsfs") is None:
  pytest.skip("needs the extra gcs", allow_module_level=True)
pytestmark = [
  pytest.mark.slow,
  # aiohttp's advice to gcsfs.
  pytest.mark.filterwarnings("ignore:Sending a large body"),
]


@pytest.fixture(scope="module")
def running():
  """A server for all tests of this file."""
  with bucket_server.run_server() as server, pytest.MonkeyPatch.context() as m:
    for name, value in server.environment().items():
      m.setenv(name, value)
    yield server


@pytest.fixture
def server(running, monkeypatch):
  """The server, and libraries that do not wait between their trials."""
  bucket_server.do_not_wait(monkeypatch)
  yield running
  running.gone = False
  assert not running.left()


@pytest.fixture
def folder(running, request) -> pathlib.Path:
  """A folder of its own for every test."""
  return files.as_path(f"{BUCKET}/{request.node.name}")


def test_a_file_is_written_read_listed_and_removed(server, folder):
  path = folder / "below" / "a.txt"
  assert not path.exists() and not folder.exists() and not folder.is_dir()
  files.write_bytes(path, b"hello")
  assert files.read_bytes(str(path)) == b"hello" == path.read_bytes()
  assert path.is_file() and not path.is_dir() and folder.is_dir()
  assert path.stat().st_size == 5 and path.stat().st_mtime_ns > 1e18
  assert files.hash_file(path)[0] == 5
  files.write_bytes(path, b"changed")
  assert path.read_text() == "changed"
  assert [str(p) for p in folder.iterdir()] == [f"{folder}/below"]
  assert [p.is_dir() for p in folder.iterdir()] == [True]
  assert list(files.find_files(folder)) == [path]
  assert files.find_matches(f"{folder}/**/*.txt") == [path]
  path.replace(folder / "b.txt")
  (folder / "b.txt").replace(folder / "c.txt")
  assert list(files.find_files(folder)) == [folder / "c.txt"]
  (folder / "c.txt").unlink()
  (folder / "c.txt").unlink(missing_ok=True)
  assert not folder.exists()


def test_a_path_stays_one_of_a_bucket(folder):
  path = folder / "a.png"
  assert (
    str(files.as_path(path)) == str(path) == f"{BUCKET}/{folder.name}/a.png"
  )
  assert files.as_path(str(path)) == path == pickle.loads(pickle.dumps(path))
  assert path.parent == folder and path.with_suffix(".x").name == "a.x"
  assert path.relative_to(folder).as_posix() == "a.png"
  assert path.resolve() == path == path.absolute()
  assert files.is_bucket(path.with_name("b")) and not files.is_bucket("gs:/b")
  both = locate("sets/a,gs://other/b", str(folder))
  assert both == f"{folder}/sets/a,gs://other/b"
  assert locate("gs://other/b", "/data") == "gs://other/b"
  assert isinstance(files.as_path("/tmp"), pathlib.Path)


def test_what_is_there_for_a_while_is_waited_for(server, folder):
  server.fail("POST", 503, times=2)
  server.fail("POST", 429, times=2)
  files.write_bytes(folder / "a", b"whole")
  server.fail("GET", 503, times=3)
  assert files.read_bytes(folder / "a") == b"whole"


def test_a_write_that_is_cut_leaves_nothing_behind(server, folder):
  data = np.random.default_rng(0).bytes(2**20)
  server.fail("POST", "cut", times=6)
  with pytest.raises(FileError) as refused:
    files.write_bytes(folder / "a", data)
  assert str(refused.value).startswith(f"{folder}/a: cannot be written (cannot")
  assert "check the network" in str(refused.value)
  assert "\n" not in str(refused.value)
  assert not (folder / "a").exists()
  server.fail("POST", "cut", times=2)
  files.write_bytes(folder / "a", data)
  assert files.read_bytes(folder / "a") == data


def test_what_cannot_be_reached_does_not_count_as_not_there(server, folder):
  files.write_bytes(folder / "a", b"")
  server.gone = True
  for ask in (
    (folder / "a").exists,
    (folder / "a").is_file,
    folder.is_dir,
    lambda: list(folder.iterdir()),
    (folder / "a").stat,
  ):
    with pytest.raises(OSError, match="cannot be reached") as refused:
      ask()
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_is_told_how_he_may(server, folder, status):
  server.fail("POST", status)
  with pytest.raises(FileError) as refused:
    files.write_bytes(folder / "a", b"")
  message = str(refused.value)
  assert message.startswith(f"{folder}/a: cannot be written (access is refused")
  assert "gcloud auth application-default login" in message
  assert "\n" not in message


def test_a_bucket_that_is_not_there_is_named(server):
  for write in (files.make_folder, lambda path: files.write_bytes(path, b"")):
    with pytest.raises((OSError, FileError)) as refused:
      write("gs://nobody/has/this")
    assert "there is no bucket gs://nobody; make it" in str(refused.value)
  with pytest.raises(FileError, match="gs://nobody/a: there is no such object"):
    files.read_bytes("gs://nobody/a")


def test_without_the_package_its_name_is_said():
  code = (
    "import sys\n"
    "sys.modules['gcsfs'] = None\n"
    "from semanir_jax.machine import files\n"
    "files.read_bytes('gs://ours/a')\n"
  )
  ended = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True
  )
  assert ended.stderr.splitlines()[-1] == (
    "semanir_jax.machine.files.FileError: gs://ours/a: gs:// needs another"
    " package: pip install gcsfs"
  )


@pytest.fixture
def images(tmp_path) -> pathlib.Path:
  """A folder of three images, one in a subfolder."""
  rng = np.random.default_rng(0)
  for name in ("a.png", "b.png", "more/c.png"):
    path = tmp_path / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
  return tmp_path / "images"


@pytest.fixture
def uploaded(images, server, folder) -> pathlib.Path:
  """The same images in a bucket."""
  for path in files.find_files(images):
    files.put(path, folder / path.relative_to(images).as_posix())
  return folder


def test_a_folder_of_images_is_read_as_on_a_disk(images, uploaded):
  here, there = (
    open_source(str(root), recursive=True) for root in (images, uploaded)
  )
  assert isinstance(there, ImageFolder) and len(there) == 3
  for a, b in zip(here, there, strict=True):
    assert a["name"] == b["name"]
    np.testing.assert_array_equal(a["image"], b["image"])
  assert len(listing.list_images(uploaded)) == 2
  (uploaded / "bad.png").write_bytes(b"no image")
  with pytest.raises(ValueError, match=f"{uploaded}/bad.png"):
    ImageFolder(uploaded)


def test_a_pack_is_written_and_goes_on_in_a_bucket(
  images, server, folder, tmp_path
):
  options = {"recursive": True, "images_per_shard": 2}
  local = prepare.prepare(images, tmp_path / "pack", **options)
  server.fail("POST .*00001-of", "cut", times=6)
  with pytest.raises(ValueError, match="run the same command again"):
    prepare.prepare(images, folder, **options)
  assert not (folder / "data-00001-of-00002.array_record").exists()
  with pytest.raises(ValueError, match="is not finished"):
    ArrayRecordSource(folder)
  assert prepare.prepare(images, folder, **options) == local
  names = {path.name for path in files.find_files(folder)}
  assert names == {path.name for path in (tmp_path / "pack").iterdir()}
  here, there = ArrayRecordSource(tmp_path / "pack"), ArrayRecordSource(folder)
  for a, b in zip(here, there, strict=True):
    np.testing.assert_array_equal(a["image"], b["image"])


def test_restoring_plans_what_lies_in_a_bucket(uploaded, folder, tmp_path):
  target = files.as_path(f"{folder}_results")
  jobs = planning.plan(str(uploaded), str(target))
  assert [str(job.result) for job in jobs] == [
    f"{target}/{name}" for name in ("a.png", "b.png", "more/c.png")
  ]
  assert not jobs[0].is_done()
  files.write_bytes(jobs[0].result, b"")
  assert jobs[0].is_done()
  jobs = planning.plan(f"{uploaded}/*.png", str(tmp_path))
  assert [job.name for job in jobs] == ["a.png", "b.png"]
  with pytest.raises(ValueError, match="there is no bucket gs://nobody"):
    planning.plan(str(uploaded), "gs://nobody/results")
  write_image(target / "d.png", read_image(uploaded / "a.png"))
  np.testing.assert_array_equal(
    read_image(target / "d.png"), read_image(uploaded / "a.png")
  )


def test_a_film_of_a_bucket_is_refused_by_name(folder, tmp_path):
  (tmp_path / "clip.mp4").touch()
  with pytest.raises(ValueError, match=r"gs://.*clip\.mp4: films are read"):
    planning.plan(str(tmp_path / "clip.mp4"), str(folder))


def test_the_record_of_starts_grows(server, folder):
  for step in (0, 2):
    record.record_start(folder, step, {})
  lines = (folder / record.STARTS).read_text().splitlines()
  assert len(lines) == 2 and '"step": 2' in lines[1]


def test_tensorboard_reads_what_was_written(server, folder):
  writer = tensorboard.create_writer(str(folder))
  for step in (1, 2):
    writer.write_scalars(step, {"train/loss": 0.5 * step})
  writer.close()
  assert events.scalars(folder)["train/loss"] == {1: 0.5, 2: 1.0}


def test_a_trace_written_here_lies_there(server, folder):
  with files.local_folder(folder) as local:
    (local / "plugins" / "a").mkdir(parents=True)
    (local / "plugins" / "a" / "b.pb").write_bytes(b"trace")
  assert files.read_bytes(folder / "plugins" / "a" / "b.pb") == b"trace"
