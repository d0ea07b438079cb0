"""The real program loads the model in the folder argv[1]; answers how the window ticked until the prompt was read."""

from __future__ import annotations

import sys
from pathlib import Path

from desktop.progress_words import STAGE_TEXTS
from pipelines.library import folders
from pipelines.spec.events import Stage
from tests.benchmarks.probes.app_stalls import Watch
from tests.benchmarks.probes.at_exec import run_program

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folders.default_roots = lambda: (folder,)
    sys.exit(run_program(lambda window: Watch(window, "load", until=STAGE_TEXTS[Stage.ENCODE]) and None))
