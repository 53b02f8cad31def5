"""The network: published sizes, one dictionary a stage, any image size."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semanir_jax.models import affine, drop_path, layers, position_bias, windows
from semanir_jax.models.execution import Execution
from semanir_jax.models.semanir import SemanIR
from semanir_jax.models.sizes import PUBLISHED_MILLIONS
from semanir_jax.models.stage import Stage
from semanir_jax.networks import build
from semanir_jax.ops import build_dictionary
from semanir_jax.ops.attention.offsets import expand_offsets
from semanir_jax.summary import main as print_summary
from tests import jaxprs

pytestmark = pytest.mark.slow

SMALL = {
  "dim": 8,
  "num_heads": 2,
  "depths": (2, 2),
  "window_size": 4,
  "num_keys": 5,
  "max_keys": 16,
}
USHAPE = SMALL | {"architecture": "ushape", "depths": (1, 2, 1, 1)}


def _executed(options, **execution):
  return SemanIR(**options, execution=Execution(**execution))


@functools.cache
def _variables(model):
  images = jnp.zeros((1, model.size_multiple, model.size_multiple, 1))
  images = jnp.tile(images, (1, 1, 1, model.in_channels))
  return jax.jit(model.init)(jax.random.key(1), images)


def _init(model, height=8, width=8, batch=1):
  """Variables (none depends on the image's size) and random images."""
  images = jax.random.uniform(
    jax.random.key(0), (batch, height, width, model.in_channels)
  )
  # Built once for all options that leave the parameters as they are.
  return _variables(model.clone(execution=Execution(remat=False))), images


def _apply(model, variables, images, **options):
  run = jax.jit(functools.partial(model.apply, **options))
  return run(variables, images)


# [fits] of the paper's tables, exactly; by size and scale.
COUNTS = {
  ("S", 2): 11_869_991,
  ("S", 3): 12_054_631,
  ("S", 4): 12_017_703,
  ("B", 2): 19_895_783,
  ("B", 3): 20_080_423,
  ("B", 4): 20_043_495,
}


def test_summary_counts_every_size_as_published(capsys):
  """The table traces each size once, so that its figures are tested here."""
  print_summary()
  lines = capsys.readouterr().out.splitlines()
  rows = {tuple(line.split()[:2]): line for line in lines[1:]}
  assert len(rows) == 15
  counts = {
    key: int(line.split()[2].replace(",", "")) for key, line in rows.items()
  }
  for (name, scale), count in COUNTS.items():
    assert counts[name, f"x{scale}"] == count
    assert round(count / 1e6, 2) == PUBLISHED_MILLIONS[name, scale]
  assert abs(counts["U", "x1"] / 25.82e6 - 1) < 0.01
  for key in (("light", "x2"), ("U_light", "x1")):  # near SwinIR-light
    assert 0.85e6 < counts[key] < 1.05e6
  for (name, scale), millions in PUBLISHED_MILLIONS.items():
    row = rows[name, f"x{scale}"]
    assert re.search(rf"{millions:.2f} M +(yes|-0\.\d\d %)", row)


@pytest.mark.parametrize("implementation", ["mask", "gather"])
@pytest.mark.parametrize("options", [SMALL, USHAPE])
def test_dictionary_is_built_once_per_stage(options, implementation):
  model = _executed(options, implementation=implementation)
  variables, images = _init(model)
  jaxpr = jax.make_jaxpr(model.apply)(variables, images)
  # The gather form ranks with top_k; the mask form with one 32-step bisection.
  # Counted over all equations, those inside scanned layers included.
  if implementation == "gather":
    found = [e for e in jaxprs.equations(jaxpr) if e.primitive.name == "top_k"]
  else:
    found = [
      e
      for e in jaxprs.equations(jaxpr)
      if e.primitive.name == "scan"
      and e.params["length"] == 32
      and e.outvars[-1].aval.dtype == jnp.uint32
    ]
  assert len(found) == len(options["depths"])


def test_scanned_layers_equal_a_python_loop():
  depth = 3
  stage = Stage(depth, 2, 4, 16, shifted=True)
  x = jax.random.normal(jax.random.key(0), (2, 8, 8, 8))
  variables = stage.init(jax.random.key(1), x, 5)
  params = variables["params"]

  tokens = windows.partition(x, 4, (2, 2))
  regions = windows.regions(8, 8, 4, (2, 2))
  dictionary = build_dictionary(tokens, 5, regions=regions)
  layer = layers.TransformerLayer(2)
  for i in range(depth):
    own = jax.tree.map(lambda leaf, i=i: leaf[i], params["layers"])
    tokens, _ = layer.apply({"params": own}, tokens, None, dictionary)
  conv = affine.Conv(8)
  expected = x + conv.apply(
    {"params": params["conv"]}, windows.merge(tokens, 8, 8, (2, 2))
  )
  out = jax.jit(stage.apply)(variables, x, 5)
  np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("options", [SMALL, USHAPE])
def test_forms_agree_in_the_whole_network(options):
  variables, images = _init(SemanIR(**options), 8, 16)
  outputs = [
    _apply(_executed(options, implementation=name), variables, images)
    for name in ("mask", "gather")
  ]
  np.testing.assert_allclose(*outputs, atol=1e-5)


def test_another_k_does_not_recompile_and_matters():
  model = SemanIR(**SMALL)
  variables, images = _init(model)
  run = jax.jit(lambda v, x, k: model.apply(v, x, num_keys=k))
  outputs = [run(variables, images, k) for k in (1, 5, 16)]
  assert run._cache_size() == 1
  np.testing.assert_allclose(
    outputs[1], _apply(model, variables, images), atol=1e-5
  )
  assert float(jnp.abs(outputs[0] - outputs[2]).max()) > 1e-4


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (8, 9), (17, 16)])
@pytest.mark.parametrize(
  "options", [SMALL | {"scale": 3}, SMALL | {"scale": 4}, SMALL, USHAPE]
)
def test_any_height_and_width(size, options):
  model = SemanIR(**options)
  variables, images = _init(model, *size)
  scale = options.get("scale", 1)
  out = jax.eval_shape(model.apply, variables, images)
  assert out.shape == (1, size[0] * scale, size[1] * scale, 3)
  assert out.dtype == jnp.float32
  if size == (1, 1):
    assert np.isfinite(_apply(model, variables, images)).all()


