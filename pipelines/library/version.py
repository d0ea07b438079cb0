"""The program's name and version, as pictures and reports name it."""

from __future__ import annotations

import functools
from pathlib import Path

NAME = "Emulsion"


@functools.cache
def program() -> str:
    """'Emulsion 0.1.0'; a source tree is asked through its pyproject.toml."""
    return f"{NAME} {_source_version() or _installed_version()}".strip()


def _source_version() -> str:
    try:
        text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text("utf-8")
    except OSError:
        return ""
    import tomllib  # a start with an installed program can do without

    try:
        project = tomllib.loads(text)["project"]
        return str(project["version"]) if project["name"].lower() == NAME.lower() else ""
    except (ValueError, KeyError, TypeError):
        return ""


def _installed_version() -> str:
    import importlib.metadata  # brings email, which takes longer than all else here

    try:
        return importlib.metadata.version(NAME.lower())
    except importlib.metadata.PackageNotFoundError:
        return ""
