"""What a drop onto the window means. Nothing is fetched and nothing starts by itself."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QMimeData

from pipelines.spec.errors import EngineError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def dropped_picture(mime: QMimeData) -> Path:
    """The one local picture file of a drop. Raises EngineError, saying why, for everything else."""
    urls = mime.urls()
    if not urls:
        raise EngineError("Only a picture file can be dropped here.")
    if len(urls) > 1:
        raise EngineError(f"{len(urls)} things were dropped.", "Drop one picture at a time.")
    if not urls[0].isLocalFile():
        raise EngineError(
            "A link was dropped; nothing was fetched.", "Save the picture first and drop the file."
        )
    path = Path(urls[0].toLocalFile())
    if path.is_dir():
        raise EngineError(f"'{path.name}' is a folder.", "Drop one picture file.")
    if path.suffix.lower() not in SUFFIXES:
        raise EngineError(
            f"'{path.name}' is not a PNG, JPEG or WebP picture.", "Its settings cannot be read."
        )
    return path
