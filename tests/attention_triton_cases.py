"""What the Triton attention must do; run by tests/attention_triton_test.py.

Its own process, because the interpreter has to be chosen before the kernels are
imported. Without TRITON_INTERPRET=1 the same cases run on a GPU, and bfloat16
too, which the interpreter cannot multiply.
"""

import contextlib
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from semanir_jax import ops
from semanir_jax.machine.sharding import DATA_AXES
from semanir_jax.models import windows
from semanir_jax.models.execution import Execution
from semanir_jax.models.semanir import SemanIR
from semanir_jax.models.stage import Stage
from semanir_jax.ops import triton_launch
from semanir_jax.ops.attention import api, triton_vjp
from semanir_jax.ops.attention.tile_table import Tiles
from semanir_jax.ops.bits import pack_bits
from semanir_jax.ops.dictionary.api import build_dictionary
from semanir_jax.training import losses as losses_lib
from semanir_jax.training.step import create_state, make_train_step
from tests import reference, small, triton_interpreter

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED:
  jax.config.update("jax_platforms", "cuda,cpu")
  jax.config.update("jax_disable_most_optimizations", False)
  # Or the mask form would be compared in TF32.
  jax.config.update("jax_default_matmul_precision", "highest")
NAMES = ("query", "key", "value", "scale", "bias")
# Relative to the largest number of an array.
TOLERANCES = {"float32": 1e-5, "float16": 3e-3, "bfloat16": 2e-2}
DTYPES = ["float32", "float16"] + ([] if INTERPRETED else ["bfloat16"])


@pytest.fixture(autouse=True)
def kernel_calls(monkeypatch):
  """Shapes of the queries; without a GPU, the interpreter for jax_triton."""
  shapes = []
  kernel = triton_vjp.key_semantic_attention_triton
  target = contextlib.nullcontext()
  if INTERPRETED:
    kernel = functools.partial(
      kernel, launcher=triton_interpreter.launch_in_jax
    )
    target = triton_launch.compile_for(90)
    monkeypatch.setattr(api, "_why_not_triton", lambda *unused: None)

  def run(query, *others):
    shapes.append(query.shape)
    return kernel(query, *others)

  monkeypatch.setattr(triton_vjp, "key_semantic_attention_triton", run)
  with target:
    yield shapes


def use_tiles(monkeypatch, block_q, block_k):
  """Tiles of a test's own, small so that a small window has several."""
  monkeypatch.setattr(
    triton_vjp,
    "choose_tiles",
    lambda *unused: Tiles(block_q, block_k, num_warps=4, num_stages=2),
  )


def make_case(shape, dtype="float32", seed=0):
  """Random arrays, in numbers that `dtype` holds exactly."""
  rng = np.random.default_rng(seed)
  n, a = shape[2:4]
  case = {
    name: np.asarray(jnp.asarray(rng.normal(size=shape), dtype), np.float64)
    for name in ("query", "key", "value", "cotangent")
  }
  case["scale"] = rng.uniform(0.3, 1.5, a).astype(np.float32)
  case["bias"] = rng.normal(size=(a, n, n)).astype(np.float32)
  return case


def random_mask(shape, num_keys, seed=0):
  """Bool `[B, G, N, N]`: `num_keys` keys a row, its own among them."""
  b, g, n = shape[:3]
  scores = np.random.default_rng(seed).normal(size=(b, g, n, n))
  scores[..., np.arange(n), np.arange(n)] = np.inf
  mask = np.zeros((b, g, n, n), bool)
  chosen = np.argsort(-scores, axis=-1)[..., :num_keys]
  np.put_along_axis(mask, chosen, True, axis=-1)
  return mask


def attend_and_differentiate(case, bits, dtype="float32"):
  """Output and gradients by name, as float64."""
  arrays = [jnp.asarray(case[name], dtype) for name in NAMES[:3]]
  arrays += [jnp.asarray(case[name]) for name in NAMES[3:]]

  @jax.jit
  def run(arrays, cotangent):
    def attend(*arrays):
      *qkv, scale, bias = arrays
      return triton_vjp.key_semantic_attention_triton(*qkv, bits, scale, bias)

    out, pullback = jax.vjp(attend, *arrays)
    return out, pullback(cotangent)

  out, gradients = run(arrays, jnp.asarray(case["cotangent"], dtype))
  assert out.dtype == dtype
  assert [x.dtype for x in gradients] == [x.dtype for x in arrays]
  results = (np.asarray(x, np.float64) for x in (out, *gradients))
  return dict(zip(("out", *NAMES), results, strict=True))


