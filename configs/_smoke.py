"""What the variant `smoke` sets in every config."""

from typing import Any

SMOKE: dict[str, Any] = {
  "model.dim": 8,
  "model.num_heads": 1,
  "model.depths": (1, 1),
  "model.window_size": 4,
  "model.num_keys": 8,
  "model.max_keys": 16,
  "data.patch_size": 16,
  "train.batch_size": 8,
  "train.num_steps": 4,
  "schedule.milestones": (2,),
  "schedule.warmup_steps": 0,
  "schedule.hold_steps": 0,
  "eval.every_steps": 2,
  "eval.max_images": 1,
  "checkpoint.every_steps": 2,
  "log.every_steps": 1,
}
