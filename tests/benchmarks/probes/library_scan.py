"""One scan of a folder of models through the index: `library_scan ROOT DATABASE`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pipelines.library.index import scan
from tests.benchmarks.probes.told import answer, peak_bytes

begin, cpu = time.perf_counter(), time.process_time()
records = scan([Path(sys.argv[1])], database=Path(sys.argv[2]))
answer(
    wall=time.perf_counter() - begin,
    cpu=time.process_time() - cpu,
    models=len(records),
    mb=peak_bytes() / 1e6,
)
