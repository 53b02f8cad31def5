"""Times the dense network of `dense_window_torch`."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.dense_window_torch import DenseWindowNetwork
from benchmarks.model_cases import Case, network_of
from benchmarks.timing import median_ms


def measure(fields: list[Any], platform: str) -> dict[str, Any]:
  """Times a case on the device here, in a process that has run nothing before.

  On a GPU it is compiled as a whole. Inference has bfloat16 parameters,
  training `torch.autocast` and Adam in one kernel.

  Args:
    fields: of a `Case`.
    platform: of the rows beside it, "cpu" or "gpu".

  Returns:
    `ms` of a call; on a GPU `memory_mib`, the allocator's peak, parameters
    included.
  """
  case = Case(*fields)
  if platform == "gpu" and not torch.cuda.is_available():
    return {"skipped": "this torch sees no GPU"}
  device = torch.device("cuda" if platform == "gpu" else "cpu")
  torch.manual_seed(0)
  torch.backends.cudnn.benchmark = True  # as XLA does
  network = network_of(case.network)
  make = _make_forward if case.operation == "forward" else _make_training
  try:
    with device:
      model = DenseWindowNetwork(network.scale, **network.options)
      call = make(case, model, network.scale)
    if platform == "cpu":
      return {"ms": median_ms(call, lambda _: None)}
    call()  # compiles, and tries convolutions, which takes memory
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    milliseconds = median_ms(call, lambda _: torch.cuda.synchronize())
    peak = torch.cuda.max_memory_allocated() / 2**20
    return {"ms": milliseconds, "memory_mib": peak}
  except torch.OutOfMemoryError:
    return {"error": "out of memory"}


def _make_forward(
  case: Case, model: DenseWindowNetwork, scale: int
) -> Callable[[], torch.Tensor]:
  model = model.to(torch.bfloat16).eval()
  size = (case.batch, case.height // scale, case.width // scale, 3)
  images = torch.rand(size).to(torch.bfloat16)
  # With CUDA graphs, as XLA has its own: launching the parts would take longer
  # than one small image.
  run = _compile(model, mode="reduce-overhead")

  def call() -> torch.Tensor:
    with torch.no_grad():
      return run(images)

  return call


def _make_training(
  case: Case, model: DenseWindowNetwork, scale: int
) -> Callable[[], torch.Tensor]:
  low = torch.rand(case.batch, case.height // scale, case.width // scale, 3)
  high = torch.rand(case.batch, case.height, case.width, 3)
  optimizer = torch.optim.Adam(
    model.parameters(), lr=2e-4, fused=low.device.type == "cuda"
  )
  run = _compile(model.train())

  def call() -> torch.Tensor:
    with torch.autocast(low.device.type, torch.bfloat16):
      prediction = run(low)
    loss = (prediction.float() - high).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()

  return call


def _compile(model: DenseWindowNetwork, mode: str = "default") -> Any:
  if next(model.parameters()).device.type != "cuda":
    return model  # takes a C++ compiler minutes
  return torch.compile(model, dynamic=False, mode=mode)
