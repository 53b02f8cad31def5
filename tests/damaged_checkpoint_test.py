"""Any file of a checkpoint may be missing, empty, cut short or changed.

Each file of a run of two steps is damaged in turn. What is read then is right
to the last bit, or refused in a line that names the step and the remedy.
"""

import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest
from jax.sharding import SingleDeviceSharding

from semanir_jax.networks import checkpoint, manifest, run_folder
from semanir_jax.networks.build import CheckpointError
from semanir_jax.training.checkpoints import Checkpoints, abstract_like
from tests import small

pytestmark = pytest.mark.slow

CONFIG = checkpoint.config_to_json(small.config())
SCORES = {2: 31.0, 4: 30.0}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
  """A workdir with the steps 2, the best, and 4, the newest."""
  workdir = tmp_path_factory.mktemp("saved") / "run"
  checkpoints = _open(workdir)
  for step, score in SCORES.items():
    position = {"batches_taken": step}
    checkpoints.save(step, small.plain_state(step), position, CONFIG, score)
  checkpoints.close()
  return workdir


@pytest.fixture
def run(saved, tmp_path) -> pathlib.Path:
  """A copy of `saved`."""
  return pathlib.Path(shutil.copytree(saved, tmp_path / "run"))


def _open(workdir: pathlib.Path) -> Checkpoints:
  return Checkpoints(str(workdir), keep=3, keep_best=1, measure="sigma 25")


def _cut(file: pathlib.Path) -> None:
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(file: pathlib.Path) -> None:
  """Changes one bit in the middle."""
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1
  file.write_bytes(data)


DAMAGE = {
  "flipped": _flip,
  "missing": pathlib.Path.unlink,
  "empty": lambda file: file.write_bytes(b""),
  "cut": _cut,
}


def _damaged(workdir: pathlib.Path, damage: str, step: int) -> Iterator[str]:
  """Yields the names of all files of a step, each while it is damaged."""
  folder = workdir / run_folder.FOLDER / str(step)
  files = sorted(path for path in folder.rglob("*") if path.is_file())
  assert len(files) > 25
  for file in files:
    whole = file.read_bytes()
    DAMAGE[damage](file)
    yield file.relative_to(folder).as_posix()
    file.write_bytes(whole)


def _is_needed(name: str) -> bool:
  """Says whether a file of a step holds what a run goes on from."""
  return (
    "/" in name
    and not name.startswith("metrics/")
    and not name.endswith(("_CHECKPOINT_METADATA", "commit_success.txt"))
  )


def _or_refused(attempt: Callable[[], Any], step: pathlib.Path) -> Any:
  """Returns what an attempt returns, or None where it refuses the step."""
  try:
    return attempt()
  except CheckpointError as error:
    message = str(error)
    other = 6 - int(step.name)
    assert message.startswith(f"{step} cannot be read (")
    assert message.endswith(f"move it away and use step {other}")
    assert "\n" not in message and len(message) < 700
    return None


def _restore(workdir: pathlib.Path) -> Any:
  """Returns what a run goes on from, and its best step."""
  state = small.plain_state(4)
  device = SingleDeviceSharding(jax.devices()[0])
  shapes = jax.eval_shape(lambda s: s, state)
  shapes = abstract_like(shapes, jax.tree.map(lambda _: device, shapes))
  checkpoints = _open(workdir)
  try:
    return checkpoints.restore_latest(shapes), checkpoints.best()
  finally:
    checkpoints.close()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_goes_on_exactly_or_says_why_not(run, damage, warnings):
  num_refused, step = 0, run / run_folder.FOLDER / "4"
  for name in _damaged(run, damage, 4):
    warnings.clear()
    found = _or_refused(lambda: _restore(run), step)
    if found is None:
      assert not name.endswith(("_CHECKPOINT_METADATA", "commit_success.txt"))
      assert not name.startswith("metrics/")
      num_refused += 1
      continue
    assert damage != "flipped" or not _is_needed(name), name
    (state, data, config), best = found
    small.assert_equal_trees(state, small.plain_state(4))
    assert data == {"batches_taken": 4} and config == CONFIG
    assert best == (2, 31.0)
    assert all(f"{step}/{name}" in line for line in warnings), warnings
  # Of five items an index at least, and of three of them more.
  assert num_refused >= 14
  # As the line says.
  shutil.rmtree(step)
  (state, data, _), _ = _restore(run)
  small.assert_equal_trees(state, small.plain_state(2))
  assert data == {"batches_taken": 2}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_older_step_keeps_no_run_from_going_on(run, damage, warnings):
  step = run / run_folder.FOLDER / "2"
  for name in _damaged(run, damage, 2):
    warnings.clear()
    checkpoints = _open(run)
    assert checkpoints.newest() == 4
    lost = name == "metrics/metrics"
    # A list that cannot be read vouches for nothing.
    lost |= name == manifest.NAME and damage in ("empty", "cut")
    assert checkpoints.best() == ((4, 30.0) if lost else (2, 31.0))
    if lost:
      (warning,) = warnings
      assert warning.startswith(f"{step}/metrics/metrics cannot be read (")
      assert "\n" not in warning and "step 2 counts as not measured" in warning
    checkpoints.close()