def assert_equals_reference(results, case, mask, dtype="float32"):
  arrays = [case[name] for name in ("query", "key", "value")]
  arrays += [mask, case["scale"], case["bias"]]
  expected = {
    "out": reference.attention(*arrays),
    **reference.attention_gradients(*arrays, case["cotangent"]),
  }
  for name, result in results.items():
    tolerance = TOLERANCES[dtype] * max(np.abs(expected[name]).max(), 1.0)
    if name == "scale":  # the errors of all rows, in one number
      tolerance *= np.sqrt(mask[..., 0].size)
    np.testing.assert_allclose(
      result, expected[name], rtol=0, atol=tolerance, err_msg=name
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
  ("shape", "num_keys", "tiles"),
  [
    ((1, 2, 64, 2, 30), 20, (32, 32)),
    ((1, 1, 64, 1, 16), 1, (64, 64)),
    ((1, 1, 81, 2, 30), 3, (32, 64)),
    ((2, 1, 49, 1, 40), 49, (16, 32)),
    ((1, 1, 70, 1, 5), 40, (64, 32)),
    ((1, 1, 1, 2, 4), 1, None),
    ((1, 1, 144, 1, 30), 50, None),
  ],
)
def test_forward_and_backward_equal_the_reference(
  monkeypatch, shape, num_keys, tiles, dtype
):
  if tiles is not None:
    use_tiles(monkeypatch, *tiles)
  case, mask = make_case(shape, dtype), random_mask(shape, num_keys)
  bits = pack_bits(jnp.asarray(mask))
  results = attend_and_differentiate(case, bits, dtype)
  assert_equals_reference(results, case, mask, dtype)


def test_rows_of_small_shift_regions_have_fewer_keys(monkeypatch):
  use_tiles(monkeypatch, 32, 32)
  shape = (1, 4, 36, 1, 6)
  regions = windows.regions(12, 12, 6, (3, 3))
  features = np.random.default_rng(0).normal(size=(1, 4, 36, 8))
  dictionary = build_dictionary(
    jnp.asarray(features, jnp.float32), 25, regions=regions
  )
  mask = reference.mask_of(reference.dictionary(features, 25, regions))
  assert mask.sum(-1).min() == 9 and mask.sum(-1).max() == 25
  case = make_case(shape)
  results = attend_and_differentiate(case, dictionary.bits)
  assert_equals_reference(results, case, mask)


def test_gradient_of_the_bias_is_summed_over_many_windows(monkeypatch):
  use_tiles(monkeypatch, 16, 32)
  shape = (2, 8, 9, 1, 4)  # two parts of eight windows
  case, mask = make_case(shape), random_mask(shape, 4)
  results = attend_and_differentiate(case, pack_bits(jnp.asarray(mask)))
  assert_equals_reference(results, case, mask)


def test_tiles_without_a_selected_pair_are_not_read(monkeypatch):
  use_tiles(monkeypatch, 32, 32)
  shape = (1, 2, 96, 1, 8)
  case = make_case(shape)
  # Window 0: the first and the last 32 tokens see themselves alone, and the 32
  # between them see the first. Window 1: all see the last.
  mask = np.zeros((1, 2, 96, 96), bool)
  mask[0, 0, :64, :32] = mask[0, 0, 64:, 64:] = mask[0, 1, :, 64:] = True
  clean = attend_and_differentiate(case, pack_bits(jnp.asarray(mask)))
  assert_equals_reference(clean, case, mask)
  poisoned = {name: np.array(x) for name, x in case.items()}
  poisoned["key"][0, 0, 32:64] = poisoned["value"][0, 0, 32:64] = np.nan
  poisoned["key"][0, 1, :64] = poisoned["value"][0, 1, :64] = np.nan
  poisoned["bias"][0, :32, 32:64] = np.nan
  results = attend_and_differentiate(poisoned, pack_bits(jnp.asarray(mask)))
  for name, result in results.items():
    np.testing.assert_array_equal(result, clean[name], name)


