"""The benchmarks of attention and of whole networks run, go on where they were
cut off, and compare equal things; their figures are not tested."""

import importlib
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
  attention,
  attention_jax,
  attention_memory,
  models,
  models_jax,
)
from benchmarks.attention_cases import Case, Rule, cases, make_rule
from benchmarks.model_cases import QUICK_NETWORKS
from benchmarks.result_file import ResultFile
from benchmarks.worker import Worker, call_here
from semanir_jax.ops import bits as bits_lib
from semanir_jax.ops.attention.mask import mask_attention

pytestmark = pytest.mark.slow


class Here:
  """A worker that is this process; remembers what it was asked."""

  calls: list[tuple[str, object]] = []

  def __enter__(self):
    return self

  def __exit__(self, *error):
    pass

  def call(self, function, *arguments):
    self.calls.append((function, *arguments))
    answer = call_here(function, json.loads(json.dumps(arguments)))
    return json.loads(json.dumps(answer))


@pytest.fixture
def here(monkeypatch):
  """Benchmarks call their functions in this process, and find no torch."""
  monkeypatch.setattr(Here, "calls", [])
  monkeypatch.setitem(sys.modules, "torch", None)
  for program in (attention, attention_memory, models):
    monkeypatch.setattr(program, "Worker", Here)
  for name in ("attention_torch", "models_torch", "dense_window_torch"):
    monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)

  def run_once(call, wait):
    wait(call())
    return 2.0

  # Repeats would take longer than the rest.
  monkeypatch.setattr(attention_jax, "median_ms", run_once)
  monkeypatch.setattr(models_jax, "median_ms", run_once)
  return Here.calls


@pytest.mark.parametrize(
  ("program", "compared", "apart"),
  [
    (attention, ("mask", "gather"), ("triton", "sdpa", "flex")),
    (
      attention_memory,
      ("mask", "gather", "whole mask", "whole gather"),
      ("triton",),
    ),
    (models, ("quick",), ("dense quick",)),
  ],
)
def test_benchmarks_run_on_the_cpu_and_make_no_row_twice(
  here, tmp_path, program, compared, apart
):
  path = tmp_path / "rows.json"
  program.measure(ResultFile(path), quick=True)
  results = ResultFile(path)
  name = "network" if program is models else "form"
  made = {row[name] for row in results.rows if "skipped" not in row}
  assert made == set(compared)
  assert {row[name] for row in results.rows} - made == set(apart)
  assert all(row["run"] == 0 for row in results.rows)
  assert results.runs[0]["versions"]["jax"] == jax.__version__
  assert results.runs[0]["matrix_teraflops"] > 0
  print_tables = models.table if program is models else program.tables
  lines = list(print_tables(results, True))
  assert sum(line.startswith("|") for line in lines) >= 4
  # Without one of the rows: that one alone is made, and those skipped.
  lost = next(row for row in results.rows if "skipped" not in row)
  results.rows.remove(lost)
  here.clear()
  program.measure(results, quick=True)
  forms = [call[1][1 if name == "form" else 0] for call in here[1:]]
  assert forms.count(lost[name]) == 1
  assert set(forms) <= {lost[name], *apart}


def test_a_worker_answers_dies_and_starts_again():
  with Worker() as worker:
    assert worker.call("builtins:print", "noise") is None
    assert worker.call("math:sqrt", 9) == 3
    assert worker.call("math:sqrt", -1)["error"].startswith("ValueError: ")
    assert "died with code 3" in worker.call("os:_exit", 3)["error"]
    assert worker.call("math:sqrt", 16) == 4
    missing = "benchmarks.no_such_module"
    assert missing in worker.call(f"{missing}:f")["error"]
  with Worker(timeout_s=0.5) as worker:
    assert worker.call("time:sleep", 60) == {"error": "no answer in 0.5 s"}


