"""What every recipe shares: the folder of unfinished work, checkpoints, the moving average, the log."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Clock:
    """Counts training seconds over restarts; the budget of a stage is in seconds or steps."""

    def __init__(self, before: float = 0.0) -> None:
        self._before, self._start = before, time.monotonic()

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._start


class Average:
    """Exponential moving average of a module's parameters, with a warm-up so that the start is forgotten."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay, self._updates = decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"module": self.module.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self._updates = state["updates"]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all: a recipe that is killed while saving resumes from the checkpoint before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def mixed_precision(device: str) -> torch.autocast:
    """bfloat16 where the device computes in it; a CPU without it takes ten times as long as in float32."""
    fast = device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=fast)


def cosine(fraction: float, warmup: float = 0.02, floor: float = 0.02) -> float:
    """Learning rate factor at `fraction` (0 to 1) of the training."""
    if fraction < warmup:
        return max(fraction / warmup, 0.02)
    done = min(1.0, (fraction - warmup) / (1 - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def log(work: Path, stage: str, **figures: object) -> None:
    """One JSON line a report, on the screen and in the folder of work."""
    line = json.dumps({"stage": stage, **figures})
    print(line, flush=True)
    with (work / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
