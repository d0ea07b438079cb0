"""Small pictures for the film strip, kept on disk by path, size and time of the original."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from PIL import Image, ImageOps

from pipelines.library.files import remove, write_temporary
from pipelines.library.pictures import open_picture, unreadable

MAX_KEPT = 20_000  # about 200 MB
_GROUND = (128, 128, 128)  # what transparent pictures stand on


class Thumbnails:
    """Safe from every thread. A cache that cannot be written costs time, nothing else."""

    def __init__(self, cache_dir: Path) -> None:
        self._folder = cache_dir / "thumbnails"

    def get(self, path: Path, side: int = 256) -> Image.Image:
        """RGB, upright, at most `side` pixels wide and high. Raises UnreadablePicture."""
        kept = self._kept_at(path, side)
        try:
            with Image.open(kept, formats=("JPEG",)) as picture:
                picture.load()
                return picture
        except Exception:  # not there yet, or damaged: it is made anew
            thumbnail = _made(path, side)
        self._keep(thumbnail, kept)
        return thumbnail

    def trim(self, most: int = MAX_KEPT) -> None:
        """Deletes the oldest beyond `most`; called once a start, on the I/O lane."""
        with contextlib.suppress(OSError):
            files = sorted(self._folder.glob("*/*.jpg"), key=lambda file: file.stat().st_mtime)
            for file in files[: max(len(files) - most, 0)]:
                remove(file)

    def _kept_at(self, path: Path, side: int) -> Path:
        try:
            facts = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        key = f"{path.absolute()}\0{facts.st_size}\0{facts.st_mtime_ns}\0{side}"
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / name[:2] / f"{name}.jpg"

    def _keep(self, thumbnail: Image.Image, kept: Path) -> None:
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            os.replace(
                write_temporary(kept.parent, lambda file: thumbnail.save(file, "JPEG", quality=90)), kept
            )


def _made(path: Path, side: int) -> Image.Image:
    with open_picture(path) as picture:
        try:
            picture.draft("RGB", (side * 2, side * 2))  # JPEG is decoded at a fraction of its size
            picture.thumbnail((side, side), reducing_gap=2)
            upright = ImageOps.exif_transpose(picture)
            return _opaque(upright)
        except Exception as error:  # Pillow's plugins raise all kinds for damaged files
            raise unreadable(path, error) from error


def _opaque(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    ground = Image.new("RGB", picture.size, _GROUND)
    ground.paste(picture, mask=picture.getchannel("A"))
    return ground
