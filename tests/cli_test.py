"""Bad input of the programs: one line on stderr, exit code 1, nothing left."""

import json
import logging as python_logging
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from absl import flags

from semanir_jax import bundled, cli
from semanir_jax.images.image_file import write_image
from semanir_jax.networks import manifest, run_folder
from tests import programs, small

pytestmark = pytest.mark.slow

SMOKE = "--config=configs/base.py:smoke"

# What follows "error: " on stderr, by name of the command of `_commands`.
MESSAGES = {
  "unknown_variant": "unknown variant 'smok': did you mean 'smoke'",
  "unknown_field": "'batch_sizee' Did you mean \"batch_size\"",
  "strange_field": "'cadence': the config has no such field; configs/base.py",
  "mistyped_field": "flag --config.train.batch_size=many: invalid literal",
  "missing_config": "denoize.py: no such config; did you mean denoise.py? ",
  "misspelt_name": "error: denoize.py: no such config; did you mean denoise.py",
  "config_that_fails": "fails.py: NameError: name 'undefined' is not defined",
  "config_without_suffix": "configs/sr: no such config; did you mean sr.py? ",
  "no_configs": "nowhere/sr.py: no such config; nowhere has none; ours are ",
  "empty_workdir": "flag --workdir=: give a folder",
  "empty_eval_workdir": "flag --workdir=: give a folder",
  "workdir_not_given": "flag --workdir=None: Flag --workdir must have a value",
  "unknown_flag": "Unknown command line flag 'workdr'. Did you mean: workdir",
  "stray_argument": "unexpected argument 'runs'; options start with --",
  "too_many_keys": "num_keys=17 must lie in [1, 16]",
  "window_too_small": "window_size=1: a window needs 2 tokens a side",
  "missing_training_folder": "nowhere: no such folder; config.data.train has ",
  "another_architecture": "2 is of another architecture or optimizer: ",
  "train_below_a_file": "cannot be made (Not a directory); choose another --w",
  "eval_without_checkpoint": "no checkpoint in ",
  "eval_too_many_keys": "num_keys=17 must lie in [1, 16]",
  "eval_two_things": "without a network: leave out --checkpoint, or --baseline",
  "eval_turned_mosaic": "filters elsewhere; leave out self_ensemble",
  "missing_input": "no such file or folder; check --input",
  "corrupt_input": "bad.png: ",
  "colour_input": "good.png: is a colour image, but the network is of gray",
  "missing_checkpoint": "nowhere; give the --workdir of a training run",
  "damaged_checkpoint": "checkpoints/2 cannot be read (",
  "wrong_parameters": "ema_params/conv_first/conv/bias: here (16,), there (8,)",
  "restore_too_many_keys": "num_keys=17 must lie in [1, 16], the most keys",
  "restore_no_keys": "flag --num_keys=0: 0 is not a positive integer",
  "output_below_a_file": "file is no writable folder); choose another --output",
  "output_is_the_input": "good.png: an input would be overwritten",
}


def _make_inputs(root: pathlib.Path) -> None:
  """What the commands read: images good and bad, checkpoints good and bad."""
  pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
  for name in ("good.png", "mixed/a.png", "mixed/c.png"):
    (root / name).parent.mkdir(exist_ok=True)
    write_image(root / name, pixels)
  half = (root / "good.png").read_bytes()[:300]
  for name in ("bad.png", "mixed/bad.png"):
    (root / name).write_bytes(half)
  (root / "file").touch()
  (root / "fails.py").write_text("def get_config():\n  return undefined\n")
  small.save_run(root / "color", small.config())
  gray = {"model__in_channels": 1, "model__out_channels": 1}
  small.save_run(root / "gray", small.config(**gray))
  mosaic = small.config().unlock()
  mosaic.data.degradation = {"name": "demosaic"}
  small.save_run(root / "mosaic", mosaic)
  shutil.copytree(root / "color", root / "damaged")
  step = root / "damaged" / run_folder.FOLDER / "2"
  arrays = (step / "ema_params" / "ocdbt.process_0" / "d").iterdir()
  largest = max(arrays, key=lambda path: path.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:100])
  shutil.copytree(root / "color", root / "wrong")
  step = root / "wrong" / run_folder.FOLDER / "2"
  (step / manifest.NAME).unlink()  # of a step before there were lists
  config = step / "config" / "metadata"
  config.write_text(small.config(model__dim=16).to_json())


