"""Many jobs with two tiny models in turns; answers the process's memory every so many jobs.

argv: two model folders, jobs, changes of the model, jobs between two looks, the device.
"""

from __future__ import annotations

import gc
import shutil
import sys
import tempfile
from pathlib import Path

import psutil

from pipelines.runtime.engine import build
from pipelines.spec.events import ImageSaved
from pipelines.spec.options import EngineOptions
from tests.benchmarks.models import job_for, prompted, record_of
from tests.benchmarks.probes.told import answer


def main(folders: list[str], jobs: int, switches: int, every: int, device: str) -> None:
    out = tempfile.mkdtemp(prefix="emulsion-bench-")
    engine = build(EngineOptions(output_dir=out, device=device, threads=1))
    records = [record_of(Path(folder)) for folder in folders]
    seen = []
    for number in range(jobs):
        record = records[number * switches // jobs % len(records)]
        told: list[object] = []
        request = prompted(record, number if number % 3 else 0, seed=number)
        engine.run(job_for(record, request, number + 1), told.append)
        assert any(isinstance(event, ImageSaved) for event in told)
        if number % every == every - 1:
            shutil.rmtree(out)
            seen.append((number + 1, *_taken(device)))
    shutil.rmtree(out, ignore_errors=True)
    answer(seen=seen)


def _taken(device: str) -> tuple[int, int]:
    """Bytes of RAM and of the card."""
    gc.collect()
    card = 0
    if device == "cuda":
        import torch

        card = torch.cuda.memory_allocated()
    return psutil.Process().memory_info().rss, card


if __name__ == "__main__":
    jobs, switches, every = (int(word) for word in sys.argv[3:6])
    main(sys.argv[1:3], jobs, switches, every, sys.argv[6])
