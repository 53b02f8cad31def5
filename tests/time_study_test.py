"""Windows through time: against SemanIR, loops in float64, and known motion."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.images.image_file import write_image
from semanir_jax.models import windows
from semanir_jax.models.parameters import abstract_params
from semanir_jax.models.semanir import SemanIR
from semanir_jax.ops import build_dictionary
from semanir_jax.ops.bits import unpack_bits
from semanir_jax.summary import count_parameters
from studies import (
  time,
  time_arms,
  time_evaluation,
  time_maps,
  time_network,
  time_report,
  time_run,
  time_sequences,
)
from studies.time_arms import Recipe
from studies.time_network import TimeSemanIR
from tests import reference, small

pytestmark = pytest.mark.slow

SIZE = small.SIZE | {"num_heads": 2, "depths": (1, 1), "max_keys": 8}
THREE = TimeSemanIR(in_channels=9, frames=3, **SIZE)
RECIPE = Recipe(
  dim=4,
  depths=(1,),
  window_size=4,
  steps=4,
  side=8,
  test_side=8,
  motions=(0.0, 1.5),
)


def _random_params(model, seed=0):
  rng = np.random.RandomState(seed)
  return jax.tree.map(
    lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32),
    abstract_params(model),
  )


def _images(channels, height=10, width=12):
  rng = np.random.RandomState(1)
  return rng.uniform(0, 1, (2, height, width, channels)).astype(np.float32)


def _without_time(params):
  """Parameters of one frame: the row of dt is taken out."""

  def cut(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return leaf[:, :2] if name.endswith("position_bias/hidden/kernel") else leaf

  return jax.tree_util.tree_map_with_path(cut, params)


def test_with_one_frame_it_is_semanir_bit_for_bit():
  semanir, images = SemanIR(**SIZE), _images(3)
  model = TimeSemanIR(frames=1, **SIZE)
  params = _random_params(semanir)
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(
    jnp.shape, abstract_params(model)
  )
  expected = jax.jit(semanir.apply)({"params": params}, images)
  found = jax.jit(model.apply)({"params": params}, images)
  np.testing.assert_array_equal(found, expected)


def test_keys_of_the_own_frame_are_frame_by_frame_and_others_are_not():
  params, images = _random_params(THREE), _images(9)
  alone = THREE.clone(neighbours="none")
  expected = jax.jit(SemanIR(**SIZE).apply)(
    {"params": _without_time(params)}, images[..., 3:6]
  )
  found = jax.jit(alone.apply)({"params": params}, images)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  mixed = jax.jit(THREE.apply)({"params": params}, images)
  assert np.abs(mixed - expected).max() > 1e-2
  assert mixed.shape == (2, 10, 12, 3)


def _position_bias(params, frames, side):
  """`[A, N, N]` of loops over pairs of tokens, in float64."""
  hidden, heads = params["hidden"], params["heads"]["kernel"]

  def spaced(offset, size):
    t = 8.0 * offset / (size - 1)
    return math.copysign(math.log2(abs(t) + 1) / math.log2(8), t)

  tokens = list(np.ndindex(frames, side, side))
  bias = np.zeros((heads.shape[1], len(tokens), len(tokens)))
  for i, (t, y, x) in enumerate(tokens):
    for j, (u, v, w) in enumerate(tokens):
      place = [spaced(y - v, side), spaced(x - w, side), spaced(t - u, frames)]
      h = np.maximum(np.array(place) @ hidden["kernel"] + hidden["bias"], 0)
      bias[:, i, j] = 16 / (1 + np.exp(-(h @ heads)))
  return bias


def test_attention_over_three_frames_equals_loops_in_float64():
  frames, side, k, c, heads = 3, 4, 8, 8, 2
  attention = time_network.TimeAttention(heads, frames=frames)
  rng = np.random.RandomState(2)
  x = rng.normal(size=(1, 4, frames * side**2, c)).astype(np.float32)
  regions = time_network.regions(8, 8, side, (2, 2), frames=frames, alone=False)
  keys = build_dictionary(jnp.asarray(x), k, regions=regions)
  shapes = jax.eval_shape(attention.init, jax.random.key(0), x, keys)
  params = jax.tree.map(
    lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32),
    shapes["params"],
  )
  found = jax.jit(attention.apply)({"params": params}, x, keys)

  wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), params)
  qkv = x.astype(np.float64) @ wide["qkv"]["kernel"] + wide["qkv"]["bias"]
  qkv = qkv.reshape(*x.shape[:3], 3, heads, c // heads)
  query, key, value = (qkv[:, :, :, i] for i in range(3))
  query, key = (
    part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (query, key)
  )
  # Of its own: regions of the image, the same in all frames.
  own = np.tile(windows.regions(8, 8, side, (2, 2)), (1, frames))
  mask = reference.mask_of(reference.dictionary(x, k, own))
  out = reference.attention(
    query,
    key,
    value,
    mask,
    np.exp(np.minimum(wide["logit_scale"], math.log(100))),
    _position_bias(wide["position_bias"], frames, side),
  ).reshape(x.shape)
  expected = out @ wide["projection"]["kernel"] + wide["projection"]["bias"]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_window_holds_the_same_place_of_all_frames():
  frames, side, height, width = 3, 4, 8, 12
  x = np.arange(2 * frames * height * width).reshape(-1, height, width, 1)
  parts = windows.partition(jnp.asarray(x), side)
  tokens = np.asarray(time_network.join_frames(parts, frames))
  for b, g, t, s in np.ndindex(2, 6, frames, side**2):
    row, column = g // 3 * side + s // side, g % 3 * side + s % side
    expected = x[b * frames + t, row, column, 0]
    assert tokens[b, g, t * side**2 + s, 0] == expected
  np.testing.assert_array_equal(
    time_network.split_frames(tokens, frames), parts
  )


def test_kept_keys_are_k_and_their_shares_sum_to_one():
  image = _images(9, 8, 8)[0]
  restore = time_evaluation.make_restore(THREE)
  _, masks = restore(_random_params(THREE), image)
  assert len(masks) == 2
  for mask in map(np.asarray, masks):
    assert mask.shape == (4, 48, 48)
    # Regions of a shifted window have 2 x 2 tokens in 3 frames, at least.
    np.testing.assert_array_equal(mask.sum(-1), 8)
    counts = np.zeros(3)
    for _, query, key in zip(*np.nonzero(mask), strict=True):
      if query // 16 == 1:
        counts[key // 16] += 1
    shares = time_evaluation.shares_by_frame(mask, 3)
    np.testing.assert_allclose(shares, counts / (4 * 16 * 8))
    assert shares.sum() == pytest.approx(1) and shares.min() > 0


def _photograph(seed=0, height=80, width=90):
  rng = np.random.RandomState(seed)
  return rng.randint(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("step", [(0, 0), (4, 0), (-2, 6)])
def test_frames_of_a_pan_lie_as_far_apart_as_is_said(step):
  frames = time_sequences.pan("a", _photograph(), (20, 24), step, 16)
  down, right = (s // time_sequences.SCALE for s in step)
  for t in (0, 2):
    for y, x in np.ndindex(16, 16):
      v, w = y + (t - 1) * down, x + (t - 1) * right
      if 0 <= v < 16 and 0 <= w < 16:
        np.testing.assert_array_equal(frames[t, y, x], frames[1, v, w])


def test_a_pan_moves_by_half_a_pixel():
  columns = np.broadcast_to(2 * np.arange(90), (80, 90))
  ramp = np.stack([columns] * 3, axis=-1).astype(np.uint8)
  frames = time_sequences.pan("a", ramp, (20, 24), (0, 3), 16).astype(int)
  # 4 levels a pixel of a frame, and 1.5 of them from frame to frame.
  np.testing.assert_array_equal(frames[1] - frames[0], 6)
  np.testing.assert_array_equal(frames[2] - frames[1], 6)


def test_drawn_motion_has_all_speeds_and_stills():
  rng = np.random.default_rng(0)
  steps = np.array([time_sequences.draw_step(rng) for _ in range(2000)])
  speeds = np.hypot(*steps.T) / time_sequences.SCALE
  assert speeds.max() <= time_sequences.FASTEST + 0.5
  counts, _ = np.histogram(speeds, [0, 1e-6, 2, 4, 6, 9])
  assert counts.min() > 200
  assert np.unique(steps % 2, axis=0).shape == (4, 2)  # half pixels too


@pytest.fixture(scope="module")
def material(tmp_path_factory):
  """Photographs to train and to test on."""
  folder = tmp_path_factory.mktemp("photos")
  for part, count in (("train", 3), ("val", 2)):
    (folder / part).mkdir()
    for i in range(count):
      write_image(folder / part / f"{i}.png", _photograph(i))
  return time_evaluation.Material(
    time_sequences.Photographs(folder / "train"),
    time_sequences.Photographs(folder / "val"),
  )


def test_sequences_are_the_same_for_the_same_step_and_noise_is_per_frame(
  material,
):
  def draw(step, sigma):
    return time_sequences.training_batch(
      material.train, seed=1, step=step, count=2, side=8, sigma=sigma
    )

  one, again, other = draw(3, 25.0), draw(3, 25.0), draw(4, 25.0)
  np.testing.assert_array_equal(one["lq"], again["lq"])
  assert one["lq"].shape == (2, 8, 8, 9) and np.any(one["lq"] != other["lq"])
  clean = draw(3, 0.0)
  np.testing.assert_allclose(clean["lq"][..., 3:6], clean["hq"], atol=1e-6)
  make = time_sequences.make_test_sequence
  noisy, frames = make(material.test, 0, 0.0, 8, 25.0)
  np.testing.assert_array_equal(frames[0], frames[2])
  assert np.abs(noisy[..., :3] - noisy[..., 6:]).mean() > 0.05
  moved, _ = make(material.test, 0, 2.0, 8, 25.0)
  np.testing.assert_array_equal(moved[..., 3:6], noisy[..., 3:6])
  assert np.abs(moved[..., :3] - noisy[..., :3]).max() > 0.1
  with pytest.raises(ValueError, match="too small for frames of 42 px"):
    make(material.test, 0, 2.0, 42, 25.0)


def test_real_frames_are_three_in_a_row():
  names = ["b_07", "a_01", "a_03", "a_02", "a_04", "b_08", "a_05", "a_06"]
  found = time_sequences.find_triples([f"{name}.png" for name in names])
  assert found == [(1, 3, 2), (4, 6, 7)]
  assert not time_sequences.find_triples(["test000_13.png", "test000_19.png"])


class _Killed(BaseException):
  """Ends a run as a signal would: nothing is saved."""


@pytest.fixture(scope="module")
def killed_run(material, tmp_path_factory):
  """A run that was killed in its fourth step, two after it was saved; and its
  rows when it went on.
  """
  output = tmp_path_factory.mktemp("killed")
  draw = time_run.training_batch

  def kill(*args, step, **kwargs):
    if step == 3:
      raise _Killed
    return draw(*args, step=step, **kwargs)

  workdir = output / "runs" / "same_k_0"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(time_run, "training_batch", kill)
    with pytest.raises(_Killed):
      time_run.run(RECIPE, "same_k", 0, workdir, material, save_every=2)
  assert not (workdir / time_run.RESULT).exists()
  steps = []

  def note(*args, step, **kwargs):
    steps.append(step)
    return draw(*args, step=step, **kwargs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(time_run, "training_batch", note)
    assert time.compare(RECIPE, ["same_k"], [0], output, material)
  assert steps == [2, 3]
  return output


def test_a_run_that_was_killed_ends_as_one_that_was_not(
  killed_run, material, tmp_path, monkeypatch
):
  arm, workdir = time_arms.ARMS["same_k"], killed_run / "runs" / "same_k_0"
  time_run.train(RECIPE, arm, 0, tmp_path, material.train, 3)
  state = (workdir / time_run.STATE).read_bytes()
  assert state == (tmp_path / time_run.STATE).read_bytes()
  # What is complete is not made again; of another recipe it is refused.
  monkeypatch.setattr(time_run, "train", None)
  rows = time_run.run(RECIPE, "same_k", 0, workdir, material)
  assert rows is not None and [row["motion"] for row in rows] == [0.0, 1.5]
  for row in rows:
    assert row["seconds_per_step"] > 0 and 15 < row["input_psnr"] < 25
    shares = [row[f"stage_0_{place}"] for place in time_evaluation.PLACES]
    assert sum(shares) == pytest.approx(1)
  with pytest.raises(ValueError, match="another recipe"):
    time_run.run(RECIPE, "same_k", 1, workdir, material)


def test_maps_show_the_keys_of_the_middle_frames_token(
  killed_run, material, tmp_path
):
  rows = time_maps.study(
    killed_run / "runs" / "same_k_0",
    material.test,
    tmp_path,
    picture=1,
    motion=1.5,
    pixel=(5, 3),
  )
  assert [row["stage"] for row in rows] == [0] * 8  # as many as k
  assert all(
    4 <= row["kept_row"] < 8 and row["kept_column"] < 4 for row in rows
  )
  assert (tmp_path / "time_maps.png").stat().st_size > 10_000


def test_the_report_compares_runs_of_one_seed(tmp_path, killed_run):
  def row(arm, seed, motion, psnr, **shares):
    return {
      "arm": arm,
      "seed": seed,
      "motion": motion,
      "step": 4,
      "pictures": 2,
      "psnr": psnr,
      "input_psnr": 20.0,
      **shares,
      "parameters": 1000,
      "num_keys": 8,
      "window_tokens": 16,
      "gigaflops": 0.5,
      "gigaflops_mask": 0.6,
      "seconds_per_step": 0.25,
      "gigaflops_of": "8x8 px",
      "device": "cpu",
      "protocol": "sigma 25",
    }

  shares = {"previous": 0.25, "middle": 0.5, "next": 0.25}
  shares = {f"stage_0_{name}": value for name, value in shares.items()}
  rows = [
    row("frame", 0, 0.0, 28.0),
    row("frame", 1, 0.0, 30.0),
    row("same_k", 0, 0.0, 29.0, **shares),
    row("same_k", 1, 0.0, 30.5, **shares),
    row("same_k", 2, 0.0, 99.0, **shares),  # no frame by frame of this seed
  ]
  text = time_report.write(tmp_path, rows)
  assert "one frame, same seed | +0.750 ± 0.354 |" in text
  assert "| three frames, k as with one, stage 0 | 25 / 50 / 25 |" in text
  assert time_report.read(tmp_path / "runs.csv")[2]["stage_0_middle"] == 0.5
  assert (
    time_report.write(tmp_path, time_report.read(tmp_path / "runs.csv")) == text
  )
  assert (tmp_path / "time.png").stat().st_size > 10_000
  assert (
    "three frames, k as with one" in (killed_run / "summary.md").read_text()
  )


def test_what_does_not_fit_is_refused(material, tmp_path):
  with pytest.raises(ValueError, match="one_frame: use frame, same_k"):
    time.compare(RECIPE, ["one_frame"], [0], tmp_path, material)
  with pytest.raises(ValueError, match="<= 48, the tokens of a window"):
    THREE.clone(num_keys=49, max_keys=49)
  with pytest.raises(ValueError, match="an odd number of frames"):
    TimeSemanIR(frames=2, in_channels=6, **SIZE)


def test_arms_differ_in_parameters_by_what_the_docs_say():
  counts = {
    name: count_parameters(time_arms.make_model(Recipe(), arm))
    for name, arm in time_arms.ARMS.items()
  }
  layers = 8
  assert counts["same_k"] - counts["frame"] == 512 * layers
  assert counts["same_k"] == counts["same_share"] == counts["own_frame"]
  assert counts["channels"] - counts["frame"] == 6 * 9 * 30


def test_keys_of_all_frames_are_those_of_the_definition():
  tokens = np.random.RandomState(0).normal(size=(1, 1, 48, 4))
  tokens = tokens.astype(np.float32)
  regions = time_network.regions(4, 4, 4, (0, 0), frames=3, alone=True)
  keys = build_dictionary(jnp.asarray(tokens), 20, regions=regions)
  mask = np.asarray(unpack_bits(keys.bits, 48))[0, 0]
  frame = np.arange(48) // 16
  # All 16 of its own frame, which has no more.
  np.testing.assert_array_equal(mask, frame[:, None] == frame[None])