def _commands(root: pathlib.Path) -> dict[str, tuple[str, ...]]:
  """The command lines; new output would be in `root / "new"`."""
  new = root / "new"

  def train(
    *arguments: str, config: str = SMOKE, workdir: pathlib.Path = new
  ) -> tuple[str, ...]:
    return ("train.py", config, f"--workdir={workdir}", *arguments)

  def evaluate(checkpoint_path: str, *arguments: str) -> tuple[str, ...]:
    path = f"--checkpoint={root / checkpoint_path}"
    return ("eval.py", SMOKE, f"--workdir={new}", path, *arguments)

  def restore(
    source: str = "good.png", run: str = "color", output: pathlib.Path = new
  ) -> tuple[str, ...]:
    return (
      "restore.py",
      f"--input={root / source}",
      f"--checkpoint={root / run}",
      f"--output={output}",
    )

  return {
    "unknown_variant": train(config="--config=configs/base.py:smok"),
    "unknown_field": train("--config.train.batch_sizee=4"),
    "strange_field": train("--config.train.cadence=2"),
    "mistyped_field": train("--config.train.batch_size=many"),
    "missing_config": train(config="--config=configs/denoize.py"),
    "misspelt_name": train(config="--config=denoize.py"),
    "config_that_fails": train(config=f"--config={root}/fails.py"),
    "config_without_suffix": train(config="--config=configs/sr"),
    "no_configs": train(config="--config=nowhere/sr.py"),
    "workdir_not_given": ("train.py", SMOKE),
    "empty_workdir": ("train.py", SMOKE, "--workdir="),
    "empty_eval_workdir": ("eval.py", SMOKE, "--workdir=", "--baseline"),
    "unknown_flag": ("train.py", SMOKE, f"--workdr={new}"),
    "stray_argument": train("runs"),
    "too_many_keys": train("--config.model.num_keys=17"),
    "window_too_small": train("--config.model.window_size=1"),
    "missing_training_folder": train(
      f"--config.data.train=('{root}/nowhere',)"
    ),
    "another_architecture": train(
      "--config.model.dim=16", workdir=root / "color"
    ),
    "train_below_a_file": train(workdir=root / "file" / "new"),
    "eval_without_checkpoint": evaluate("nowhere"),
    "eval_too_many_keys": evaluate("color", "--num_keys=17"),
    "eval_two_things": evaluate("color", "--baseline"),
    "eval_turned_mosaic": evaluate("mosaic", "--self_ensemble"),
    "missing_input": restore("none.png"),
    "corrupt_input": restore("bad.png"),
    "colour_input": restore(run="gray"),
    "missing_checkpoint": restore(run="nowhere"),
    "damaged_checkpoint": restore(run="damaged"),
    "wrong_parameters": restore(run="wrong"),
    "restore_too_many_keys": (*restore(), "--num_keys=17"),
    "restore_no_keys": (*restore(), "--num_keys=0"),
    "output_below_a_file": restore(output=root / "file" / "new"),
    "output_is_the_input": restore(output=root),
    "mixed_folder": restore("mixed", output=root / "restored"),
    "traceback": (*restore("none.png"), "--debug"),
    "help": ("restore.py", "--help"),
  }


def _snapshot(root: pathlib.Path) -> dict[str, bytes | None]:
  return {
    path.relative_to(root).as_posix(): path.read_bytes()
    if path.is_file()
    else None
    for path in root.rglob("*")
  }


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> dict[str, programs.Ended]:
  """All commands, run; what they changed on disk is the entry "left"."""
  root = tmp_path_factory.mktemp("cli")
  _make_inputs(root)
  before = _snapshot(root)
  results = programs.run_all(_commands(root), tmp_path_factory.mktemp("output"))
  after = _snapshot(root)
  changed = {k for k in before | after if before.get(k, 0) != after.get(k, 0)}
  return results | {"left": programs.Ended(0, json.dumps(sorted(changed)), "")}


@pytest.mark.parametrize("name", MESSAGES)
def test_bad_input_ends_with_one_line(ended, name):
  code, out, err = ended[name]
  errors = [line for line in err.splitlines() if line.startswith("error: ")]
  assert len(errors) == 1, err
  assert err.endswith(errors[0] + "\n"), err
  assert MESSAGES[name] in errors[0]
  assert "Traceback" not in err
  assert code == 1
  assert out == ""


def test_what_could_be_restored_is_all_that_is_left(ended):
  code, out, err = ended["mixed_folder"]
  assert code == 1
  last = err.splitlines()[-1]
  assert last.startswith("error: 1 of 3 images were not restored: bad.png;")
  assert "mixed/bad.png: " in err
  left = json.loads(ended["left"].out)
  assert left == ["restored", "restored/a.png", "restored/c.png"]


def test_debug_shows_the_traceback(ended):
  code, _, err = ended["traceback"]
  assert code == 1
  assert "Traceback" in err and "check --input" in err


def test_help_explains_the_flags(ended):
  _, out, _ = ended["help"]
  assert "Restores your images and films with a trained network." in out
  assert "--checkpoint: Network: a bundled name, a .safetensors file" in out