def test_no_gradient_reaches_an_unselected_key(monkeypatch):
  use_tiles(monkeypatch, 32, 32)
  shape = (1, 1, 40, 2, 8)
  case, mask = make_case(shape), random_mask(shape, 10)
  mask[..., 7] = mask[..., 33] = False
  results = attend_and_differentiate(case, pack_bits(jnp.asarray(mask)))
  for name in ("key", "value"):
    assert not results[name][:, :, [7, 33]].any()
    assert results[name][:, :, 6].all()
  selected = np.broadcast_to(mask[0], results["bias"].shape)
  assert not results["bias"][~selected].any()
  assert results["bias"][selected].all()


def test_order_of_the_keys_is_irrelevant(monkeypatch):
  use_tiles(monkeypatch, 32, 32)
  shape = (1, 1, 40, 1, 8)
  case, mask = make_case(shape), random_mask(shape, 10)
  order = np.random.default_rng(1).permutation(40)
  moved = {
    **case,
    "key": case["key"][:, :, order],
    "value": case["value"][:, :, order],
    "bias": case["bias"][..., order],
  }
  results = attend_and_differentiate(case, pack_bits(jnp.asarray(mask)))
  bits = pack_bits(jnp.asarray(mask[..., order]))
  others = attend_and_differentiate(moved, bits)
  for name in ("out", "query", "scale"):
    np.testing.assert_allclose(results[name], others[name], atol=1e-5)
  np.testing.assert_allclose(
    results["key"][:, :, order], others["key"], atol=1e-5
  )
  np.testing.assert_allclose(
    results["bias"][..., order], others["bias"], atol=1e-5
  )


def test_a_row_without_keys_gives_zeros_and_bits_beyond_the_window_nothing(
  monkeypatch,
):
  use_tiles(monkeypatch, 16, 32)
  shape = (1, 1, 20, 1, 8)
  case, mask = make_case(shape), random_mask(shape, 10)
  mask[0, 0, 3] = mask[0, 0, 16:] = False
  bits = np.asarray(pack_bits(jnp.asarray(mask))) | np.uint32(0xFFF00000)
  results = attend_and_differentiate(case, jnp.asarray(bits))
  for name in ("out", "query"):
    assert not results[name][0, 0, [3, *range(16, 20)]].any()
  assert not results["bias"][0, 3].any()
  kept = mask.any(-1)
  clean = {**case, "cotangent": case["cotangent"] * kept[..., None, None]}
  mask[~kept] = True  # the reference needs a key; without weight, none counts
  expected = attend_and_differentiate(clean, pack_bits(jnp.asarray(mask)))
  for name in ("key", "value", "scale", "bias"):
    np.testing.assert_allclose(results[name], expected[name], atol=1e-5)


def test_gradients_inside_shard_map_and_remat_are_those_of_one_device():
  shape = (4, 1, 9, 2, 4)
  case, mask = make_case(shape), random_mask(shape, 4)
  bits = pack_bits(jnp.asarray(mask))
  arrays = tuple(jnp.asarray(case[name], jnp.float32) for name in NAMES)

  def gradient(arrays, bits):
    def loss(arrays):
      *qkv, scale, bias = arrays
      attend = triton_vjp.key_semantic_attention_triton
      out = jax.checkpoint(attend)(*qkv, bits, scale, bias)
      return jnp.sum(out**2)

    return jax.grad(loss)(arrays)

  def local(arrays, bits):
    *rows, scale, bias = gradient(arrays, bits)
    return *rows, *jax.lax.psum((scale, bias), "data")

  count = min(2, jax.device_count())
  mesh = Mesh(np.array(jax.devices()[:count]), "data")
  rows, whole = PartitionSpec("data"), PartitionSpec()
  specs = (rows,) * 3 + (whole,) * 2
  sharded = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(specs, rows),
    out_specs=specs,
    check_vma=False,
  )
  for a, b in zip(
    jax.jit(sharded)(arrays, bits),
    jax.jit(gradient)(arrays, bits),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_stage_and_its_gradient_equal_those_of_the_mask_form(kernel_calls):
  images = np.random.default_rng(0).normal(size=(1, 8, 8, 8))
  images = jnp.asarray(images, jnp.float32)
  stage = Stage(depth=1, num_heads=2, window_size=4, max_keys=9, shifted=True)
  params = jax.jit(stage.init)(jax.random.key(0), images, 9)

  @functools.partial(jax.jit, static_argnums=0)
  def run(implementation, params):
    def loss(params, images):
      execution = Execution(implementation=implementation)
      form = stage.clone(execution=execution)
      return jnp.mean(form.apply(params, images, 9) ** 2)

    return jax.value_and_grad(loss, (0, 1))(params, images)

  results = [jax.tree.leaves(run("mask", params))]
  assert not kernel_calls
  results.append(jax.tree.leaves(run("triton", params)))
  assert set(kernel_calls) == {(1, 4, 16, 2, 4)}
  for a, b in zip(*results, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(a).max()))


