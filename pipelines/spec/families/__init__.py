"""The table of families. A new one is its own file and its name here."""

from __future__ import annotations

from pipelines.spec.errors import ModelError
from pipelines.spec.families.base import AddOnFacts, Family, FolderFacts
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


def fitting(facts: AddOnFacts) -> Family:
    """The first family that a LoRA or the like goes with. Shapes decide; a maker's word does where they are silent.

    Raises ModelError when nothing tells.
    """
    alike = [f for f in FAMILIES if facts.denoiser in ("", f.add_ons.denoiser)]
    for family in alike:
        if facts.width in family.add_ons.widths:
            return family
    for family in alike:
        if facts.told and facts.told in (family.id, family.add_ons.base):
            return family
    told = facts.told.lower()
    # The longest word wins: 'sdxl_refiner' begins with 'sdxl' as well.
    words = [(len(word), f) for f in alike for word in f.add_ons.words if told.startswith(word)]
    if words:
        return max(words, key=lambda found: found[0])[1]
    width = f" (it is {facts.width} wide)" if facts.width else ""
    raise ModelError(f"It does not show which models it was made for{width}.", _supported())


def _supported() -> str:
    return f"Supported: {', '.join(family.name for family in FAMILIES)}."
