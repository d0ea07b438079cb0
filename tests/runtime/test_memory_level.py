"""W12: memory over 1,000 jobs and 50 changes of the model is level."""

from __future__ import annotations

import gc
import shutil

import numpy as np
import psutil

from pipelines.spec.events import ImageSaved
from tests.runtime.conftest import job_of, run

JOBS, SWITCHES = 1000, 50
MB_A_HUNDRED = 1.0  # faults.md


def rss_mb() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6


def test_memory_is_level_over_a_thousand_jobs_and_fifty_models(engine, tiny_model, tmp_path, out):
    """The slope of a line through what was taken after each fifty jobs, once the first of them have warmed up."""
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    seen = []
    for number in range(JOBS):
        folder = (tiny_model, other)[number * SWITCHES // JOBS % 2]
        text = f"a red circle {number}" if number % 3 else "a red circle"
        events = run(
            engine,
            job_of(folder, number=number + 1, text=text, steps=2, seed=number, guidance=1.0),
        )
        assert isinstance(events[-1], ImageSaved)
        if number >= JOBS // 5 and number % 50 == 0:
            seen.append((number, rss_mb()))
            shutil.rmtree(out)
    numbers, taken = (np.array(column) for column in zip(*seen, strict=True))
    slope = float(np.polyfit(numbers, taken, 1)[0])
    assert slope * 100 < MB_A_HUNDRED, seen