@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 1), (1, 3)])
def test_gray_in_gray_or_colour_out(channels_in, channels_out):
  model = SemanIR(**USHAPE, in_channels=channels_in, out_channels=channels_out)
  variables, images = _init(model, 5, 5)
  assert _apply(model, variables, images).shape == (1, 5, 5, channels_out)


def test_a_shifted_window_never_leaks_across_the_border():
  # Identical dim pixels but for one bright corner; stage 1 is shifted, so its
  # last window holds tokens of all four image corners.
  model = SemanIR(**SMALL | {"depths": (1, 1), "num_keys": 16})
  variables, images = _init(model, 24, 24)

  def far_corner(images):
    return jnp.sum(model.apply(variables, images)[:, -3:, -3:] ** 2)

  gradient = np.abs(np.asarray(jax.jit(jax.grad(far_corner))(images))).sum(
    (0, 3)
  )
  assert gradient[-1, -1] > 0
  # Two windows of 4, a shift of 2 and five 3x3 convolutions reach no further
  # than the last 16 rows and columns.
  assert not gradient[:8].any() and not gradient[:, :8].any()


def test_drop_path_leaves_out_branches_of_whole_images():
  model = SemanIR(**SMALL | {"drop_path_rate": 0.5})
  variables, images = _init(model, batch=4)
  scales = drop_path.draw_branch_scales(
    jax.random.key(0), 4000, model.depths, model.drop_path_rate
  )
  assert scales.shape == (4000, 4, 2)
  # Rates grow linearly over the layers; kept branches make up for the dropped.
  rates = [0, 1 / 6, 2 / 6, 3 / 6]
  np.testing.assert_allclose((scales == 0).mean((0, 2)), rates, atol=0.03)
  np.testing.assert_allclose(scales.mean((0, 2)), np.ones(4), atol=0.05)

  ones = np.ones((4, 4, 2), np.float32)
  plain = _apply(model, variables, images)
  kept = _apply(model, variables, images, branch_scales=ones)
  np.testing.assert_allclose(kept, plain, atol=1e-6)
  ones[1, 2, 0] = 0
  dropped = _apply(model, variables, images, branch_scales=ones)
  changed = np.abs(dropped - plain).max((1, 2, 3))
  assert changed[1] > 1e-4 and (changed[[0, 2, 3]] < 1e-6).all()


