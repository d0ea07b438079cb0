"""What this computer is called."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """As its maker calls it, or its architecture where nobody says."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # Linux only
        pass
    return platform.processor() or platform.machine()
