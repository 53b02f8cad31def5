"""Which files of a folder are images."""

import os
import pathlib

import pytest

from semanir_jax.data import listing
from semanir_jax.images.image_file import ImageError


def _touch(folder: pathlib.Path, *names: str) -> None:
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def test_list_images(tmp_path, caplog):
  caplog.set_level("INFO")
  tmp_path = tmp_path / ".hidden itself"
  _touch(
    tmp_path,
    *("b.PNG", "a.jpeg", "d.jfif", "e.JPE", "f.dib", "g.HEIC", "h.avif"),
    "._a.png",
    ".DS_Store",
    "sub/c.tif",
    ".thumbnails/a.png",
    "sub/.thumbnails/deep/c.png",
  )
  (tmp_path / "folder.png").mkdir()
  (tmp_path / "link.png").symlink_to(tmp_path / "folder.png")
  found = listing.list_images(tmp_path)
  names = ["a.jpeg", "b.PNG", "d.jfif", "e.JPE", "f.dib", "g.HEIC", "h.avif"]
  assert [p.name for p in found] == names
  found = listing.list_images(tmp_path, recursive=True)
  assert [p.name for p in found] == [*names, "c.tif"]
  assert not caplog.records
  with pytest.raises(ImageError, match="none: no such folder"):
    listing.list_images(tmp_path / "none")


def test_files_of_other_kinds_are_told(tmp_path, caplog):
  caplog.set_level("INFO")
  others = ("a.psd", "sub/b.PSD", "c.psd", "d.gif", "sub/e.gif", "README")
  _touch(tmp_path, "a.png", *others)
  listing.list_images(tmp_path, recursive=True)
  message = "not read, files of other kinds: 3 .psd, 2 .gif, 1 without a suffix"
  assert f"{tmp_path}: {message}" in caplog.text
  _touch(tmp_path, "x.a", "x.b", "x.c")
  listing.list_images(tmp_path)
  assert caplog.records[-1].getMessage().endswith(", ...")


def test_a_folder_of_other_kinds_holds_no_image(tmp_path):
  _touch(tmp_path, "a.psd", "b.psd")
  (tmp_path / "empty").mkdir()
  with pytest.raises(ImageError, match=r"other kinds \(2 .psd\); images are"):
    listing.list_images(tmp_path)
  with pytest.raises(ImageError, match=r"empty: holds no image; images are"):
    listing.list_images(tmp_path / "empty")


def test_folders_are_entered_through_links_but_not_in_circles(tmp_path):
  _touch(tmp_path / "in", "a.png")
  _touch(tmp_path / "else/where", "b.png")
  (tmp_path / "in/linked").symlink_to(tmp_path / "else")
  (tmp_path / "else/where/back").symlink_to(tmp_path / "in")
  (tmp_path / "in/self").symlink_to(tmp_path / "in")
  found = listing.list_images(tmp_path / "in", recursive=True)
  names = [path.relative_to(tmp_path / "in").as_posix() for path in found]
  assert names == ["a.png", "linked/where/b.png"]


def test_a_subfolder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
  _touch(tmp_path / "in/closed", "a.png")
  scan = os.scandir

  def scandir(path):
    if str(path).endswith("closed"):
      raise PermissionError(13, "Permission denied", str(path))
    return scan(path)

  monkeypatch.setattr(os, "scandir", scandir)
  with pytest.raises(ImageError, match="in/closed: Permission denied; check"):
    listing.list_images(tmp_path / "in", recursive=True)
