"""Child processes that measure themselves and print one JSON object as their last line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from tests.benchmarks.fingerprint import ROOT
from tests.benchmarks.probes.told import STARTED


def run_child(probe: str, *args: str, timeout_s: float = 600.0) -> dict[str, Any]:
    """Runs `tests/benchmarks/probes/PROBE.py` offscreen, offline and with settings of its own.

    Bytecode is kept as it is on a user's machine: where it is not, every start compiles all sources of the program
    anew, and the times are those of the compiler.
    Raises RuntimeError with the end of its stderr when it fails or prints no JSON.
    """
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as home:
        environment = os.environ | {
            "QT_QPA_PLATFORM": "offscreen",
            "HF_HUB_OFFLINE": "1",
            "EMULSION_HOME": home,
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", f"tests.benchmarks.probes.{probe}", *args]
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment[STARTED] = str(time.perf_counter_ns())
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s
        )
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise RuntimeError(f"{probe} ended with {done.returncode}: {done.stderr[-2000:]}") from error
