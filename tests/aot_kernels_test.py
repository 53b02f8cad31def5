"""What Pallas kernels move and take, read from programs and schedules."""

import functools
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.sharding import Mesh, PartitionSpec

from semanir_jax.aot import hlo, kernels, report, schedule
from semanir_jax.machine import devices, flops
from semanir_jax.ops import build_dictionary
from semanir_jax.ops.dictionary import pallas_kernel

# Recorded for v5e with libtpu 0.0.50.1: the dictionary kernel of 4 windows of
# 1024 tokens, whose grid has 16 steps. The bundles of a few instructions are
# left, and of them what shows the loops.
BUNDLES = pathlib.Path(__file__).with_name("dictionary_final_bundles.txt")


def add_kernel(x_ref, y_ref, out_ref):
  out_ref[...] = x_ref[...] + y_ref[...]


def add(x, y, *, x_block, y_block):
  """Adds `[32, 256]` in a grid of 2 x 4 blocks of `[8, 128]`."""
  return pl.pallas_call(
    add_kernel,
    grid=(2, 4),
    in_specs=[pl.BlockSpec((8, 128), x_block), pl.BlockSpec((8, 128), y_block)],
    out_specs=pl.BlockSpec((8, 128), lambda i, j: (j, i)),
    out_shape=jax.ShapeDtypeStruct((32, 256), x.dtype),
    name="add",
  )(x, y)


def kernels_of(function, *arguments):
  return kernels.find_kernels(jax.jit(function).trace(*arguments).jaxpr)


@pytest.mark.parametrize(
  ("x_block", "fetches"),
  [
    (lambda i, j: (j, i), 8),
    (lambda i, j: (i, 0), 2),  # the same for the steps of a row
    (lambda i, j: (0, i * 0), 1),
    (lambda i, j: (lax.rem(i + j, 2), 0), 7),  # that after the row's end is it
    (lambda i, j: (lax.div(j, 2), i), 4),
  ],
)
def test_a_block_is_moved_when_the_grid_comes_to_another(x_block, fetches):
  array = jax.ShapeDtypeStruct((32, 256), jnp.float32)
  program = functools.partial(add, x_block=x_block, y_block=lambda i, j: (j, i))
  (kernel,) = kernels_of(program, array, array)
  block = 8 * 128 * 4
  assert kernel.moved_bytes == (fetches * block, 8 * block, 8 * block)
  assert kernel.grid == (2, 4) and kernel.name == "add"
  assert kernel.operands == (("f32", (32, 256)),) * 2
  assert kernel.results == (("f32", (32, 256)),)


def test_the_dictionarys_blocks_fill_whole_tiles():
  features = jax.ShapeDtypeStruct((1, 4, 1024, 180), jnp.bfloat16)
  regions = np.zeros((4, 1024), np.uint8)
  build = functools.partial(build_dictionary, regions=regions, platform="tpu")
  num_keys = jax.ShapeDtypeStruct((), jnp.int32)
  (kernel,) = kernels_of(build, features, num_keys)
  whole = 4 * 1024 * 256 * 2  # 180 channels take 256 lanes
  columns, words = 4 * 32 * 128 * 4, 4 * 32 * 1024 * 4
  # Queries, keys, the queries' regions, the keys'; k is one number in a tile.
  expected = (128 * 4, whole, whole, 4 * 1024 * 4, columns, words)
  assert kernel.moved_bytes == expected
  assert [x.shape for x in kernel.arguments] == [s for _, s in kernel.operands]


def test_kernels_are_found_in_loops_and_on_devices_each_kind_once():
  mesh = Mesh(np.array(jax.devices()[:2]), "data")
  rows = PartitionSpec("data")

  def local(features):
    def layer(carry, _):
      bits = build_dictionary(features + carry, 5, platform="tpu").bits
      return carry + bits.sum().astype(jnp.float32), None

    return lax.scan(jax.checkpoint(layer), 0.0, None, length=3)[0][None]

  program = jax.shard_map(
    local, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False
  )
  features = jax.ShapeDtypeStruct((2, 32, 64, 8), jnp.float32)
  (kernel,) = kernels_of(program, features)
  assert kernel.operands[1] == ("f32", (32, 64, 8))  # of one device
  assert kernel.grid == (2, 1)
  products = 2 * 2 * 32 * 64 * 64 * 8
  assert flops.count_flops(program, features) == 3 * products
  # It is compiled alone, outside the mesh.
  export = jax.export.export(jax.jit(kernel.call), platforms=["tpu"])
  (words,) = export(*kernel.arguments).out_avals
  assert ("s32", words.shape) == kernel.results[0] == ("s32", (32, 8, 64))


PROGRAM = """
%body (p: (s32[], f32[32,256])) -> (s32[], f32[32,256]) {
  %p = (s32[], f32[32,256]{1,0:T(8,128)}) parameter(0)
  %x = f32[32,256]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %y = f32[32,256]{1,0:T(8,128)PLACE} copy(%x)
  %add.1 = f32[32,256]{1,0:T(8,128)} custom-call(%x, %y), \
custom_call_target="tpu_custom_call", metadata={op_name="f/add/pallas_call"}
  ROOT %t = (s32[], f32[32,256]{1,0}) tuple(%x, %add.1)
}

%condition (p: (s32[], f32[32,256])) -> pred[] {
  %limit = s32[] constant(5)
  %p = (s32[], f32[32,256]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (q: (s32[], f32[32,256])) -> (s32[], f32[32,256]) {
  %q = (s32[], f32[32,256]) parameter(0)
  ROOT %w = (s32[], f32[32,256]) while(%q), condition=%condition, body=%body
}
"""
ARRAY = ("f32", (32, 256))
ADD = kernels.Kernel("add", (2, 4), (ARRAY,) * 2, (ARRAY,), (100, 20, 3), None)


