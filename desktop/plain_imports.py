"""Keeps PySide6 from reading the source of all that is imported after it."""

from __future__ import annotations

import sys


def read_no_sources() -> None:
    """To be called once PySide6 is there, before anything large is imported.

    PySide6 6.11 replaces `__import__` by one that reads each new module's source, to find out whether it may want Qt's
    names in snake_case, and the sources stay in `linecache`: of torch, diffusers and transformers 170 MB, and a second.
    Nobody here asks for such names (`__feature__`), so every module is answered for as one that does not use Qt.
    """
    feature = sys.modules.get("shibokensupport.feature")
    if feature is not None and "_mod_uses_pyside" in vars(feature):
        vars(feature)["_mod_uses_pyside"] = lambda module: False
