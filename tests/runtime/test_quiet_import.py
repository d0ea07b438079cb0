"""Importing torch without stalls, offline: what the recipe sets, and that it falls back."""

import gc
import subprocess
import sys

import pytest

from pipelines.runtime import quiet_import

PRELOAD = """
import sys
from pipelines.runtime.quiet_import import preload
opened = preload()
assert "torch" not in sys.modules
print(*opened)
"""

QUIETLY = """
import gc, os, sys
from pipelines.runtime.quiet_import import quietly

def imports():
    assert not gc.isenabled()
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
    assert [os.environ[name] for name in names] == ["1"] * 3
    import json.tool

sys.modules["torch"] = None  # nothing heavy in this test
quietly(imports)
assert gc.isenabled() and gc.get_freeze_count() > 1000 and gc.get_threshold()[0] == 50_000
assert sys.getswitchinterval() < 0.002
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_libraries_open_before_torch_is_imported():
    opened = run(PRELOAD)
    assert "torch_cpu" in opened
    assert "torch_python" in opened


def test_the_collector_rests_and_the_network_is_off_before_the_imports():
    run(QUIETLY)


def test_a_platform_that_differs_falls_back_to_plain_imports(monkeypatch):
    monkeypatch.setattr(quiet_import.importlib.util, "find_spec", lambda name: None)
    assert quiet_import.preload() == []
    monkeypatch.undo()
    monkeypatch.setattr(quiet_import.ctypes, "CDLL", _failing)
    monkeypatch.setattr(quiet_import.ctypes, "WinDLL", _failing, raising=False)
    assert quiet_import.preload() == []


def _failing(name):
    raise OSError(name)


def test_an_import_that_fails_leaves_the_collector_on(monkeypatch):
    before = gc.get_threshold(), sys.getswitchinterval()
    monkeypatch.setattr(quiet_import, "preload", list)

    def imports():
        raise ImportError("no torch here")

    with pytest.raises(ImportError, match="no torch here"):
        quiet_import.quietly(imports)
    gc.set_threshold(*before[0])
    sys.setswitchinterval(before[1])
    assert gc.isenabled()