# Half a minute of processor time in the interpreter.
@pytest.mark.skipif(INTERPRETED, reason="left to a GPU")
@pytest.mark.parametrize(
  ("side", "window_size", "dim", "dtype", "tolerance"),
  [(16, 8, 60, "float32", 1e-4), (64, 32, 180, "bfloat16", 2e-2)],
)
def test_train_steps_have_the_loss_of_the_mask_form(
  kernel_calls, side, window_size, dim, dtype, tolerance
):
  k = window_size**2 // 2
  model = SemanIR(
    architecture="columnar",
    depths=(1, 1),
    dim=dim,
    num_heads=max(1, dim // 30),
    window_size=window_size,
    num_keys=k,
    max_keys=k,
    execution=Execution(dtype=dtype),
  )
  optimizer = small.optimizer()
  create = functools.partial(create_state, seed=0, ema_decay=0.0)
  masked = model.with_execution(implementation="mask")
  start = jax.jit(lambda: create(masked, optimizer))()
  rng = np.random.default_rng(0)
  images = rng.uniform(size=(2, 2, side, side, 3)).astype(np.float32)
  batch = dict(zip(("lq", "hq"), images, strict=True))
  mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), DATA_AXES)

  def losses(implementation):
    step = make_train_step(
      model.with_execution(implementation=implementation),
      losses_lib.l1,
      optimizer,
      lambda step: 1e-3,
      mesh,
      ema_decay=0.0,
      random_num_keys=(),
      accumulate=1,
    )
    step, state, found = jax.jit(step), start, []
    for _ in range(2):
      state, metrics = step(state, batch)
      found.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.array(found)

  expected = losses("mask")
  assert not kernel_calls
  assert len(np.unique(expected)) == 4  # it learns
  np.testing.assert_allclose(losses("triton"), expected, rtol=tolerance)
  assert kernel_calls


def test_public_function_runs_the_kernel_when_asked(kernel_calls):
  shape = (1, 1, 9, 1, 4)
  case, mask = make_case(shape), random_mask(shape, 4)
  out = ops.key_semantic_attention(
    *(jnp.asarray(case[name], jnp.float32) for name in NAMES[:3]),
    ops.Dictionary(bits=pack_bits(jnp.asarray(mask))),
    scale=jnp.asarray(case["scale"]),
    bias=jnp.asarray(case["bias"]),
    implementation="triton",
  )
  assert kernel_calls == [shape]
  arrays = [case[name] for name in NAMES[:3]]
  expected = reference.attention(*arrays, mask, case["scale"], case["bias"])
  np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.skipif(INTERPRETED, reason="says something on a GPU alone")
def test_same_inputs_give_the_same_bits():
  shape = (2, 16, 1024, 6, 30)
  case, mask = make_case(shape, "bfloat16"), random_mask(shape, 512)
  bits = pack_bits(jnp.asarray(mask))
  first, second = (
    attend_and_differentiate(case, bits, "bfloat16") for _ in range(2)
  )
  for name, result in first.items():
    np.testing.assert_array_equal(result, second[name], name)
