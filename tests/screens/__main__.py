"""`python -m tests.screens --out DIR`: every screen of the window as PNG files, and one contact sheet."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from tests.screens.shoot import shoot_all

    parser = argparse.ArgumentParser(prog="python -m tests.screens", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the PNG files")
    parser.add_argument("--only", default="", help="names of screens, with commas; all when left out")
    parser.add_argument(
        "--real", action="store_true", help="the demo model draws instead of the drawing program"
    )
    parser.add_argument("--scale", type=float, default=1, help="device pixels for each pixel of the window")
    arguments = parser.parse_args()
    os.environ["QT_SCALE_FACTOR"] = str(arguments.scale)
    sys.exit(shoot_all(arguments.out, arguments.only, arguments.real))
