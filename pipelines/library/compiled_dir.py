"""Where torch keeps the programs that it compiles: in our cache, where the next start of the program finds them.

Its own choice is a folder for temporary files, which is empty after each start of the computer. It makes the folder
while it is imported, so that one that cannot be made would keep the engine from starting.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
FOLDER = "compiled"  # in the cache
_OWN = "emulsion-compiled-"


def prepare(wanted: str, environ: MutableMapping[str, str] = os.environ) -> str:
    """Names torch a folder that can be written; to be called before it is imported. A sentence for what is off, or ''.

    It is the one that the user has named by `VARIABLE`, else `wanted`; where neither can be, one for this run alone.
    Raises OSError where there is not even room for that.
    """
    named = environ.get(VARIABLE, "")
    named = "" if _OWN in named else named  # of the engine before this one
    problem = ""
    for folder in filter(None, (named, wanted)):
        if not (why := _why_not(Path(folder))):
            environ[VARIABLE] = folder
            return f"{problem} They are kept in {folder} instead." if problem else ""
        by = f", named by {VARIABLE}" if folder == named else ""
        problem = problem or f"The folder for compiled programs cannot be written: {folder}{by} ({why})."
    if not problem:
        return ""  # nobody wants one: torch's own
    environ[VARIABLE] = here = tempfile.mkdtemp(prefix=_OWN)
    atexit.register(shutil.rmtree, here, ignore_errors=True)
    return f"{problem} They are compiled anew at each start."


def _why_not(folder: Path) -> str:
    """Why nothing can be written there; empty where it can. Makes the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