def analyse(place, *found):
  """Traffic without that of the copy, which is as large as its arrays."""
  size = 32 * 256 * 4
  traffic = hlo.analyse(PROGRAM.replace("PLACE", place), found)
  copied = size if place else 2 * size
  return traffic, traffic.memory_bytes - 5 * copied


def test_a_program_counts_what_a_kernel_moves_as_often_as_it_runs():
  other = kernels.Kernel("sub", (1,), (ARRAY,) * 2, (ARRAY,), (1, 1, 1), None)
  traffic, moved = analyse("", other, ADD)
  assert moved == traffic.kernel_bytes[ADD] == 5 * 123
  assert traffic.kernel_calls == {ADD: 5} and not traffic.unknown_kernels


def test_a_kernel_finds_an_operand_in_fast_memory():
  _, moved = analyse("S(1)", ADD)
  assert moved == 5 * 103


def test_an_unknown_kernel_counts_its_arrays():
  traffic, moved = analyse("")
  assert moved == 5 * 3 * 32 * 256 * 4
  assert traffic.unknown_kernels == 5 and not traffic.kernel_calls


def test_cycles_of_a_recorded_schedule():
  found = schedule.count_cycles(BUNDLES.read_text(), steps=16)
  before, after = 7, 2
  # Before the bisection, it, after it, and behind what ties need.
  step = 15 + 32 * 10 + 8 + 15
  assert found.cycles == before + 16 * step + after
  assert found.branches == 16 * (4 + 11 * 11 + 3)


def test_a_counter_that_takes_two_at_a_time_has_half_the_turns():
  twice = BUNDLES.read_text().replace(
    "sadd.s32 1, %s14334_s11", "sadd.s32 2, %s14334_s11"
  )
  found = schedule.count_cycles(twice, steps=16)
  assert found.cycles == 7 + 16 * (15 + 16 * 10 + 8 + 15) + 2


def test_without_a_grids_loop_every_branch_is_one():
  bundles = ["{ %1 = sbr.rel (!%p1_p0) target = $region3 }", *["{}"] * 4]
  bundles += ["{ %v1 = vld [vmem:[#allocation3]] }"] * 20
  bundles += ["{} /* Start/End empty region 3 */"]
  text = "\n".join(f" {i:#x}   :  {b}" for i, b in enumerate(bundles, 1))
  assert schedule.count_cycles(text, steps=1) == schedule.Schedule(6, 20)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "wrote no bundles"),
    (
      BUNDLES.read_text().replace("loop exit", ""),
      "does not say a loop's turns",
    ),
  ],
)
def test_a_schedule_that_cannot_be_read_is_refused(text, message):
  with pytest.raises(ValueError, match=message):
    schedule.count_cycles(text, steps=16)


def test_a_row_says_what_its_kernels_take_and_how_it_was_counted():
  size = types.SimpleNamespace(
    argument_size_in_bytes=1,
    output_size_in_bytes=1,
    temp_size_in_bytes=1,
    alias_size_in_bytes=1,
  )
  compiled = types.SimpleNamespace(
    memory_analysis=lambda: size,
    as_text=lambda: PROGRAM.replace("PLACE", "S(1)"),
  )

  def describe(found):
    return report.describe(
      *({"step": "train"}, compiled, 10**9, (ADD,), 1),
      devices.chip_of("TPU v5 lite"),
      lambda kernels: [found for _ in kernels],
    )

  row = describe(schedule.Schedule(3_000_000, 1_000_000))
  assert row["kernels"] == [
    {
      "kernel": "add",
      "grid": [2, 4],
      "calls": 5,
      "traffic_gb": 5 * 103 / 1e9,  # without %y, which is on the chip
      "blocks_gb": 5 * 123 / 1e9,
      "megacycles": 15.0,
      "branch_megacycles": 5.0,
    }
  ]
  assert row["kernel_megacycles"] == 15.0
  assert "bundles of the compiler's schedule" in row["how_counted"]
  row = describe("not compiled alone: no room")
  assert (
    row["kernels"][0]["cycles_not_counted"] == "not compiled alone: no room"
  )
  assert "kernel_megacycles" not in row


def test_kernels_are_exported_for_the_process_that_compiles_them(
  monkeypatch, tmp_path
):
  features = jax.ShapeDtypeStruct((2, 64, 8), jnp.float32)
  (kernel,) = kernels_of(
    lambda x: pallas_kernel.build_words(x[None], 5), features
  )

  def compile_in(command, **_):
    *_, topology, file = command
    assert topology == "v5e:2x2"
    export = jax.export.deserialize(bytearray(file.read_bytes()))
    assert export.platforms == ("tpu",)
    assert [x.shape for x in export.in_avals] == [
      shape for _, shape in kernel.operands
    ]
    if answers:
      file.with_suffix(".txt").write_text(BUNDLES.read_text())
    stderr = "Traceback\nValueError: no room\n"
    return types.SimpleNamespace(returncode=not answers, stderr=stderr)

  monkeypatch.setattr(schedule.subprocess, "run", compile_in)
  answers = True
  (found,) = schedule.schedules([kernel], "v5e:2x2")
  assert isinstance(found, schedule.Schedule)
  answers = False
  (found,) = schedule.schedules([kernel], "v5e:2x2")
  assert found == "not compiled alone: ValueError: no room"
