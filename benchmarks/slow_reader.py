"""Simulates many hosts that read their shares of a batch, one of them slowly.

  python -m benchmarks.slow_reader --out=benchmarks/results/slow_reader.json

Nothing is measured: the rules of the training loop are computed, time by time,
for 64 hosts. The unit is the time of a step on the devices.

- A host has `threads`, each of which makes one batch after the other; as many
  batches as grain keeps are made ahead (`semanir_jax/data/pipeline.py`).
- A host gives the devices a step when it holds the batches of that step and of
  the two after it (`Preemption.notice_steps`), and when the step two before it
  is done (`phase_loop`).
- A step begins when all hosts have given it and the step before is done: its
  gradients are a mean over all devices.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from semanir_jax import cli
from semanir_jax.machine.files import write_bytes

_OUT = flags.DEFINE_string("out", None, "JSON file to write the rows to.")

HOSTS = 64
STEPS = 2000
_PREFETCHED = 4  # of semanir_jax/data/pipeline.py
_HELD = 3  # batches: of a step and of the two after it
_IN_FLIGHT = 2  # steps


class Run(NamedTuple):
  """What came of a simulation.

  Attributes:
    rate: steps done in the time that a step takes on the devices; at most 1.
    waiting: `[hosts]`, share of the time that each host waits for its input.
  """

  rate: float
  waiting: np.ndarray


def simulate(seconds: np.ndarray, *, threads: int) -> Run:
  """Computes when everything happens.

  Args:
    seconds: `[hosts, steps]`, time that a thread takes for each batch, in steps
      of the devices.
    threads: of every host.
  """
  hosts, steps = seconds.shape
  kept = max(_PREFETCHED, threads)
  free = np.zeros((hosts, threads))  # when each thread is
  ready = np.zeros((hosts, steps))
  now, waited = np.zeros(hosts), np.zeros(hosts)
  done = np.zeros(steps + 1)
  everyone = np.arange(hosts)

  def begin(batch: int) -> None:
    if batch < steps:
      thread = free.argmin(axis=1)
      start = np.maximum(now, free[everyone, thread])
      ready[:, batch] = start + seconds[:, batch]
      free[everyone, thread] = ready[:, batch]

  for batch in range(kept):
    begin(batch)
  taken = 0
  for step in range(1, steps + 1):
    while taken < min(step - 1 + _HELD, steps):
      waited += np.maximum(ready[:, taken] - now, 0)
      now = np.maximum(now, ready[:, taken])
      begin(taken + kept)
      taken += 1
    done[step] = max(done[step - 1], now.max()) + 1
    now = np.maximum(now, done[max(step - _IN_FLIGHT, 0)])
  return Run(rate=steps / done[-1], waiting=waited / done[-1])


def scenarios() -> Iterator[tuple[str, np.ndarray, int]]:
  """Gives names, times of all batches and threads."""

  def alike(seconds: float = 1.0) -> np.ndarray:
    return np.full((HOSTS, STEPS), seconds)

  yield "a batch takes a thread 1 step, everywhere", alike(), 2
  for seconds in (2.0, 3.0, 4.0):
    slow = alike()
    slow[7] = seconds
    yield f"on one host {seconds:.0f} steps", slow, 2
  slow = alike()
  slow[7] = 4.0
  yield "on one host 4 steps, 4 threads", slow, 4
  for pause in (5.0, 10.0, 100.0):
    once = alike()
    once[7, STEPS // 2] = pause
    yield f"on one host one batch takes {pause:.0f} steps", once, 2
  for threads in (2, 4, 8):
    rng = np.random.default_rng(0)
    often = np.where(rng.random((HOSTS, STEPS)) < 1e-3, 20.0, 1.0)
    name = f"of 1000 batches one takes 20 steps, everywhere, {threads} threads"
    yield name, often, threads


def main() -> None:
  """Prints a table of all scenarios, and writes it where asked."""
  rows: list[dict[str, Any]] = []
  print(
    "| input | steps in the time of one | slowest host, waiting for input |"
    " others, median |"
  )
  print("| --- | ---: | ---: | ---: |")
  for name, seconds, threads in scenarios():
    run = simulate(seconds, threads=threads)
    slowest = int(run.waiting.argmax())
    row = {
      "input": name,
      "threads": threads,
      "rate": round(run.rate, 4),
      "waiting_slowest": round(float(run.waiting[slowest]), 4),
      "waiting_median": round(float(np.median(run.waiting)), 4),
    }
    rows.append(row)
    print(
      f"| {name} | {row['rate']:.3f} | {row['waiting_slowest']:.1%} |"
      f" {row['waiting_median']:.1%} |"
    )
  if _OUT.value:
    document = {"hosts": HOSTS, "steps": STEPS, "rows": rows}
    write_bytes(_OUT.value, (json.dumps(document, indent=2) + "\n").encode())


if __name__ == "__main__":
  cli.run(main)
