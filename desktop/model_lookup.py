"""What the I/O lane does for the Models page: scanning, notes, hashes, parts and uses, one function each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.spec.errors import EngineError
from pipelines.spec.model_note import ModelFacts, ModelNote
from pipelines.spec.record import Format, ModelRecord
from widgets.model_entries import Listed, entries_of

if TYPE_CHECKING:
    from pipelines.library.index import ModelIndex
    from pipelines.library.model_notes import ModelNotes


@dataclass(frozen=True, slots=True)
class Scanned:
    """`notes` are by path; `trouble` is why there are none."""

    records: tuple[ModelRecord, ...] = ()
    listed: Listed = field(default_factory=Listed)
    notes: dict[str, ModelNote] = field(default_factory=dict)
    trouble: EngineError | None = None


def scanned(
    roots: Sequence[Path],
    data: Path,
    store: Callable[[], ModelNotes],
    progress: Callable[[int, int], None],
    check: Callable[[], None],
    enough: Callable[[], bool],
) -> Scanned:
    """All models under `roots`, with what was noted of them; notes go along with files that were moved."""
    from pipelines.library import index

    with contextlib.closing(index.ModelIndex(data / index.FILE)) as models:
        records = models.scan(roots, progress=progress, check=check, enough=enough)
        listed = Listed(entries_of(records))
        try:
            return Scanned(records, listed, _notes(store(), models, records))
        except EngineError as error:
            return Scanned(records, listed, trouble=error)


def _notes(notes: ModelNotes, models: ModelIndex, records: tuple[ModelRecord, ...]) -> dict[str, ModelNote]:
    def hash_of(path: str) -> str:
        known = models.hashes(Path(path))
        return known.sha256 if known else ""

    notes.follow({record.path for record in records}, hash_of, models.paths_of)
    return notes.all()


def folder_to_open(path: Path) -> Path:
    """The model's own folder, or the one that its file lies in. Raises EngineError when it is gone."""
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise EngineError(f"'{path.name}' is not there any more.", "Press Rescan to look what is.")
    return folder


def facts_of_model(record: ModelRecord, data: Path) -> ModelFacts:
    """Its parts, and its hashes as far as they are known. Never raises for a bad file."""
    from pipelines.library.index import FILE, ModelIndex
    from pipelines.library.model_parts import lent_parts, parts_of
    from pipelines.library.reports import report_rows

    path = Path(record.path)
    parts = (*parts_of(path), *lent_parts(record))
    report = report_rows(path)
    if record.format is not Format.SINGLE_FILE:
        return ModelFacts(parts=parts, report=report)
    with contextlib.closing(ModelIndex(data / FILE)) as index:
        known = index.hashes(path)
    if known is None:
        return ModelFacts(parts=parts, report=report)
    return ModelFacts(
        sha256=known.sha256, autov2=known.autov2, autov3=known.autov3, parts=parts, report=report
    )
