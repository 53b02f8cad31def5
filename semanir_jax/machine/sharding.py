"""Device mesh, and which axis of which array lies on which mesh axis."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA_AXES = ("data", "fsdp")  # a batch is split over both
SLICES = "slice"  # and over this one, where there are several TPU slices


def make_mesh(
  *,
  data: int,
  fsdp: int,
  slices: int = 1,
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """Arranges devices as `data` x `fsdp`, process by process; with several
  slices as `slice` x `data` x `fsdp`, so that only the first axis crosses the
  network between them.

  So the rows of a global batch lie in the order of the stream, see
  `to_global`. `jax.make_mesh` would follow the torus of a TPU slice, which
  scatters the devices of a process, and refuses some shapes on v5p and v6e.

  Args:
    data: devices along which only the batch is split; -1 takes what is left.
    fsdp: devices along which parameters and optimizer state are split too.
    slices: TPU slices; each has `data` x `fsdp` devices.
    devices: all of all processes by default.

  Raises:
    ValueError: the product is not the number of devices, or there is another
      number of slices.
  """
  devices = jax.devices() if devices is None else devices
  devices = _slice_by_slice(devices, slices)
  count = len(devices)
  if data == -1:
    data = max(count // max(fsdp * slices, 1), 1)
  if min(data, fsdp) < 1 or slices * data * fsdp != count:
    times = f"slices={slices} x " if slices > 1 else ""
    raise ValueError(
      f"mesh {times}data={data} x fsdp={fsdp} does not use the {count} devices;"
      " set config.mesh.data=-1 and config.mesh.fsdp to a divisor of their"
      " number" + (" in a slice" if slices > 1 else "")
    )
  axes, shape = DATA_AXES, (data, fsdp)
  if slices > 1:
    axes, shape = (SLICES, *axes), (slices, *shape)
  return Mesh(
    np.array(devices).reshape(shape),
    axes,
    axis_types=(AxisType.Auto,) * len(axes),
  )


def _slice_by_slice(devices: Sequence[Any], slices: int) -> list[Any]:
  """Sorts devices by process, and by slice before where there are several.

  Those that know no slices, as CPUs do, count as slices one after the other.

  Raises:
    ValueError: they are of another number of slices.
  """

  def place(device: Any) -> tuple[int, int, int]:
    number = getattr(device, "slice_index", None) or 0
    return number if slices > 1 else 0, device.process_index, device.id

  known = {getattr(device, "slice_index", None) for device in devices} - {None}
  if slices < 1 or (slices > 1 and known and len(known) != slices):
    raise ValueError(
      f"config.mesh.slices={slices}, but the devices are of {len(known) or 1}"
      " slices; give their number"
    )
  return sorted(devices, key=place)


def make_local_mesh() -> Mesh:
  """Arranges the devices of this process along `data`.

  A program on it waits for no other process.
  """
  return make_mesh(data=-1, fsdp=1, devices=jax.local_devices())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Splits the leading axis of a batch over all devices."""
  return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def replicated(mesh: Mesh) -> NamedSharding:
  """Places a whole copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def state_shardings(
  abstract_state: Any, mesh: Mesh, rules: Sequence[Sequence[str]]
) -> Any:
  """Chooses the sharding of every array of the train state.

  Args:
    abstract_state: tree of arrays or `jax.ShapeDtypeStruct`.
    mesh: of `make_mesh`.
    rules: (regular expression, placement) pairs; the first whose expression is
      found in an array's path (as `params/stage_0/layers/mlp/...`) decides.
      "fsdp" splits the array's largest axis that the mesh axis divides, and
      replicates an array without one; "replicate" copies it to all devices.

  Returns:
    Tree of `NamedSharding` like `abstract_state`.

  Raises:
    ValueError: no rule matches a path, or a rule is not understood.
  """

  def place(path: Any, leaf: Any) -> NamedSharding:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    for pattern, placement in rules:
      if _found(pattern, name):
        return NamedSharding(mesh, _spec(placement, leaf.shape, mesh))
    raise ValueError(f"no rule of config.mesh.rules matches {name}")

  return jax.tree_util.tree_map_with_path(place, abstract_state)


def _found(pattern: str, name: str) -> bool:
  """Says whether the expression of a rule is found in a path."""
  try:
    return re.search(pattern, name) is not None
  except re.error as error:
    raise ValueError(
      f"config.mesh.rules: {pattern!r} is no regular expression ({error})"
    ) from error


def _spec(placement: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
  """Partitions an array of `shape` as one placement word says."""
  if placement == "replicate":
    return PartitionSpec()
  if placement != "fsdp":
    raise ValueError(
      f"unknown placement {placement!r}; use 'fsdp' or 'replicate'"
    )
  size = mesh.shape["fsdp"]
  divisible = [i for i, side in enumerate(shape) if side and side % size == 0]
  if size == 1 or not divisible:
    return PartitionSpec()
  axis = max(divisible, key=lambda i: shape[i])
  return PartitionSpec(
    *(["fsdp" if i == axis else None for i in range(axis + 1)])
  )


def to_global(batch: Any, sharding: NamedSharding) -> Any:
  """Makes global arrays of the rows that this process holds.

  Those of process 0 come first, then those of process 1: on a mesh of
  `make_mesh`.
  """
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    batch,
  )


def to_local(tree: Any, mesh: Mesh) -> Any:
  """Puts whole copies of arrays on every device of this process.

  All processes must call it where an array is split over several: its parts
  are gathered.

  Args:
    tree: arrays, of the devices of all processes or of any of this one.
    mesh: of `make_local_mesh`.
  """
  whole = replicated(mesh)

  def place(leaf: Any) -> jax.Array:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
      return jax.device_put(leaf, whole)
    copies = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, whole, copies)

  return jax.tree.map(place, _gathered(tree))


def _gathered(tree: Any) -> Any:
  """Replicates what is split over the devices of several processes."""
  leaves, structure = jax.tree.flatten(tree)
  split = [i for i, leaf in enumerate(leaves) if _is_split(leaf)]
  if split:
    parts = [leaves[i] for i in split]
    places = [replicated(leaf.sharding.mesh) for leaf in parts]
    copies = jax.jit(_unchanged, out_shardings=places)(parts)
    for i, copy in zip(split, copies, strict=True):
      leaves[i] = copy
  return jax.tree.unflatten(structure, leaves)


def _unchanged(tree: Any) -> Any:
  """Returns `tree`; a function of its own is compiled once for all calls."""
  return tree


def _is_split(leaf: Any) -> bool:
  """Says whether this process holds only a part."""
  return isinstance(leaf, jax.Array) and not (
    leaf.is_fully_addressable or leaf.is_fully_replicated
  )
