"""What is not finished yet, over restarts: one small JSON file a download, so that two programs never share one.

Tokens and the secret parts of addresses are not in it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.library.download.errors import DownloadError
from pipelines.library.download.file_names import inner_path, safe_name
from pipelines.library.download.hosts import checked, without_secrets
from pipelines.library.download.plan import Plan, PlannedFile
from pipelines.library.files import remove, write_temporary

FOLDER = "downloads"
_NAME = re.compile(r"[0-9a-f]{16}\.json")
_MAX_BYTES = 5_000_000
_LOG = logging.getLogger(__name__)


class Unfinished:
    """The files in `folder`. What cannot be written costs only the memory of a download, so nothing is raised."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, plan: Plan) -> str:
        """The key of what was written down, '' when it could not be."""
        key = secrets.token_hex(8)
        data = {"version": 1, **asdict(plan), "folder": str(plan.folder.absolute())}
        data["files"] = [{**asdict(file), "url": without_secrets(file.url)} for file in plan.files]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(data).encode()
            temporary = write_temporary(self._folder, lambda file: file.write(text))
            os.replace(temporary, self._folder / f"{key}.json")
        except OSError as error:
            _LOG.warning("a download will not be known after a restart: %s", error)
            return ""
        return key

    def drop(self, key: str) -> None:
        if key:
            remove(self._folder / f"{key}.json")

    def plans(self) -> dict[str, Plan]:
        """Key and plan of each, oldest first; what cannot be read is left out."""
        found: list[tuple[float, str, Plan]] = []
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if _NAME.fullmatch(path.name) and (plan := _read(path)) is not None:
                    with contextlib.suppress(OSError):
                        found.append((path.stat().st_mtime, path.stem, plan))
        return {key: plan for _, key, plan in sorted(found, key=lambda each: each[:2])}


def _read(path: Path) -> Plan | None:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        return _plan(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DownloadError) as error:
        _LOG.info("not a download: %s (%s)", path, type(error).__name__)
        return None


def _plan(data: dict[str, Any]) -> Plan:
    """Checked as strictly as what a host says: the file may come from anywhere. Raises ValueError and the like."""
    files = tuple(_file(each) for each in data["files"])
    name = _text(data["name"])
    folder = Path(_text(data["folder"]))
    if not files or not folder.is_absolute() or (name and name != safe_name(name)):
        raise ValueError("not a plan")
    if not name and (len(files) != 1 or "/" in files[0].path):
        raise ValueError("not a plan")
    return Plan(
        source=_text(data["source"]),
        title=_text(data["title"]),
        folder=folder,
        files=files,
        name=name,
        mark=_text(data["mark"]),
    )


def _file(data: dict[str, Any]) -> PlannedFile:
    size = data["size"]
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
        raise ValueError("size")
    sha256 = _text(data["sha256"])
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError("sha256")
    url = _text(data["url"])
    checked(url)
    path = inner_path(_text(data["path"]))
    return PlannedFile(url=url, path=path, size=size, exact=bool(data["exact"]), sha256=sha256)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 10_000 or "\0" in value:
        raise ValueError("text")
    return value
