"""The door of the desktop application: nothing Qt is imported before it is known that it can be."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType

SWITCH_S = 0.001  # the engine's thread hands the GIL back sooner, so the window stalls less
HEADLESS = "python main.py generate --help tells how to make pictures without a window."


def main(argv: Sequence[str] = ()) -> int:
    """Opens the window and runs until it is closed. 0: closed normally; 1: no window can be opened."""
    if why := _no_display():
        return _refuse(why)
    try:
        process = process_of_the_program()
    except ImportError as error:
        if "PySide6" not in str(error) and "lib" not in str(error):
            raise
        return _refuse(f"Qt cannot be loaded: {error}")
    sys.setswitchinterval(SWITCH_S)
    return process.run(list(argv))


def process_of_the_program() -> ModuleType:
    """All of the window. Raises ImportError where Qt cannot be loaded."""
    from PySide6 import QtCore  # noqa: F401 - brings what is switched off next

    from desktop.plain_imports import read_no_sources
    from pipelines.library.resting import collector_resting

    read_no_sources()
    with collector_resting():
        from desktop import process

    return process


def _no_display() -> str:
    """Only what is certain; what Qt finds out by itself ends in `desktop.logs`."""
    if not sys.platform.startswith("linux") or os.environ.get("QT_QPA_PLATFORM"):
        return ""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return ""
    return "there is no display (DISPLAY and WAYLAND_DISPLAY are not set)."


def _refuse(why: str) -> int:
    print(f"Emulsion cannot open a window: {why} {HEADLESS}", file=sys.stderr)  # noqa: T201
    return 1
