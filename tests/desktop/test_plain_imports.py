"""What is imported after PySide6 is not read as text: in a process of its own, as nothing is imported twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import linecache, sys
from PySide6 import QtCore
from desktop.plain_imports import read_no_sources

if sys.argv[1] == "ours":
    read_no_sources()
import large
timer = QtCore.QTimer()
timer.setInterval(7)
print(large.VALUE, any("large" in name for name in linecache.cache), timer.interval())
"""
WHOLE = """
import linecache
from desktop.app import process_of_the_program

process_of_the_program()
import large
print(any("large" in name or "main_window" in name for name in linecache.cache))
"""


def told(tmp_path: Path, code: str, *arguments: str) -> list[str]:
    (tmp_path / "large.py").write_text("VALUE = 5\n")
    paths = os.pathsep.join([str(ROOT), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=os.environ | {"PYTHONPATH": paths},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_module_is_imported_and_its_source_is_not_kept(tmp_path: Path):
    assert told(tmp_path, RUN, "ours") == ["5", "False", "7"]


def test_pyside_itself_reads_it(tmp_path: Path):
    """Once this fails, `desktop/plain_imports.py` is not needed any more."""
    assert told(tmp_path, RUN, "theirs") == ["5", "True", "7"]


def test_the_program_has_it_in_force_before_its_own_modules_come(tmp_path: Path):
    assert told(tmp_path, WHOLE) == ["False"]
