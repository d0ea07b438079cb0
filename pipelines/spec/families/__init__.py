"""The table of families. A new one is its own file and its name here."""

from __future__ import annotations

from pipelines.spec.errors import ModelError
from pipelines.spec.families.base import Family, FolderFacts
from pipelines.spec.families.flux import FLUX_DEV, FLUX_SCHNELL
from pipelines.spec.families.sd1 import SD1
from pipelines.spec.families.sd2 import SD2
from pipelines.spec.families.sdxl import SDXL
from pipelines.spec.families.sdxl_refiner import SDXL_REFINER

FAMILIES: tuple[Family, ...] = (SD1, SD2, SDXL, SDXL_REFINER, FLUX_SCHNELL, FLUX_DEV)


def by_id(family_id: str) -> Family:
    """Raises ModelError for a family that is not in the table."""
    for family in FAMILIES:
        if family.id == family_id:
            return family
    raise ModelError(f"The model family '{family_id}' is not supported.", _supported())


def detected(facts: FolderFacts, told: str = "") -> Family:
    """The family of a diffusers folder; `told` is the one its maker names, which a reduced model needs.

    Raises ModelError with what keeps it from being each family of its class.
    """
    alike = [family for family in FAMILIES if facts.class_name in family.classes]
    for family in alike:
        if family.id == told or (not told and not family.misses(facts)):
            return family
    kind = f"Models of the kind '{facts.class_name[:60]}' are not supported"
    reasons = "; ".join(f"not {f.name}: {f.misses(facts) or 'it says it is another'}" for f in alike)
    raise ModelError(f"{kind} ({reasons})." if reasons else f"{kind}.", _supported())


def _supported() -> str:
    return f"Supported: {', '.join(family.name for family in FAMILIES)}."
