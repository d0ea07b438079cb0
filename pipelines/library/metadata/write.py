"""What Emulsion writes into its pictures: A1111's text for everybody, the whole request for itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import PureWindowsPath
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipelines.library.metadata.infotext import infotext
from pipelines.library.version import program
from pipelines.spec.errors import ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Feature
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest

PARAMETERS, OWN = "parameters", "emulsion"
VERSION = 1
EXIF_IFD, SOFTWARE, USER_COMMENT, MAKER_NOTE = 0x8769, 0x0131, 0x9286, 0x927C
UNICODE_MARK, OWN_MARK = b"UNICODE\0", b"Emulsion\0"
PICTURED = ("controls", "ip_adapters")  # fields of a request that name pictures, several each


def png_info(
    request: GenerationRequest,
    *,
    record: ModelRecord,
    seed: int,
    image_index: int,
    size: tuple[int, int],
    seconds: float,
    marks: tuple[str, ...] = (),
    refiner: ModelRecord | None = None,
) -> PngInfo:
    """The text chunks of one PNG. `size` is (width, height) of the picture in pixels."""
    info = PngInfo()
    own = own_json(request, seed=seed, image_index=image_index, seconds=seconds, marks=marks)
    text = infotext(
        request,
        model_name=record.title,
        seed=seed,
        size=size,
        refiner_name=refiner.title if refiner else "",
        distilled=distilled_guidance(record),
    )
    add_text(info, PARAMETERS, text)
    add_text(info, OWN, own)
    return info


def distilled_guidance(record: ModelRecord) -> bool:
    """Whether `guidance_scale` is an input of the model, and CFG something else beside it."""
    try:
        return Feature.TRUE_CFG in by_id(record.family).supports
    except ModelError:
        return False


def add_text(info: PngInfo, keyword: str, text: str) -> None:
    """ASCII as tEXt, all else as iTXt: in tEXt some tools read Latin-1 and others UTF-8."""
    if text.isascii():
        info.add_text(keyword, text)
    else:
        info.add_itxt(keyword, text)


def own_json(
    request: GenerationRequest, *, seed: int, image_index: int, seconds: float, marks: tuple[str, ...] = ()
) -> str:
    """The whole request and what came of it, as one JSON object."""
    data = {
        "version": VERSION,
        "program": program(),
        "request": private(request).to_dict(),
        "seed": seed,
        "image_index": image_index,
        "seconds": round(seconds, 3),
        "marks": list(marks),
    }
    text = json.dumps(data, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: only an escape can carry it
        return json.dumps(data)
    return text


def exif(text: str, own: str = "") -> bytes:
    """The EXIF block for JPEG and WebP: A1111's text as UserComment in UTF-16, our JSON as MakerNote."""
    block = Image.Exif()
    block[SOFTWARE] = program()
    tags = {USER_COMMENT: UNICODE_MARK + text.encode("utf-16-be", "replace")}
    if own:
        tags[MAKER_NOTE] = OWN_MARK + own.encode()
    block[EXIF_IFD] = tags
    return block.tobytes()


def private(request: GenerationRequest) -> GenerationRequest:
    """The request with input pictures by name only: a path tells the user's name and what else is there.

    Of its speed only what the picture shows: the rest is the machine's.
    """
    changes: dict[str, Any] = {
        field: tuple(_by_name(given) for given in getattr(request, field)) for field in PICTURED
    }
    if request.image:
        changes["image"] = _by_name(request.image)
    return dataclasses.replace(request, **changes, speed=request.speed.drawn)


def _by_name(given: Any) -> Any:
    # The Windows rules know both separators.
    return dataclasses.replace(given, path=PureWindowsPath(given.path).name)