def test_steps_of_before_the_lists_are_read_as_they_are(run):
  (run / run_folder.FOLDER / "4" / manifest.NAME).unlink()
  (state, data, config), best = _restore(run)
  small.assert_equal_trees(state, small.plain_state(4))
  assert data == {"batches_taken": 4} and config == CONFIG
  assert best == (2, 31.0)


def test_a_flipped_bit_is_named_in_one_line(run):
  step = run / run_folder.FOLDER / "4"
  (data,) = (step / "training" / "d").iterdir()
  _flip(data)
  with pytest.raises(CheckpointError) as refused:
    _restore(run)
  assert str(refused.value) == (
    f"{step} cannot be read (the bytes of training/d/{data.name} are not those"
    " that were saved); it is damaged or not of semanir_jax: move it away and"
    " use step 2"
  )


def test_a_step_is_never_there_without_its_list(tmp_path, monkeypatch):
  def fail(step: pathlib.Path) -> None:
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(manifest, "write_manifest", fail)
  checkpoints = _open(tmp_path / "run")
  checkpoints.save(2, small.plain_state(2), {}, CONFIG)
  with pytest.raises(CheckpointError, match="No space left on device"):
    checkpoints.close()
  assert _open(tmp_path / "run").newest() is None


def test_a_step_whose_score_is_lost_stays_as_the_newest_do(run):
  (run / run_folder.FOLDER / "2" / "metrics" / "metrics").write_text("")
  checkpoints = _open(run)
  for step in (6, 7, 8):
    checkpoints.save(step, small.plain_state(step), {}, CONFIG, 29.0)
  checkpoints.close()
  steps = {path.name for path in (run / run_folder.FOLDER).iterdir()}
  assert steps == {"4", "6", "7", "8"}


@pytest.mark.parametrize("text", ["null", "[31.0]", '"31"', '{"psnr": "high"}'])
def test_scores_of_another_program_are_none(run, text, warnings):
  step = run / run_folder.FOLDER / "2"
  (step / "metrics" / "metrics").write_text(text)
  checkpoints = _open(run)
  assert checkpoints.best() == (4, 30.0)
  checkpoints.close()
  assert len(warnings) == 1 and str(step) in warnings[0]


@pytest.mark.parametrize("damage", DAMAGE)
def test_inference_is_exact_or_says_why_not(run, damage, monkeypatch):
  shapes = jax.eval_shape(lambda: small.plain_state(4).ema_params)
  monkeypatch.setattr(checkpoint, "abstract_params", lambda _: shapes)
  num_refused, step = 0, run / run_folder.FOLDER / "4"
  for name in _damaged(run, damage, 4):
    found = _or_refused(lambda: _load(run), step)
    if found is None:
      assert name.startswith(("config/", "ema_params/", manifest.NAME))
      num_refused += 1
    else:
      small.assert_equal_trees(found, small.plain_state(4).ema_params)
    if "/" not in name or name.startswith("metrics/"):
      older = _load(step.with_name("2"))
      small.assert_equal_trees(older, small.plain_state(2).ema_params)
  assert num_refused >= 4


def _load(path: pathlib.Path) -> Any:
  return checkpoint.load_for_inference(str(path)).params
