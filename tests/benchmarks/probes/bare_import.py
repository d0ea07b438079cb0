"""Imports the modules that are listed in the file argv[1], in their order, with nothing else around it."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
import warnings
from pathlib import Path

from tests.benchmarks.probes.told import answer

if __name__ == "__main__":
    names = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")
    wall, cpu = time.perf_counter(), time.process_time()
    for name in names:
        # sys.modules also holds what others put there without a file of that name; it came with their import.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    answer(
        wall=time.perf_counter() - wall,
        cpu=time.process_time() - cpu,
        missing=sum(n not in sys.modules for n in names),
    )
