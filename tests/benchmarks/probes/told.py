"""What a probe tells the process that started it. It imports next to nothing: that would be measured as well."""

from __future__ import annotations

import os
import time
from typing import Any

STARTED = "EMULSION_BENCH_STARTED_NS"  # time.perf_counter_ns() of the parent, just before the start


def since_start_s() -> float:
    """Seconds since the parent started this process. perf_counter is one clock for the whole system."""
    return (time.perf_counter_ns() - int(os.environ[STARTED])) / 1e9


def answer(**values: Any) -> None:
    """Prints the answer and ends at once, with whatever threads are still at work."""
    import json

    print(json.dumps(values), flush=True)
    os._exit(0)


def peak_bytes() -> int:
    """The most memory that this process has had. Linux' own count in rusage begins with that of the parent."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except OSError:
        import resource
        import sys

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
