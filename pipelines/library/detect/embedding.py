"""Textual inversions: vectors for a text encoder, and nothing else in the file."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.library.detect.finding import Finding
from pipelines.library.detect.refusal import refused
from pipelines.spec.errors import ModelError
from pipelines.spec.families import FAMILIES, fitting
from pipelines.spec.families.base import AddOnFacts
from pipelines.spec.record import Kind

MAX_VECTORS = 75  # what one reading of a prompt has room for
A1111, SDXL_PAIR = "emb_params", frozenset({"clip_l", "clip_g"})


def embedding_finding(shapes: Mapping[str, tuple[int, ...]], told: str) -> Finding | None:
    """None when it is none: vectors for one text encoder, or one set for each of SDXL's two."""
    if not _vectors(shapes) or (shapes.keys() != SDXL_PAIR and len(shapes) > 1):
        return None
    ((_, shape), *_) = shapes.items()
    widths = {width for family in FAMILIES for width in family.add_ons.widths}
    if not (shapes.keys() & {A1111, *SDXL_PAIR} or shape[-1] in widths or told):
        return None
    finding = Finding(kind=Kind.EMBEDDING, parts=("embedding",))
    try:
        family = fitting(AddOnFacts(width=sum(shape[-1] for shape in shapes.values()), told=told))
    except ModelError as error:
        return refused(finding, str(error))
    return Finding(kind=Kind.EMBEDDING, parts=("embedding",), base=family.add_ons.base, family=family.id)


def _vectors(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    counts = (
        shape[0] if len(shape) == 2 else 1 for shape in shapes.values() if 1 <= len(shape) <= 2 and shape[-1]
    )
    return bool(shapes) and sum(1 <= count <= MAX_VECTORS for count in counts) == len(shapes)
