"""What was measured on: machine, system, packages, load."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "xformers", "numpy", "Pillow",
    "PySide6-Essentials",
)  # fmt: skip


def fingerprint(ceilings: dict[str, Any]) -> dict[str, Any]:
    """`ceilings` are the measured limits of ceilings.py, or empty where they were not taken."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        **_gpu(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "load1": round(psutil.getloadavg()[0], 2),
        **ceilings,
    }


def commit() -> str:
    """The commit of the checkout, with '+' where files differ from it; '' without git."""
    head = _output("git", "rev-parse", "--short=12", "HEAD")
    return head + "+" if head and _output("git", "status", "--porcelain") else head


def load1() -> float:
    return psutil.getloadavg()[0]


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> dict[str, str]:
    answer = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    name, _, driver = answer.splitlines()[0].partition(", ") if answer else ("", "", "")
    return {"gpu": name, "driver": driver}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _output(*command: str) -> str:
    """What the command prints, '' where it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
