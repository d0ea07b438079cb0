"""'Save as': a copy of a finished picture in another place or format, with all its data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from PIL.PngImagePlugin import PngInfo

from pipelines.library.files import remove, write_temporary
from pipelines.library.metadata import carriers
from pipelines.library.metadata.write import OWN, PARAMETERS, add_text, exif
from pipelines.library.pictures import open_picture
from pipelines.spec.errors import NotSaved

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
MAX_EXIF_BYTES = 65_000  # one JPEG segment


def export_picture(source: Path, target: Path, quality: int = 95) -> None:
    """Writes `target`, whole or not at all, in the format of its suffix; one that is there is replaced.

    Raises NotSaved for an unknown suffix or a place that cannot be written, UnreadablePicture for the source.
    """
    name = _FORMATS.get(target.suffix.lower())
    if name is None:
        raise NotSaved(f"{target.name} was not saved: its ending is unknown.", "Use .png, .jpg or .webp.")
    with open_picture(source) as picture:
        try:
            whole = picture.convert("RGB") if name == "JPEG" else picture
            options = _options(name, carriers.texts(source), quality)
            _replace(target, lambda file: whole.save(file, name, **options))
        except OSError as error:
            reason = error.strerror or "the picture is damaged"
            raise NotSaved(f"{target} was not saved: {reason}.", "Choose another folder.") from error


def _options(name: str, texts: dict[str, str], quality: int) -> dict[str, Any]:
    if name == "PNG":
        info = PngInfo()
        for keyword, text in texts.items():
            add_text(info, keyword, text.replace("\0", ""))
        return {"pnginfo": info}
    block = exif(texts.get(PARAMETERS, ""), texts.get(OWN, ""))
    if len(block) > MAX_EXIF_BYTES:
        raise NotSaved("The prompt is too long for this format.", "Save it as PNG.")
    return {"exif": block, "quality": quality}


def _replace(target: Path, write: Callable[[BinaryIO], object]) -> None:
    temporary = write_temporary(target.parent, write)
    try:
        os.replace(temporary, target)
    finally:
        remove(temporary)
