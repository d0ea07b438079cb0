"""Denoisers by themselves find the parts that they lack among the other models, as ComfyUI's loaders take them.

A file of FLUX holds the transformer; its VAE, CLIP-L, T5 and T5's list of words lie elsewhere, most often for several
models. Nothing is copied: the record names where each part is.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipelines.library.folders import models_dir
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family
from pipelines.spec.lent_parts import BY_NEED, WORDS
from pipelines.spec.record import Format, Kind, ModelRecord, State

LENT = (Kind.VAE, Kind.TEXT_ENCODER)
WORD_FILE = "tokenizer.json"
# The whole numbers first: 16 bits are what the parts are made in, 8 bits cost quality.
_DTYPES = ("bfloat16", "float16", "float32")
# Where other programs keep T5's words, from the folder that a text encoder or the program is in.
_WORD_FOLDERS = (
    "tokenizer_2",
    "t5_tokenizer",
    "tokenizers/t5",
    "comfy/text_encoders/t5_tokenizer",
    "backend/huggingface/black-forest-labs/FLUX.1-dev/tokenizer_2",
)


def incomplete(record: ModelRecord, family: Family) -> ModelRecord:
    """With all that is missing, and a sentence that says what it is and where it is looked for."""
    record = dataclasses.replace(record, state=State.INCOMPLETE, lacks_words=bool(family.lent_words))
    named = (BY_NEED[need].title if need in BY_NEED else need for need in record.lacking)
    words = f" Put them into a model folder; the list of words into {words_folder()}."
    where = words if record.lacks_words else ""
    problem = f"It needs besides: {', '.join(named)}.{where or ' Put them into a model folder.'}"
    return dataclasses.replace(record, problem=problem)


def words_folder() -> Path:
    """The place for T5's words that no other program has to know."""
    return models_dir() / BY_NEED[WORDS].folder


def completed(records: Iterable[ModelRecord]) -> Iterator[ModelRecord]:
    """All records; those of denoisers are ready where everything that they lack is among the others."""
    every = tuple(records)
    waiting = {r.path for r in every if r.state is State.INCOMPLETE and _waits(r)}  # of thousands hardly any
    if not waiting:
        yield from every
        return
    lenders = sorted((r for r in every if r.kind in LENT and r.state is State.READY), key=_rank)
    folders = [r for r in every if r.format is Format.DIFFUSERS and r.family.startswith("flux")]
    for record in every:
        yield _completed(record, lenders, folders) if record.path in waiting else record


def _waits(record: ModelRecord) -> bool:
    return (
        record.draws
        and record.format is Format.SINGLE_FILE
        and bool(record.family)
        and not record.sharded
        and bool(by_id(record.family).file_parts)
    )


def _rank(record: ModelRecord) -> tuple[int, str]:
    return _DTYPES.index(record.dtype) if record.dtype in _DTYPES else len(_DTYPES), record.path


def _completed(
    record: ModelRecord, lenders: Sequence[ModelRecord], folders: Sequence[ModelRecord]
) -> ModelRecord:
    family = by_id(record.family)
    parts = {row.need: part for part, row in family.file_parts.items() if row.need}
    found: dict[str, str] = {}
    missing = []
    for need in record.needs:
        fitting = [each for each in lenders if _fits(each, need, record)]
        near = [each for each in fitting if os.path.dirname(each.path) == os.path.dirname(record.path)]
        if fitting:
            found[parts[need]] = (near or fitting)[0].path
        else:
            missing.append(need)
    for part in family.lent_words:
        places = [found.get(part.replace("tokenizer", "text_encoder"), ""), record.path]
        if folder := _words(places, folders, part):
            found[part] = folder
    left = dataclasses.replace(record, needs=tuple(missing))
    without_words = [part for part in family.lent_words if part not in found]
    if missing or without_words:
        rest = family if without_words else dataclasses.replace(family, lent_words=())
        return incomplete(left, rest)
    return dataclasses.replace(
        left,
        needs=(),
        lacks_words=False,
        state=State.READY,
        problem="",
        borrowed=tuple(sorted(found.items())),
    )


def _fits(lender: ModelRecord, need: str, record: ModelRecord) -> bool:
    if need == "vae":
        return lender.kind is Kind.VAE and record.base in lender.base.split("/")
    return lender.kind is Kind.TEXT_ENCODER and lender.variant == need


def _words(places: Sequence[str], folders: Sequence[ModelRecord], part: str) -> str:
    """The folder of a tokenizer.json of T5; empty when there is none."""
    return next(
        (
            str(folder)
            for folder in _word_folders(places, folders, part)
            if os.path.isfile(folder / WORD_FILE)
        ),
        "",
    )


def _word_folders(places: Sequence[str], folders: Sequence[ModelRecord], part: str) -> Iterator[Path]:
    yield words_folder()
    yield from (Path(record.path) / part for record in folders if not record.id.startswith("demo-"))
    for place in map(Path, filter(None, places)):
        yield place.with_suffix("")
        for parent in list(place.parents)[:5]:
            yield from (parent / name for name in _WORD_FOLDERS)
