"""Pictures that go into a request: opened with care, upright, in plain colours."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

from pipelines.library.pictures import UnreadablePicture, open_picture, unreadable
from pipelines.spec.errors import RequestError
from pipelines.spec.request import GenerationRequest

_GROUND = (0, 0, 0)  # what transparent pictures stand on: in a control picture black is nothing


def input_picture(path: str, field: str) -> Image.Image:
    """RGB, upright, decoded. Raises RequestError, naming `field`, for what is missing, damaged or too large."""
    try:
        with open_picture(Path(path)) as picture:
            try:
                return _plain(picture)
            except Exception as error:  # Pillow's plugins raise all kinds for damaged files
                raise unreadable(Path(path), error) from error
    except UnreadablePicture as error:
        raise RequestError(field, error.message, error.hint) from error


def check_inputs(request: GenerationRequest) -> None:
    """Raises RequestError for the first picture of the request that is no picture; decodes none."""
    for field in ("controls", "ip_adapters"):
        for place, given in enumerate(getattr(request, field)):
            try:
                open_picture(Path(given.path)).close()
            except UnreadablePicture as error:
                raise RequestError(f"{field}[{place}].path", error.message, error.hint) from error


def _plain(picture: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(picture)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    ground = Image.new("RGB", upright.size, _GROUND)
    ground.paste(upright, mask=upright.convert("RGBA").getchannel("A"))
    return ground
