"""The program's name and version, as pictures and reports name it."""

from __future__ import annotations

import functools
import importlib.metadata
import tomllib
from pathlib import Path

NAME = "Emulsion"


@functools.cache
def program() -> str:
    """'Emulsion 0.1.0'; a source tree that was never installed is asked through its pyproject.toml."""
    try:
        version = importlib.metadata.version("emulsion")
    except importlib.metadata.PackageNotFoundError:
        version = _source_version()
    return f"{NAME} {version}".strip()


def _source_version() -> str:
    try:
        text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text("utf-8")
        return str(tomllib.loads(text)["project"]["version"])
    except (OSError, ValueError, KeyError):
        return ""
