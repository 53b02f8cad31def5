"""Data-sheet figures of the devices that JAX may run on.

They turn counted work into shares and bounds: model FLOPs utilisation in the
training log, and the roofline of `aot`. None was measured by us.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Chip:
  """Holds the data-sheet figures of what JAX counts as one device.

  Attributes:
    memory_gib: main memory, GiB. Data sheets say GB and mean about 2^30 bytes;
      drivers and compilers keep a part (libtpu leaves 15.75 of 16).
    peak_teraflops: dense bfloat16 matrix rate, 1e12 operations/s, without the
      structured sparsity that GPU data sheets double it by.
    memory_gb_s: bandwidth of the main memory, 1e9 bytes/s.
    link_gb_s: rate of all links to other chips together, both directions, 1e9
      bytes/s: ICI of a TPU, NVLink of a GPU.
  """

  memory_gib: float
  peak_teraflops: float
  memory_gb_s: float
  link_gb_s: float


# By `jax.Device.device_kind`. TPU: cloud.google.com/tpu/docs, system
# architecture page of each version. NVIDIA: data sheets of A100, H100 and H200
# (SXM boards: others of the same name are slower, and have other names here).
CHIPS: Mapping[str, Chip] = {
  "TPU v4": Chip(32, 275, 1228, 300),
  "TPU v5 lite": Chip(16, 197, 819, 200),  # v5e
  "TPU v5": Chip(95, 459, 2765, 600),  # v5p
  "TPU v6 lite": Chip(32, 918, 1640, 448),  # v6e
  "NVIDIA A100-SXM4-40GB": Chip(40, 312, 1555, 600),
  "NVIDIA A100-SXM4-80GB": Chip(80, 312, 2039, 600),
  "NVIDIA H100 80GB HBM3": Chip(80, 989, 3350, 900),
  "NVIDIA H200": Chip(141, 989, 4800, 900),
}


def chip_of(device_kind: str) -> Chip | None:
  """Returns the figures of a device, by its exact name.

  Exact, because a longer name is another product: a part of a GPU ("NVIDIA H200
  MIG 1g.18gb") or a slower board of the same chip ("NVIDIA H100 PCIe").

  Args:
    device_kind: `jax.devices()[0].device_kind`, as "TPU v5 lite".

  Returns:
    None for a device that is not listed (a CPU), whose peak rate is unknown.
  """
  return CHIPS.get(device_kind)
