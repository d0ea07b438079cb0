"""What of a prompt a tokenizer can take; pure text, no torch."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from pipelines.spec.request import MAX_PROMPT

UNREADABLE = "Characters that cannot be read were left out of the prompt."
TOO_LONG = "The prompt is very long; its end was cut off."


@dataclass(frozen=True, slots=True)
class CleanText:
    text: str
    notes: tuple[str, ...] = ()


def clean(text: str) -> CleanText:
    """Lone surrogates and control characters out, the length bounded; `notes` tell the user."""
    cut = text[:MAX_PROMPT]
    kept = "".join(c for c in cut if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs"))
    notes = ((TOO_LONG,) if len(cut) < len(text) else ()) + ((UNREADABLE,) if len(kept) < len(cut) else ())
    return CleanText(kept, notes)
