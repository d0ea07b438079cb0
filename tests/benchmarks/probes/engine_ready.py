"""Starts the worker as the window does, waits until it is ready, and answers what that took and imported."""

from __future__ import annotations

import queue
import sys
import tempfile
import time

from pipelines.runtime.worker import Worker
from pipelines.spec.events import Event, WorkerReady
from pipelines.spec.options import EngineOptions
from tests.benchmarks.probes.told import answer


def build():
    from pipelines.runtime.engine import build

    return build(EngineOptions(output_dir=tempfile.gettempdir(), device=sys.argv[1]))


if __name__ == "__main__":
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    before = set(sys.modules)
    wall, cpu = time.perf_counter(), time.process_time()
    Worker(build, events.put).start()
    event = events.get()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if not isinstance(event, WorkerReady):
        sys.exit(str(event))
    theirs = [name for name in sys.modules if name not in before and name.partition(".")[0] != "pipelines"]
    answer(wall=wall, cpu=cpu, modules=theirs)
