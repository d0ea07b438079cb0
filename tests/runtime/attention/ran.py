"""Which kernels of attention really ran, by torch's own profiler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from pipelines.runtime import sampling

OPS = {
    "aten::_scaled_dot_product_flash_attention_for_cpu": "flash",
    "aten::_scaled_dot_product_attention_math": "math",
}


def ran(work: Callable[[], Any]) -> Counter[str]:
    """Kernel -> how often. An attention that was written out by hand would be none of them."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        work()
    return Counter({OPS[event.key]: event.count for event in seen.key_averages() if event.key in OPS})


def ran_while_drawing(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Filled by each picture that is drawn from now on: the denoiser's, without those of text encoders and VAE."""
    found, drawn = Counter[str](), sampling._drawn

    def drawing(*args: Any) -> torch.Tensor:
        answers: list[torch.Tensor] = []
        found.update(ran(lambda: answers.append(drawn(*args))))
        return answers[0]

    monkeypatch.setattr(sampling, "_drawn", drawing)
    return found