def test_a_cpu_is_not_measured_at_the_sizes_of_a_gpu(here):
  with pytest.raises(ValueError, match="no GPU here.*--quick"):
    attention.measure(ResultFile(None), quick=False)


def test_rows_of_two_devices_do_not_mix(tmp_path):
  path, (case, *_) = tmp_path / "rows.json", cases(("mask",), True)
  results = ResultFile(path)
  results.begin({"device_kind": "NVIDIA H100 80GB HBM3"})
  results.add(case, {"error": "out of memory"})
  again = ResultFile(path)
  assert again.find(case)["error"] == "out of memory"
  assert case not in list(again.missing(cases(("mask",), True)))
  with pytest.raises(ValueError, match="rows of NVIDIA H100 .* not of NVIDIA"):
    again.begin({"device_kind": "NVIDIA H200"})


@pytest.mark.parametrize("num_keys", [1, 20, 64])
def test_a_rule_keeps_the_same_keys_as_bits_and_as_indices(num_keys):
  rule = make_rule(3, 64)
  mask = rule.mask(np.arange(64), 64, num_keys)
  assert (mask.sum(-1) == num_keys).all()
  indices = rule.indices(np.arange(num_keys), 64)
  assert np.take_along_axis(mask, indices, -1).all()
  distinct = len(np.unique(mask.reshape(-1, 64), axis=0))
  assert num_keys == 64 or distinct > 30
  arguments = {}
  for form in ("mask", "gather"):
    case = Case("training", form, "patches", 64, 3, num_keys)
    _, shapes = attention_jax.make_program(*case[:2], 3, 64, num_keys, "cpu")
    arrays = attention_jax.make_arrays(shapes, case)
    for array, shape in zip(
      jax.tree.leaves(arrays), jax.tree.leaves(shapes), strict=True
    ):
      assert (array.shape, array.dtype) == (shape.shape, shape.dtype)
    arguments[form] = arrays[1]
  bits = bits_lib.unpack_bits(arguments["mask"].bits, 64)
  np.testing.assert_array_equal(bits[0], mask)
  np.testing.assert_array_equal(arguments["gather"].indices[0], indices)


def test_whole_forms_are_ours_without_chunks():
  outs = {}
  for form in ("mask", "gather", "whole mask", "whole gather"):
    case = Case("forward", form, "patches", 64, 2, 8)
    program, shapes = attention_jax.make_program(*case[:2], 2, 64, 8, "cpu")
    arrays = attention_jax.make_arrays(shapes, case)
    outs[form] = jax.jit(program)(*arrays).astype(jnp.float32)
  for out in outs.values():
    np.testing.assert_allclose(out, outs["mask"], atol=5e-3)
  assert np.abs(outs["mask"]).max() > 0.1