def test_restore_as_people_start_it(tmp_path):
  small.save_run(tmp_path / "run", small.config())
  pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
  write_image(tmp_path / "a.png", pixels)
  arguments = [
    f"--input={tmp_path / 'a.png'}",
    f"--output={tmp_path / 'out'}",
    f"--checkpoint={tmp_path / 'run'}",
  ]
  result = subprocess.run(
    [sys.executable, "restore.py", *arguments],
    capture_output=True,
    text=True,
    cwd=programs.ROOT,
    env={"JAX_PLATFORMS": "cpu", "PATH": "/usr/bin"},
  )
  assert result.returncode == 0, result.stderr
  assert (tmp_path / "out" / "a.png").is_file()
  line = result.stderr.splitlines()[-1]
  assert line.startswith(f"1 of 1, {tmp_path / 'out' / 'a.png'}, ")


@pytest.mark.parametrize(
  ("argument", "value"),
  [
    ("--output=~/x", "/home/me/x"),
    ("--output=~", "/home/me"),
    ("--output=~backup", "~backup"),
    ("--output=a=~/x", "a=~/x"),
  ],
)
def test_the_home_folder_is_meant_by_a_tilde(monkeypatch, argument, value):
  monkeypatch.setenv("HOME", "/home/me")
  values = flags.FlagValues()
  flags.DEFINE_string("output", None, "", flag_values=values)
  monkeypatch.setattr(flags, "FLAGS", values)
  cli._parse(["restore.py", argument])
  assert values.output == value


@pytest.mark.parametrize(
  ("text", "path", "variants"),
  [
    ("denoise.py", "denoise.py", None),
    ("configs/denoise.py:gray,s25", "denoise.py", "gray,s25"),
    ("denoise.py:", "denoise.py", ""),
    ("{here}/mine.py:a:b", "{here}/mine.py", "a:b"),
  ],
)
def test_a_config_is_found_by_path_or_name_from_every_folder(
  tmp_path, monkeypatch, text, path, variants
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "mine.py").touch()
  here = {"here": str(tmp_path)}
  ours = bundled.folder("configs")
  assert cli._split(text.format(**here)) == (
    (ours / path.format(**here)).resolve(),
    variants,
  )


def test_a_drive_letter_is_no_variant():
  with pytest.raises(flags.Error, match=r"^C:\\a\\b.py: no such config"):
    cli._split("C:\\a\\b.py:gray")


def test_a_config_imports_those_beside_it_then_ours(tmp_path, monkeypatch):
  monkeypatch.delitem(sys.modules, "configs", raising=False)
  # A foreign package of the same name, where Python looks first.
  foreign = tmp_path / "foreign" / "configs"
  foreign.mkdir(parents=True)
  (foreign / "__init__.py").touch()
  monkeypatch.syspath_prepend(foreign.parent)
  (tmp_path / "beside_the_config.py").write_text("SIGMA = 17")
  (tmp_path / "mine.py").write_text(
    "from configs import beside_the_config, denoise\n"
    "def get_config(arg=''):\n"
    "  config = denoise.get_config(arg).unlock()\n"
    "  config.seed = beside_the_config.SIGMA\n"
    "  return config\n"
  )
  config = cli._read_config(f"{tmp_path}/mine.py:gray")
  assert (config.seed, config.data.channels, config.is_locked) == (17, 1, True)


def test_what_a_full_disk_or_a_damaged_file_leaves_behind_is_not_told(
  monkeypatch,
):
  monkeypatch.setattr(cli, "DEBUG", types.SimpleNamespace(value=False))
  told = []
  monkeypatch.setattr(sys, "__unraisablehook__", told.append)
  for text in (
    "Event loop is closed",
    'NOT_FOUND: Error opening "zarr" driver: while reading /run/4/d/1',
    "something else",
  ):
    cli._unraisable(types.SimpleNamespace(exc_value=RuntimeError(text)))
  assert [str(error.exc_value) for error in told] == ["something else"]


@pytest.mark.parametrize(
  ("logger", "pathname", "level", "with_error", "shown"),
  [
    ("absl", "/x/semanir_jax/a.py", python_logging.INFO, False, True),
    ("absl", "/x/orbax/a.py", python_logging.INFO, False, False),
    ("absl", "/x/orbax/a.py", python_logging.WARNING, False, True),
    ("absl", "/x/orbax/a.py", python_logging.ERROR, True, False),
    ("asyncio", "/x/asyncio/a.py", python_logging.ERROR, True, False),
    ("absl", "/x/semanir_jax/a.py", python_logging.ERROR, True, True),
  ],
)
def test_what_other_packages_log_is_for_debugging(
  monkeypatch, logger, pathname, level, with_error, shown
):
  error = (ValueError, ValueError("disk full"), None) if with_error else None
  record = python_logging.LogRecord(
    logger, level, pathname, 1, "text", (), error
  )
  for debug in (False, True):
    monkeypatch.setattr(cli, "DEBUG", types.SimpleNamespace(value=debug))
    assert cli._is_for_the_user(record) is (shown or (debug and with_error))
