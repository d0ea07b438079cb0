"""Families and variants by the words that makers use: in metadata, and in the names of files."""

from __future__ import annotations

import re

from pipelines.spec.errors import ModelError
from pipelines.spec.families import FAMILIES, fitting
from pipelines.spec.families.base import AddOnFacts, Family


def fits_name(word: str, text: str) -> bool:
    """Whether `word` stands in `text` by itself: '512' in 'v2-1_512-ema', not in '1512'."""
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", text.lower()) is not None


def named_families(told: str, anywhere: bool = False) -> list[Family]:
    """The families that `told` names, the longest word first; it begins with the word, or has it `anywhere`."""
    text = told.strip().lower()
    if not text:
        return []
    exact = [family for family in FAMILIES if text in (family.id, family.add_ons.base)]
    fits = fits_name if anywhere else (lambda word, words: words.startswith(word))
    found = [(len(word), family) for family in FAMILIES for word in family.add_ons.words if fits(word, text)]
    return exact or [family for _, family in sorted(found, key=lambda pair: -pair[0])]


def told_owner(told: str, width: int, denoiser: str = "") -> Family:
    """The family that the maker names, for what does not show it by its layers; `width` is what they show instead.

    Raises ModelError when nothing tells.
    """
    try:
        return fitting(AddOnFacts(denoiser=denoiser, told=told))
    except ModelError as error:
        wide = f" (it is {width} wide)" if width else ""
        raise ModelError(f"It does not show which models it was made for{wide}.", error.hint) from error
