"""`Plan`: what would be fetched and where it goes. A person confirms it before a byte of it is asked for."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pipelines.library.download.errors import DownloadError, NoRoom
from pipelines.library.download.file_names import PART
from pipelines.spec.downloads import size_text


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """`path` is relative, with '/', and safe; `sha256` in hex, empty where the host tells none.

    `size` in bytes, None where the host tells none; `exact` is False for one that it rounds.
    """

    url: str
    path: str
    size: int | None = None
    exact: bool = True
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`name` is the folder that the files become, empty for one file that goes right into `folder`.

    `mark` says which state of a repository the files are of; `notes` are sentences for the user.
    """

    source: str
    title: str
    folder: Path
    files: tuple[PlannedFile, ...]
    name: str = ""
    mark: str = ""
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """Of all files in bytes, None when one of them is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def target(self) -> Path:
        """Where it goes, unless there is something of this name already."""
        return self.folder / (self.name or self.files[0].path)


def free_bytes(folder: Path) -> int:
    """On the drive that `folder` will be on; it need not be there yet. Raises DownloadError."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        return shutil.disk_usage(there).free
    except OSError as error:
        text = f"The drive of {folder} cannot be asked for its free space: {error.strerror}."
        raise DownloadError(text, "Choose another folder.") from error


def require_room(plan: Plan) -> None:
    """Raises NoRoom with the figures. What an earlier try has left is counted in."""
    if plan.size is None:
        return
    needed = max(0, plan.size - _there_already(plan))
    free = free_bytes(plan.folder)
    if needed > free:
        raise NoRoom(
            f"{plan.folder} has {size_text(free)} free; {plan.title} needs {size_text(needed)}.",
            "Make room, or choose a folder on another drive.",
        )


def _there_already(plan: Plan) -> int:
    begun = plan.target.with_name(f"{plan.target.name}{PART}")
    try:
        if begun.is_dir():
            return sum(path.stat().st_size for path in begun.rglob("*") if path.is_file())
        return begun.stat().st_size
    except OSError:
        return 0
