"""Phases of progressive training."""

import numpy as np
import pytest

from semanir_jax.training.data import make_data
from semanir_jax.training.phases import Phase, make_phases
from tests import small


def test_without_progressive_there_is_one_phase():
  config = small.config(train__num_steps=7, data__patch_size=32)
  assert make_phases(config, 8) == [Phase(0, 0, 7, 32, 8)]


def test_phases_follow_each_other():
  rows = ((3, 16, 16), (2, 24, 8), (1, 32, 8))
  config = small.config(
    train__num_steps=6, train__progressive=rows, train__batch_size=16
  )
  assert make_phases(config, 4) == [
    Phase(0, 0, 3, 16, 16),
    Phase(1, 3, 5, 24, 8),
    Phase(2, 5, 6, 32, 8),
  ]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"progressive": ((3, 16, 8), (2, 24, 8))},
      r"have 5 steps in all.* set config.train.progressive=\(\) for a single",
    ),
    ({"progressive": ((3, 16, 8), (1, 24))}, "every phase is .steps, patch_s"),
    ({"progressive": ((4, 0, 8),)}, "each at least 1"),
    (
      {"progressive": ((4, 16, 16),)},
      "batch_size=8 must be those of the first",
    ),
    ({"progressive": ((4, 24, 8),)}, "patch_size=16 and .* phase, .24, 8."),
    ({"progressive": ((3, 16, 8), (1, 24, 6))}, "of devices, 4 .phase 1 of"),
    ({"batch_size": 6}, "batch_size=6 must be a multiple of the number of dev"),
    ({"accumulate": 4}, "of devices, 4, times config.train.accumulate=4"),
  ],
)
def test_phases_that_do_not_fit_are_refused(changes, message):
  changes = {f"train__{name}": value for name, value in changes.items()}
  with pytest.raises(ValueError, match=message):
    make_phases(small.config(**changes), 4)


def test_no_phase_draws_what_another_or_another_seed_draws():
  rng = np.random.RandomState(0)
  images = rng.randint(0, 256, (4, 32, 32, 3), np.uint8)
  source = [{"image": image, "name": str(i)} for i, image in enumerate(images)]
  batches = []
  for seed in (0, 1):
    config = small.config(data__num_threads=1, seed=seed)
    for phase in (Phase(0, 0, 2, 16, 4), Phase(1, 2, 4, 16, 4)):
      data = make_data(config, [source], phase)
      batches.append(next(data)["hq"])
      data.close()
  assert {batch.shape for batch in batches} == {(4, 16, 16, 3)}
  assert len({batch.tobytes() for batch in batches}) == 4
