"""Records and committed files name no folder of the machine that made them."""

import json

import pytest
import safetensors

from semanir_jax.machine.portable_names import find_absolute, make_portable
from studies import clean_logs
from tests import checkout
from tests.checkout import ROOT

DATA_DIRS = ["/mnt/sets", "/mnt/sets/more/", "../sets", ""]
FOLDERS = ["/home/me/code", "/home/me", "C:\\code"]


@pytest.mark.parametrize(
  ("name", "expected"),
  [
    ("/mnt/sets", "DATA"),
    ("/mnt/sets/", "DATA/"),
    ("/mnt/sets/cbsd68/a.png", "DATA/cbsd68/a.png"),
    ("/mnt/sets/more/a.png", "DATA/a.png"),
    ("/mnt/sets2/a.png", ".../a.png"),
    ("../sets/div2k", "DATA/div2k"),
    ("../sets2/div2k", "../sets2/div2k"),
    ("('/mnt/sets/a', '../sets/b')", "('DATA/a', 'DATA/b')"),
    ("--config.data.data_dir=../sets", "--config.data.data_dir=DATA"),
    ("--workdir=/home/me/code/runs/a", "--workdir=runs/a"),
    ("read from /home/me/runs/a.", "read from runs/a."),
    ("/home/me/code", "."),
    ("--config=/home/me/code/c.py:color,s25", "--config=c.py:color,s25"),
    ("/opt/env/bin/python3.12", "python3.12"),
    ("C:\\Users\\me\\net.safetensors", ".../net.safetensors"),
    ("C:\\code\\runs\\a", "runs/a"),
    ("/tmp/net.safetensors, 5 bytes", ".../net.safetensors, 5 bytes"),
    # These mean the same everywhere.
    ("runs/a", "runs/a"),
    ("configs/denoise.py:color", "configs/denoise.py:color"),
    ("gs://bucket/sets", "gs://bucket/sets"),
    ("https://a.org/b", "https://a.org/b"),
    ("5 images/s, forward / backward", "5 images/s, forward / backward"),
    (
      "/jax/orbax/write/gbytes_per_sec: 2",
      "/jax/orbax/write/gbytes_per_sec: 2",
    ),
  ],
)
def test_a_name_means_the_same_on_every_machine(name, expected):
  found = make_portable(name, data_dirs=DATA_DIRS, folders=FOLDERS)
  assert found == expected
  assert not find_absolute(found)
  assert make_portable(found, data_dirs=["DATA"]) == found


def test_names_are_found_however_deep_they_lie():
  value = {"a": ("/tmp/x", 1, None), "b": [{"c": "/tmp/y"}], "/tmp": 0.5}
  expected = {"a": (".../x", 1, None), "b": [{"c": ".../y"}], "/tmp": 0.5}
  assert make_portable(value) == expected


def test_a_log_is_cleaned_once(tmp_path):
  path = tmp_path / "a.log"
  path.write_text("step 1\nno /mnt/sets/hide\nwritten: /home/me/a.bin\n")
  assert clean_logs.clean(path, ["/mnt/sets"], ["/home/me"])
  assert path.read_text() == "step 1\nno DATA/hide\nwritten: a.bin\n"
  assert not clean_logs.clean(path, ["/mnt/sets"], ["/home/me"])


def test_committed_records_name_no_folder_of_a_machine():
  names = checkout.list_files(
    "pretrained", "studies/results", "benchmarks/results"
  )
  texts = {
    name: (ROOT / name).read_text()
    for name in names
    if name.endswith((".csv", ".json", ".jsonl", ".log", ".md", ".tsv", ".txt"))
  }
  for name in names:
    if name.endswith(".safetensors"):
      with safetensors.safe_open(ROOT / name, framework="numpy") as file:
        texts[name] = json.dumps(json.loads(file.metadata()["config"]))
  assert len(texts) > 100
  found = {name: find_absolute(text) for name, text in texts.items()}
  assert not {name: paths for name, paths in found.items() if paths}
