"""Trains bundled networks further, one after the other, while the time lasts.

  python -m semanir_jax.training.queue --networks=photo_light,weather_light \\
    --data_dir=DATA --minutes=10 --output=runs/queue

For a GPU that is there for some minutes at a time: `make gpu_queue` has the
order. Each network trains by `configs/pretrained.py:NAME,further`. When the
time is over, the training that runs saves itself, and its moving average so
far is written as NAME.safetensors. The same command goes on from there.

`--output` holds NAME.safetensors, NAME.log and the workdir NAME of every
network, and queue.jsonl: a line for each training that finished, was cut off or
failed. A training that fails is left, and the next one begins.
"""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import TextIO

from absl import flags, logging

from semanir_jax import cli
from semanir_jax.machine.progress import format_duration
from semanir_jax.networks.safetensors_file import SUFFIX
from semanir_jax.training.preemption import EXIT_CODE

# Before the end: to finish a step, to save it and to write the weights.
_RESERVE_S = 45.0
_KILL_S = 30.0  # after SIGTERM, which a training that compiles hears late
_TELL_EVERY_S = 15.0
_TRAIN = "from semanir_jax.commands import train; train.run()"


@dataclasses.dataclass(frozen=True)
class Queue:
  """Says what is trained, on what, and where the results go.

  Attributes:
    networks: names of `configs/pretrained.py`, in order.
    data_dir: folder of the images.
    output: folder of the results.
    smoke: whether to train a few steps of the smallest size, to try it all.
  """

  networks: tuple[str, ...]
  data_dir: str
  output: pathlib.Path
  smoke: bool = False

  def train(self, minutes: float) -> dict[str, str]:
    """Trains one network after the other until all are done or time is over.

    Args:
      minutes: for all of it, writing included.

    Returns:
      By name: "finished", "cut off", "failed" or "not begun".
    """
    self.output.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60.0 * minutes
    states = dict.fromkeys(self.networks, "not begun")
    states |= self._finished()
    for name in self.networks:
      left = deadline - _RESERVE_S - time.monotonic()
      if states[name] == "finished":
        logging.info("%s: finished before", name)
      elif left > 0:
        states[name] = self._train_one(name, left)
    return states

  def _finished(self) -> dict[str, str]:
    """Reads which networks an earlier call has finished."""
    path = self.output / "queue.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {
      row["network"]: row["state"]
      for row in rows
      if row["state"] == "finished" and row["network"] in self.networks
    }

  def _train_one(self, name: str, seconds: float) -> str:
    """Trains a network for so many seconds at most, and writes its weights."""
    start = time.monotonic()
    logging.info("%s: %s left", name, format_duration(seconds))
    words = f"{name},further" + (",smoke" if self.smoke else "")
    command = [
      *(sys.executable, "-c", _TRAIN),
      f"--config=configs/pretrained.py:{words}",
      f"--config.data.data_dir={self.data_dir}",
      f"--workdir={self.output / name}",
    ]
    with open(self.output / f"{name}.log", "a") as log:
      code = _run_for(command, seconds, log)
      states = {0: "finished", EXIT_CODE: "cut off"}
      state = states.get(code, "failed")
      written = state != "failed" and _write_weights(self.output, name, log)
      # What was cut off before its first checkpoint has no weights.
      if state == "finished" and not written:
        state = "failed"
    spent = time.monotonic() - start
    row = {"network": name, "state": state, "seconds": round(spent, 1)}
    with open(self.output / "queue.jsonl", "a") as rows:
      rows.write(json.dumps(row) + "\n")
    logging.info(
      "%s: %s after %s; %s", name, state, format_duration(spent), log.name
    )
    return state


def _run_for(command: list[str], seconds: float, log: TextIO) -> int:
  """Runs a command for so many seconds at most, then has it save and leave.

  Returns:
    Its exit code; that of a signal is negative.
  """
  process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
  try:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
      try:
        return process.wait(min(left, _TELL_EVERY_S))
      except subprocess.TimeoutExpired:
        logging.info("%s", _last_line(pathlib.Path(log.name)))
    process.send_signal(signal.SIGTERM)
    return process.wait(_KILL_S)
  except subprocess.TimeoutExpired:
    return EXIT_CODE  # killed below; its last checkpoint is what there is
  finally:
    # Ours was stopped, or the training did not stop.
    if process.poll() is None:
      process.kill()
      process.wait()


def _write_weights(output: pathlib.Path, name: str, log: TextIO) -> bool:
  """Writes what a network has learned so far; says whether that went well."""
  command = [
    *(sys.executable, "-m", "semanir_jax.weights", "--dtype=float32"),
    f"--checkpoint={output / name}",
    f"--output={output / (name + SUFFIX)}",
  ]
  ended = subprocess.run(
    command,
    stdout=log,
    stderr=subprocess.STDOUT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    check=False,
  )
  return ended.returncode == 0


def _last_line(path: pathlib.Path) -> str:
  """Returns what a training last said."""
  lines = path.read_text(errors="replace").splitlines()
  return f"{path.stem}: {lines[-1]}" if lines else f"{path.stem}: starting"


def main() -> None:
  """Trains the networks of --networks for --minutes."""
  queue = Queue(
    tuple(flags.FLAGS.networks),
    flags.FLAGS.data_dir,
    pathlib.Path(flags.FLAGS.output),
    smoke=flags.FLAGS.smoke,
  )
  states = queue.train(flags.FLAGS.minutes)
  for name, state in states.items():
    logging.info("%s: %s", name, state)
  if "failed" in states.values():
    failed = ", ".join(n for n, state in states.items() if state == "failed")
    raise ValueError(
      f"{failed}: failed; {queue.output}/NAME.log says why, and the same"
      " command tries again"
    )
  if set(states.values()) != {"finished"}:
    sys.exit(EXIT_CODE)


if __name__ == "__main__":
  flags.DEFINE_list(
    "networks", None, "Networks to train: names in configs/pretrained.py."
  )
  flags.DEFINE_string("data_dir", None, "Folder that holds bsds500 and photos.")
  flags.DEFINE_string("output", None, "Folder for the results.")
  flags.DEFINE_float(
    "minutes", 1e6, "Minutes for all of them.", lower_bound=1.0
  )
  flags.DEFINE_bool(
    "smoke", False, "Train tiny networks for a few steps, to try it."
  )
  flags.mark_flags_as_required(["networks", "data_dir", "output"])
  cli.run(main)