def test_without_drop_path_nothing_is_drawn():
  assert drop_path.draw_branch_scales(jax.random.key(0), 4, (2,), 0.0) is None


def _same_gradients(variables, images, *models):
  """Compiled gradients of the models, whose values are the same."""

  def gradient(model):
    loss = lambda v: jnp.mean(model.apply(v, images) ** 2)  # noqa: E731
    return jax.jit(jax.grad(loss)).lower(variables).compile()

  compiled = [gradient(model) for model in models]
  jax.tree.map(
    lambda *values: np.testing.assert_allclose(*values, atol=1e-5),
    *[run(variables) for run in compiled],
  )
  return compiled


@pytest.mark.parametrize("unroll", [False, True])
def test_remat_changes_memory_and_not_values(unroll):
  plain = _executed(SMALL, unroll=unroll, remat=False)
  rematted = plain.with_execution(remat=True)
  variables, images = _init(plain, 32, 32, batch=4)
  compiled = _same_gradients(variables, images, plain, rematted)
  temporary = [run.memory_analysis().temp_size_in_bytes for run in compiled]
  # Without a loop, jax 0.10.2 shows no gain with windows of 16 tokens.
  assert unroll or temporary[1] < temporary[0]
  # Without a loop only this keeps a compiler from sharing the two computations.
  program = str(jax.make_jaxpr(rematted.apply)(variables, images))
  assert f"prevent_cse={unroll}" in program


def test_remat_computes_no_large_product_again():
  model = _executed(SMALL, remat=False)
  images = jnp.zeros((1, 8, 8, 3))
  params = _init(model)[0]["params"]

  def products(model):
    loss = lambda params: jnp.sum(model.apply({"params": params}, images))  # noqa: E731
    program = jax.make_jaxpr(jax.grad(loss))(params)
    names = [e.primitive.name for e in jaxprs.equations(program)]
    return names.count("dot_general")

  # In the loop of either stage, the position bias. The backward pass of the
  # attention computes the logits again in any case.
  again = products(model.with_execution(remat=True)) - products(model)
  assert again == len(model.depths) * 4


def test_unrolled_layers_are_no_loop_and_compute_the_same():
  looped, unrolled = SemanIR(**SMALL), _executed(SMALL, unroll=True)
  variables, images = _init(looped)
  compiled = _same_gradients(variables, images, looped, unrolled)
  in_a_loop = r"stage_\d/while/body/.*layers"
  loops = [len(re.findall(in_a_loop, run.as_text())) for run in compiled]
  assert loops[0] > 0 and loops[1] == 0, loops


def test_bfloat16_keeps_parameters_and_output_in_float32():
  exact, model = SemanIR(**SMALL), _executed(SMALL, dtype="bfloat16")
  variables, images = _init(model)
  leaves = jax.tree.leaves(variables)
  assert all(leaf.dtype == jnp.float32 for leaf in leaves)
  out = _apply(model, variables, images)
  assert out.dtype == jnp.float32
  expected = _apply(exact, variables, images)
  np.testing.assert_allclose(out, expected, atol=0.05)


def test_initial_values_are_grls():
  variables, _ = _init(SemanIR(**SMALL | {"dim": 48}), batch=1)
  params = variables["params"]
  attention = params["stage_0"]["layers"]["attention"]
  np.testing.assert_allclose(attention["logit_scale"], np.log(10), rtol=1e-6)
  np.testing.assert_allclose(attention["qkv"]["kernel"].std(), 0.02, rtol=0.05)
  assert not attention["qkv"]["bias"].any()
  conv = params["conv_body"]["conv"]
  bound = 1 / np.sqrt(9 * 48)
  for leaf in (conv["kernel"], conv["bias"]):
    assert np.abs(leaf).max() <= bound
    assert np.abs(leaf).max() > 0.9 * bound


