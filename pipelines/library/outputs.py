"""Finished pictures become files: `outputs/YYYY-MM-DD/NAME.png`, whole or not at all, never over another."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from pipelines.library.files import publish, remove, write_temporary
from pipelines.library.metadata.write import png_info
from pipelines.library.names import cut, filled, safe_stem
from pipelines.spec.errors import NotSaved, RequestError
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest
from pipelines.spec.schedulers import scheduler_by_id

DEFAULT_PATTERN = "[number]-[seed]"
TAGS = (
    "number", "seed", "date", "datetime", "prompt", "prompt_words", "model_name", "steps", "cfg", "width",
    "height", "sampler",
)  # fmt: skip
_SUFFIX = ".png"
# Level 1 takes a quarter of the time of Pillow's own 6 and 17 % more space; the lane waits for it.
_COMPRESS_LEVEL = 1
_TRIES = 10_000
_ANY, _NUMBER = "\ue000", "\ue001"  # private characters that stand for a tag's value


def save_picture(
    image: Image.Image,
    request: GenerationRequest,
    *,
    record: ModelRecord,
    seed: int,
    image_index: int,
    output_dir: Path,
    pattern: str,
    seconds: float,
    marks: tuple[str, ...] = (),
    refiner: ModelRecord | None = None,
) -> Path:
    """The path of the saved picture. `seed` is this picture's own, `seconds` what it took.

    Raises NotSaved, with the folder and what to do; nothing is left behind then.
    """
    now = datetime.now()
    info = png_info(
        request,
        record=record,
        seed=seed,
        image_index=image_index,
        size=image.size,
        seconds=seconds,
        marks=marks,
        refiner=refiner,
    )

    def write(file: BinaryIO) -> None:
        image.save(file, "PNG", pnginfo=info, compress_level=_COMPRESS_LEVEL)

    try:
        folder = _day_folder(output_dir, now)
        values = _values(request, record, seed, image.size, now)
        temporary = write_temporary(folder, write)
        try:
            return _publish(temporary, folder, pattern or DEFAULT_PATTERN, values)
        finally:
            remove(temporary)
    except OSError as error:
        raise _not_saved(output_dir, error) from error


def _day_folder(output_dir: Path, now: datetime) -> Path:
    folder = output_dir / f"{now:%Y-%m-%d}"
    folder.mkdir(parents=True, exist_ok=True)
    if not folder.resolve().is_relative_to(output_dir.resolve()):
        text = f"The picture was not saved: {folder} is a link that leads out of the output folder."
        raise NotSaved(text, "Remove the link, or choose another output folder.")
    return folder


def _publish(temporary: Path, folder: Path, pattern: str, values: dict[str, str]) -> Path:
    with os.scandir(folder) as entries:
        taken = {entry.name.casefold() for entry in entries}
    for stem in _stems(pattern, values, _next_number(pattern, taken)):
        if f"{stem}{_SUFFIX}".casefold() in taken:
            continue
        path = folder / f"{stem}{_SUFFIX}"
        try:
            publish(temporary, path)
        except FileExistsError:
            continue  # another instance was faster
        return path
    text = f"The picture was not saved: no free name was found in {folder}."
    raise NotSaved(text, "Put [number] into the file name pattern.")


def _stems(pattern: str, values: dict[str, str], number: int) -> Iterator[str]:
    """The pattern with ever higher numbers; where the number does not show, a counter at the end instead."""
    last = ""
    for i in range(_TRIES):
        text = filled(pattern, {**values, "number": f"{number + i:05d}"})
        stem = safe_stem(text)
        yield stem if stem != last else safe_stem(text, f"-{i + 1}")
        last = stem


def _next_number(pattern: str, taken: set[str]) -> int:
    """One more than the highest number that a file of this pattern in the folder has.

    Longer digits are seeds, of a pattern that was in use before.
    """
    marked = dict.fromkeys(TAGS, _ANY) | {"number": _NUMBER}
    before, number, after = safe_stem(filled(pattern, marked)).partition(_NUMBER)
    if not number:
        return 1
    start = "" if _ANY in before else "^"
    end = "" if _ANY in after else f"{re.escape(_SUFFIX)}$"
    near = re.escape(before.rpartition(_ANY)[2]), re.escape(after.partition(_ANY)[0])
    shape = re.compile(f"{start}{near[0]}(?<![0-9])([0-9]{{5,7}})(?![0-9]){near[1]}{end}", re.IGNORECASE)
    return max((int(found[1]) for name in taken if (found := shape.search(name))), default=0) + 1


def _values(
    request: GenerationRequest, record: ModelRecord, seed: int, size: tuple[int, int], now: datetime
) -> dict[str, str]:
    words = re.findall(r"\w+", request.prompt.text)
    return {
        "seed": str(seed),
        "date": f"{now:%Y-%m-%d}",
        "datetime": f"{now:%Y%m%d-%H%M%S}",
        "prompt": cut(request.prompt.text.encode("utf-8", "replace").decode(), 100),
        "prompt_words": cut(" ".join(words[:8]).encode("utf-8", "replace").decode(), 80),
        "model_name": cut(record.title, 60),
        "steps": str(request.sampling.num_inference_steps),
        "cfg": f"{request.sampling.guidance_scale:g}",
        "width": str(size[0]),
        "height": str(size[1]),
        "sampler": _sampler(request.sampling.scheduler),
    }


def _sampler(scheduler: str) -> str:
    try:
        return scheduler_by_id(scheduler).name
    except RequestError:
        return scheduler


_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space, or choose another output folder."),
    errno.EDQUOT: ("your share of the disk is used up", "Free some space, or choose another output folder."),
    errno.EFBIG: ("the file would be larger than is allowed there", "Choose another output folder."),
    errno.EACCES: ("the folder may not be written to", "Choose another output folder, or change its rights."),
    errno.EPERM: ("the folder may not be written to", "Choose another output folder, or change its rights."),
    errno.EROFS: ("the disk is read-only", "Choose another output folder."),
    errno.ENOTDIR: ("a file stands where the folder should be", "Move that file, or choose another folder."),
    errno.EEXIST: ("a file stands where the folder should be", "Move that file, or choose another folder."),
    errno.ENOENT: ("the folder is gone", "Connect the drive again, or choose another output folder."),
}


def _not_saved(output_dir: Path, error: OSError) -> NotSaved:
    fallback = (error.strerror or type(error).__name__, "Choose another output folder.")
    reason, hint = _REASONS.get(error.errno or 0, fallback)
    return NotSaved(f"The picture was not saved to {output_dir}: {reason}.", hint)
