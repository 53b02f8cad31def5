"""The account of a run: what its rows add up to."""

import json
import time

import pytest

from semanir_jax.machine.compiled import count_compiled
from semanir_jax.training import goodput, record


def _start(step: int, last_step: int, until: str, **seconds: float) -> dict:
  return {
    "step": step,
    "last_step": last_step,
    "until": f"2026-11-30T10:{until}+00:00",
    "seconds": seconds,
  }


def test_steps_made_again_and_gaps_are_lost():
  starts = [
    {"step": 0},  # of before there were accounts
    _start(0, 10, "01:00", training=40.0, starting=12.0, compiling=8.0),
    # 100 s after the first ended it began, from step 6.
    _start(6, 20, "03:20", training=30.0, compiling=4.0, input=6.0),
  ]
  total = goodput.add_up(starts)
  assert total["lost"] == pytest.approx(16.0)  # 4 of 10 steps
  assert total["training"] == pytest.approx(24.0 + 30.0)
  assert total["between"] == pytest.approx(100.0)
  assert total["compiling"] == 12.0 and total["input"] == 6.0
  assert sum(total.values()) == pytest.approx(200.0)


def test_the_table_says_what_it_leaves_out(tmp_path):
  starts = [{"step": 0}, _start(0, 4, "01:00", training=30.0, saving=10.0)]
  text = "".join(json.dumps(start) + "\n" for start in starts)
  (tmp_path / record.STARTS).write_text(text)
  table = goodput.table(tmp_path)
  assert table.startswith(
    "goodput 75.0 % of 40 s, 2 starts, 1 of them without an account\n"
  )
  assert "| saving | 10.0 | 25.0 % |" in table
  (tmp_path / record.STARTS).write_text('{"step": 0}\n')
  with pytest.raises(ValueError, match="no start of this run has kept"):
    goodput.table(tmp_path)
  with pytest.raises(ValueError, match="starts.jsonl: No such file"):
    goodput.table(tmp_path / "absent")


def test_nothing_counts_twice(tmp_path):
  record.record_start(tmp_path, 3, {})
  compiled = count_compiled()
  account = goodput.Account(tmp_path, began=time.time() - 5)
  start = time.monotonic()
  with account.spending("saving"):
    time.sleep(0.05)
    compiled.seconds += 0.02  # of it, as a listener would
  elapsed = time.monotonic() - start
  account.begin_steps()
  account.write(4)
  account.write(9, at_once=False)  # not within a minute
  (line,) = (tmp_path / record.STARTS).read_text().splitlines()
  found = json.loads(line)
  assert found["step"] == 3 and found["last_step"] == 4 and found["command"]
  seconds = found["seconds"]
  assert seconds["compiling"] == pytest.approx(0.02, abs=0.006)
  assert 0.02 <= seconds["saving"] <= elapsed - 0.02 + 0.006
  assert sum(seconds.values()) == pytest.approx(5.05, abs=0.5)
  assert set(seconds) < set(goodput._ROWS)
