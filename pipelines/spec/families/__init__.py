"""The table of families. A new one is its own file and its name here."""

from __future__ import annotations

from pipelines.spec.errors import ModelError
from pipelines.spec.families.base import Family
from pipelines.spec.families.sd1 import SD1

FAMILIES: tuple[Family, ...] = (SD1,)


def by_id(family_id: str) -> Family:
    """Raises ModelError for a family that is not in the table."""
    for family in FAMILIES:
        if family.id == family_id:
            return family
    known = ", ".join(f.id for f in FAMILIES)
    raise ModelError(f"The model family '{family_id}' is not supported.", f"Supported: {known}.")
