"""Opening pictures that anybody may have made: three formats, a limit on size, one kind of error."""

from __future__ import annotations

import errno
from pathlib import Path

from PIL import Image

from pipelines.spec.errors import EngineError

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
MAX_PIXELS = 100_000_000


class UnreadablePicture(EngineError):
    """A file is no picture, is damaged, or is too large."""


def open_picture(path: Path) -> Image.Image:
    """The picture, not yet decoded: use it in `with`. Raises UnreadablePicture."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise FileNotFoundError(errno.ENOENT, "there is no such file")
        picture = Image.open(path, formats=FORMATS)
    except Exception as error:  # Pillow's plugins raise all kinds for damaged files
        raise unreadable(path, error) from error
    width, height = picture.size
    if width * height > MAX_PIXELS:
        picture.close()
        text = f"{path.name} is too large: {width}×{height} pixels."
        raise UnreadablePicture(text, f"At most {MAX_PIXELS // 1_000_000} million pixels can be shown.")
    return picture


def unreadable(path: Path, error: Exception) -> UnreadablePicture:
    reason = (
        error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged or no picture"
    )
    hint = "Was it moved or deleted?" if isinstance(error, FileNotFoundError) else "PNG, JPEG and WebP can."
    return UnreadablePicture(f"{path.name} cannot be shown: {reason}.", hint)