def test_position_bias_equals_the_table_by_pair():
  p = 3
  table = np.random.default_rng(0).normal(size=(5, 5, 2))
  expanded = expand_offsets(jnp.asarray(table, jnp.float32), p)
  for i, j in np.ndindex(p * p, p * p):
    dy, dx = i // p - j // p, i % p - j % p
    np.testing.assert_allclose(
      expanded[:, i, j], table[dy + p - 1, dx + p - 1], rtol=1e-6
    )


def test_relative_coordinates_of_a_window_of_three():
  coordinates = position_bias.relative_coordinates(3)
  values = [-np.log2(9) / 3, -np.log2(5) / 3, 0, np.log2(5) / 3, np.log2(9) / 3]
  np.testing.assert_allclose(coordinates[:, 0, 0], values, rtol=1e-6)
  np.testing.assert_allclose(coordinates[0, :, 1], values, rtol=1e-6)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_keys": 17}, r"num_keys=17 must lie in \[1, 16\]"),
    ({"max_keys": 17}, r"max_keys=17 must lie in \[1, 16\].* 4x4 window"),
    ({"architecture": "column"}, "architecture='column'"),
    ({"scale": 5}, "scale=5"),
    ({"architecture": "ushape", "scale": 2}, "scale=2"),
    ({"architecture": "ushape", "depths": (1, 1, 1)}, "even count"),
    ({"depths": (2, 0)}, "every stage needs a layer"),
    ({"num_heads": 3}, "num_heads=3 must divide dim=8"),
    ({"dim": 0}, "num_heads=2 must divide dim=0"),
    (
      {"architecture": "ushape", "dim": 9, "num_heads": 1},
      "dim=9: the U shape",
    ),
    ({"mlp_ratio": 0.0}, "mlp_ratio=0.0"),
    ({"drop_path_rate": 1.0}, r"drop_path_rate=1.0 must lie in \[0, 1\)"),
    ({"scale": 4.0}, "scale=4.0"),
    ({"platform": "cuda"}, "platform='cuda': use one of .*'gpu'"),
    ({"num_keys": 3.5}, "num_keys=3.5: give a whole number"),
    ({"window_size": 1, "max_keys": 1}, "window_size=1"),
    ({"upsampler": "nearest"}, "upsampler='nearest'"),
    ({"implementation": "dense"}, "unknown implementation 'dense'"),
  ],
)
def test_what_cannot_be_built_is_refused_at_construction(options, message):
  with pytest.raises(ValueError, match=message):
    build.make_model(SMALL | options)
  if options.keys() <= {"platform", "implementation"}:
    with pytest.raises(ValueError, match=message):
      SemanIR(**SMALL).with_execution(**options)
  else:
    with pytest.raises(ValueError, match=message):
      SemanIR(**SMALL).clone(**options)


@pytest.mark.parametrize(
  ("channels", "num_keys", "message"),
  [
    (1, None, r"images \(1, 8, 8, 1\) must be \[B, H, W, 3\]"),
    (3, 17, r"num_keys=17 must lie in \[1, 16\] \(max_keys\)"),
    (3, 0, r"num_keys=0 must lie in \[1, 16\] \(max_keys\)"),
    (3, 3.5, "num_keys=3.5: give a whole number"),
  ],
)
def test_what_does_not_fit_is_refused_at_the_call(channels, num_keys, message):
  init = functools.partial(SemanIR(**SMALL).init, num_keys=num_keys)
  images = jnp.zeros((1, 8, 8, channels))
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(init, jax.random.key(0), images)


def test_images_of_whole_numbers_are_refused():
  with pytest.raises(ValueError, match="images of uint8: give floats"):
    SemanIR(**SMALL).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
