"""`Settings`: what the program remembers between two starts, one dataclass in one JSON file."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pipelines.library.files import remove, write_temporary
from pipelines.spec.attention import NAMES
from pipelines.spec.devices import DTYPES, KNOWN, is_device, is_encoders_device
from pipelines.spec.errors import EngineError
from pipelines.spec.previews import PREVIEWS
from pipelines.spec.request import GenerationRequest

log = logging.getLogger(__name__)

THEMES = ("system", "light", "dark")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`output_dir` empty: the default folder. `geometry` and `docks` are Qt's own bytes in base64.

    `load_limit_s`, `step_limit_s` and `compile_limit_s`: seconds of silence after which the window offers a restart.
    `unknown` keeps what a newer version wrote, so that going back and forth loses nothing.
    """

    theme: str = "system"
    output_dir: str = ""
    model_folders: tuple[str, ...] = ()
    device: str = "auto"
    encoders_device: str = ""
    dtype: str = "auto"
    attention: str = "auto"
    deterministic: bool = False
    threads: int = 0
    preview: str = "fast"
    filename_pattern: str = "[number]-[seed]"
    load_limit_s: float = 300.0
    step_limit_s: float = 120.0
    compile_limit_s: float = 1200.0
    geometry: str = ""
    docks: str = ""
    seed_locked: bool = False
    hash_in_background: bool = True
    last_request: GenerationRequest | None = None
    unknown: Mapping[str, Any] = field(default_factory=dict)


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value or len(value) > 100_000:
        raise ValueError("must be text")
    return value


def _one_of(known: Sequence[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return value

    return read


def _folder(value: Any) -> str:
    """Empty, or a path that the system can have: half of a surrogate pair raises no OSError but a ValueError."""
    os.fsencode(_text(value))
    return value


def _folders(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of folders")
    return tuple(_folder(item) for item in value)


def _device(value: Any) -> str:
    if not isinstance(value, str) or not is_device(value):
        raise ValueError(f"must be one of {KNOWN}")
    return value


def _encoders_device(value: Any) -> str:
    if not isinstance(value, str) or not is_encoders_device(value):
        raise ValueError(f"must be empty or one of {KNOWN}, but not auto")
    return value


def _threads(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1024:
        raise ValueError("must be a whole number from 0 to 1024")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 86_400:
        raise ValueError("must be a number of seconds from 1 to 86400")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


class _Partly(Exception):
    """Some of a value could not be read; `rest` is it without that."""

    def __init__(self, rest: Any, left_out: Sequence[EngineError]) -> None:
        super().__init__()
        self.rest, self.left_out = rest, left_out


def _request(value: Any) -> GenerationRequest | None:
    if value is None:
        return None
    request, left_out = GenerationRequest.readable(value)
    if left_out:
        nothing = request == GenerationRequest(model="")
        raise _Partly(None if nothing else request, left_out)
    return request


READERS: dict[str, Callable[[Any], Any]] = {
    "theme": _one_of(THEMES),
    "output_dir": _folder,
    "model_folders": _folders,
    "device": _device,
    "encoders_device": _encoders_device,
    "dtype": _one_of(DTYPES),
    "attention": _one_of(NAMES),
    "deterministic": _flag,
    "threads": _threads,
    "preview": _one_of(PREVIEWS),
    "filename_pattern": _text,
    "load_limit_s": _seconds,
    "step_limit_s": _seconds,
    "compile_limit_s": _seconds,
    "geometry": _text,
    "docks": _text,
    "seed_locked": _flag,
    "hash_in_background": _flag,
    "last_request": _request,
}


def from_dict(data: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The settings, and one line for each value, or part of one, that was bad and is replaced by its default."""
    good: dict[str, Any] = {}
    bad: list[str] = []
    for name, value in data.items():
        if name not in READERS:
            continue
        try:
            good[name] = READERS[name](value)
        except _Partly as partly:
            good[name] = partly.rest
            bad += [f"{name}: {error.message}" for error in partly.left_out]
        except (ValueError, TypeError, RecursionError, EngineError) as error:
            bad.append(f"{name}: {error}")
    unknown = {name: value for name, value in data.items() if name not in READERS}
    return Settings(**good, unknown=unknown), bad


def to_dict(settings: Settings) -> dict[str, Any]:
    known = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "unknown"}
    known["model_folders"] = list(settings.model_folders)
    if settings.last_request is not None:
        known["last_request"] = settings.last_request.to_dict()
    return {**settings.unknown, **known}


class SettingsFile:
    """The settings in use. `change` is for the GUI thread; `write`, for any, writes the newest value."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.value = Settings()
        self.problems: list[str] = []
        self._writing = threading.Lock()

    def load(self) -> Settings:
        """Never raises: what cannot be read is kept aside and replaced by defaults."""
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if not isinstance(data, dict):
                raise ValueError("is not a JSON object")
            self.value, self.problems = from_dict(data)
        except FileNotFoundError:
            return self.value
        except (OSError, ValueError, RecursionError) as error:
            self.problems = [str(error)]
        if self.problems:
            self._keep_aside()
        return self.value

    def _keep_aside(self) -> None:
        log.warning("settings file %s: %s", self.path, "; ".join(self.problems))
        try:
            shutil.copyfile(self.path, self.path.with_suffix(".json.bad"))
        except OSError as error:
            log.warning("the bad settings file could not be kept: %s", error)

    def change(self, **values: Any) -> Settings:
        self.value = replace(self.value, **values)
        return self.value

    def write(self) -> None:
        """Whole or not at all. Raises OSError."""
        with self._writing:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(to_dict(self.value), ensure_ascii=True, indent=1)
            part = write_temporary(self.path.parent, lambda file: file.write(text.encode()))
            try:
                os.replace(part, self.path)
            finally:
                remove(part)
