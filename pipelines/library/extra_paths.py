"""ComfyUI's `extra_model_paths.yaml`: which further folders hold models. Hostile YAML is refused with a sentence."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipelines.library.beside import read_small
from pipelines.spec.errors import ModelError

MAX_BYTES = 64_000
MAX_FOLDERS = 200
MAX_DEPTH = 10
_NO_MODELS = ("custom_nodes", "configs")
_HINT = "Correct it, or remove it; the other folders are used without it."


class _Plain(yaml.SafeLoader):
    """Values only: an alias can stand for a thousand million others (the bomb of aliases), and is not needed here."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError("it is nested too deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_yaml(path: Path) -> dict[str, Any]:
    """Raises ModelError for what cannot be read, is too big, or is no plain mapping. No tag makes an object."""
    try:
        data = read_small(path, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ModelError(f"{path.name} is too big.", _HINT)
        value = yaml.load(data.decode("utf-8-sig"), _Plain)
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}.", _HINT) from error
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        RecursionError,
        OverflowError,
        AttributeError,
        LookupError,
    ) as error:
        why = getattr(error, "problem", None) or error
        raise ModelError(f"{path.name} is not the plain YAML it should be ({_short(why)}).", _HINT) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} is not the plain YAML it should be (no names in it).", _HINT)
    return value


def _short(error: object) -> str:
    return " ".join(str(error).split())[:80]


def extra_folders(path: Path) -> tuple[tuple[str, Path], ...]:
    """(what it is for, in ComfyUI's word; the folder), those that are there, the defaults first. Raises ModelError."""
    sections = [section for section in read_yaml(path).values() if isinstance(section, dict)]
    sections.sort(key=lambda section: section.get("is_default") is not True)
    found: dict[Path, str] = {}
    for section in sections:
        for word, folder in _folders(section, path.parent):
            if len(found) < MAX_FOLDERS and _is_place(folder):
                found.setdefault(folder, word)
    return tuple((word, folder) for folder, word in found.items())


def _folders(section: dict[Any, Any], home: Path) -> Iterator[tuple[str, Path]]:
    """Relative to `base_path`, and that to the file's own folder; several folders are on lines of their own."""
    base = section.get("base_path")
    start = _joined(home, base) if isinstance(base, str) and base.strip() else home
    for word, value in section.items():
        if word in ("base_path", "is_default", *_NO_MODELS) or not isinstance(value, str):
            continue
        yield from ((str(word), _joined(start, line)) for line in value.split("\n") if line.strip())


def _joined(start: Path, text: str) -> Path:
    told = os.path.expandvars(text.strip())
    with contextlib.suppress(ValueError):  # a home with a NUL in its name
        told = os.path.expanduser(told)
    return Path(os.path.normpath(start / told))


def _is_place(folder: Path) -> bool:
    """A whole drive is none: it would be searched through."""
    try:
        real = os.path.realpath(folder)
        return os.path.dirname(real) != real and os.path.isdir(real)
    except (OSError, ValueError):
        return False