def test_goals_are_judged_by_the_rows_of_one_shape():
  results = ResultFile(None)
  run = {"device_kind": "x", "matrix_teraflops": 800.0, "copy_gb_s": 4000.0}
  results.begin(run)
  times = {"triton": 1.0, "mask": 1.9, "gather": 30.0, "sdpa": 4.0, "flex": 1.0}
  for case in cases(tuple(times), False):
    results.add(case, {"ms": times[case.form], "peak_mib": 5.0})
  found = [line.split(" | ")[-1] for line in attention.goals(results)]
  assert found == ["1.90 on x: missed |", "1.00 on x: met |"] * 2
  lines = "\n".join(attention.tables(results, False))
  # 2 products x 2 operations x 128 windows x 6 heads x 1024^2 pairs x 30
  # channels in 1 ms are 96.6 TFLOP/s.
  assert "| 128 x 1024 | 512 | 1 | 1.9 (1.90) | 30 (30.00) | 4 (4.00)" in lines
  assert "| 12% / 6% | 5 / 5 / 5 / 5 / 5 |" in lines
  assert "| 60 x 1024 | 512 |" in lines and "| 920 x 64 | 64 |" in lines


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("form", ["sdpa", "flex"])
def test_torch_computes_what_the_mask_form_does(form):
  torch = pytest.importorskip("torch")
  attention_torch = importlib.import_module("benchmarks.attention_torch")
  n, windows, heads = 64, 2, 6
  rng = np.random.default_rng(0)
  tokens = rng.normal(size=(4, windows, heads, n, 30)).astype(np.float32) / 5
  scale = np.linspace(5, 10, heads).astype(np.float32)
  bias = rng.normal(size=(heads, n, n)).astype(np.float32)
  mask = make_rule(windows, n).mask(np.arange(n), n, 20)
  bits = bits_lib.pack_bits(jnp.asarray(mask))

  def to_ours(x):
    return jnp.asarray(x.transpose(0, 2, 1, 3)[None])

  def ours(*arrays):
    *qkv, scale, bias = arrays
    return mask_attention(*qkv, bits[None], scale, bias)

  out, pull = jax.vjp(ours, *map(to_ours, tokens[:3]), scale, bias)
  expected = [out, *pull(to_ours(tokens[3]))]
  leaves = [torch.tensor(x) for x in (*tokens[:3], scale, bias)]
  if form == "sdpa":
    selection = torch.tensor(mask)[:, None]
    for leaf in leaves:
      leaf.requires_grad_()
  else:  # backward it runs on a GPU alone
    words = attention_torch.pack_words(torch.tensor(mask))
    assert (words.numpy().view(np.uint32) == np.asarray(bits)).all()
    selection = attention_torch.make_block_mask(words, n)
  attend = getattr(attention_torch, form)
  found = [attend(*leaves[:3], selection, *leaves[3:])]
  if form == "sdpa":
    found += torch.autograd.grad(found, leaves, torch.tensor(tokens[3]))
  for a, b in zip(found, expected, strict=False):
    a = a.detach().numpy()
    b = np.asarray(b) if b.ndim < 5 else np.asarray(b)[0].transpose(0, 2, 1, 3)
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_rule_is_the_same_in_torch():
  torch = pytest.importorskip("torch")
  attention_torch = importlib.import_module("benchmarks.attention_torch")
  case = Case("forward", "sdpa", "patches", 64, 3, 20)
  found = attention_torch._make_mask(case, torch.device("cpu")).numpy()
  rule = make_rule(3, 64)
  np.testing.assert_array_equal(found, rule.mask(np.arange(64), 64, 20))
  assert isinstance(rule, Rule)


@pytest.mark.parametrize(
  ("scale", "parameters"), [(4, 11_900_199), (2, 11_752_487), (1, 11_504_163)]
)
def test_the_dense_network_is_of_swinirs_size(scale, parameters):
  torch = pytest.importorskip("torch")
  network = importlib.import_module("benchmarks.dense_window_torch")
  model = network.DenseWindowNetwork(scale)
  assert sum(p.numel() for p in model.parameters()) == parameters
  options = QUICK_NETWORKS["dense quick"].options
  small = network.DenseWindowNetwork(scale, **options).eval()
  with torch.no_grad():
    out = small(torch.rand(2, 19, 25, 3))
  assert out.shape == (2, 19 * scale, 25 * scale, 3)


def test_a_shifted_layer_mixes_no_parts_that_do_not_touch():
  torch = pytest.importorskip("torch")
  network = importlib.import_module("benchmarks.dense_window_torch")
  torch.manual_seed(0)
  x = torch.rand(1, 16, 24, 12)
  mask = network.shift_mask(16, 24, 8, x)
  layer = network.Layer(12, 2, 8, shift=4, drop_rate=0.0).eval()
  with torch.no_grad():
    before = layer(x, mask)
    x[:, -1] = torch.rand(24, 12)
    changed = (layer(x, mask) - before).abs().amax((0, 2, 3)) > 0
  # Rows 12 to 15 share windows with rows 0 to 3, and see themselves alone.
  assert changed.tolist() == [False] * 12 + [True] * 4
