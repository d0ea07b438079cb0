"""What the I/O lane does with picture files.

Pillow and the readers of metadata are imported by the first of these calls: before the first paint they would be a
quarter of the time that the window takes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtGui import QImage

from pipelines.spec.errors import EngineError
from widgets.picture_model import Picture

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.library.metadata.read import StoredPicture

MAX_PICTURES = 100_000
THUMBNAIL_SIDE = 256


def listed(folder: Path) -> list[Picture]:
    """The pictures of `folder`, newest first."""
    from pipelines.library import gallery

    return [
        Picture(path=str(entry.path), created=entry.created, width=entry.width, height=entry.height)
        for entry in gallery.newest_first(folder, MAX_PICTURES)
    ]


def thumbnail(cache_dir: Path, path: str) -> QImage:
    """Raises EngineError for a file that cannot be shown."""
    from pipelines.library.thumbnails import Thumbnails

    return to_qimage(Thumbnails(cache_dir).get(Path(path), THUMBNAIL_SIDE))


def read_image(path: str) -> QImage:
    """Upright, RGB or RGBA. Raises EngineError with the file's name."""
    from PIL import ImageOps

    from pipelines.library.pictures import open_picture, unreadable

    with open_picture(Path(path)) as picture:
        try:
            return to_qimage(ImageOps.exif_transpose(picture))
        except Exception as error:  # Pillow answers damaged files with half a dozen unrelated classes
            raise unreadable(Path(path), error) from error


def to_qimage(picture: Image.Image) -> QImage:
    """A copy that owns its pixels."""
    alpha = picture.has_transparency_data
    picture = picture.convert("RGBA" if alpha else "RGB")
    kind = QImage.Format.Format_RGBA8888 if alpha else QImage.Format.Format_RGB888
    stride = picture.width * (4 if alpha else 3)
    return QImage(picture.tobytes(), picture.width, picture.height, stride, kind).copy()


def settings_of(path: str) -> StoredPicture | None:
    """The request in the file; None when it holds none. Raises EngineError for a file that cannot be opened."""
    from pipelines.library.metadata.read import read_request
    from pipelines.library.pictures import open_picture

    open_picture(Path(path)).close()
    return read_request(Path(path))


def save_copy(source: Path, target: Path) -> None:
    """Raises EngineError for an unknown ending or a place that cannot be written."""
    from pipelines.library.export import export_picture

    export_picture(source, target)


def to_trash(path: str) -> None:
    """A file that is gone already is fine. Raises EngineError when the system's trash does not take it."""
    from send2trash import TrashPermissionError, send2trash

    if not os.path.lexists(path):
        return
    try:
        send2trash(path)
    except (OSError, TrashPermissionError) as error:
        raise EngineError(f"'{Path(path).name}' could not be moved to the trash.", str(error)) from error
