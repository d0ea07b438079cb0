"""Files of one part: ControlNets, autoencoders, text encoders, adapters, upscalers."""

from __future__ import annotations

import dataclasses

from pipelines.library.detect.finding import Finding
from pipelines.library.detect.kinds import KindRow
from pipelines.library.detect.model import Evidence, owner_of
from pipelines.library.detect.refusal import refused, unsupported
from pipelines.library.detect.tensors import Tensors
from pipelines.library.detect.words import named_families, told_owner
from pipelines.spec.errors import ModelError
from pipelines.spec.families import FAMILIES
from pipelines.spec.families.base import Family
from pipelines.spec.families.layers import Conditions, missing
from pipelines.spec.families.others import OTHERS, Other
from pipelines.spec.record import Kind


def controlnet_finding(row: KindRow, tensors: Tensors, told: str) -> Finding:
    finding = Finding(kind=Kind.CONTROLNET, layout=row.layout, parts=("controlnet",))
    # What it makes of its picture is no layer of the denoiser's; the rest has the same names and widths.
    owner = owner_of(tensors, "")
    if isinstance(owner, Other):
        return unsupported(finding, owner)
    if owner is None and row.layout in ("ldm", "diffusers"):  # a small one has other widths, or no attention
        owner = next(iter(named_families(told)), None)
    base = owner.add_ons.base if owner else _by_width(row, tensors)
    if not base:
        return refused(finding, "It does not show which models this ControlNet was made for.")
    family = owner or _first_of(base)
    return dataclasses.replace(finding, base=base, family=family.id if family else "")


def part_finding(row: KindRow, tensors: Tensors, evidence: Evidence) -> Finding:
    finding = Finding(
        kind=row.kind, variant=row.which, layout=row.layout, parts=(row.which or row.kind.value,)
    )
    if row.kind is Kind.TEXT_ENCODER:
        other = _matching(OTHERS, "text", tensors)
        return unsupported(finding, other) if other else dataclasses.replace(finding, base="any")
    if row.kind in (Kind.UPSCALER, Kind.IMAGE_ENCODER):
        return dataclasses.replace(finding, base="any")
    if row.kind in (Kind.VAE, Kind.TINY_VAE):
        return _autoencoder(row, finding, tensors, evidence)
    try:
        family = _first_of(_by_width(row, tensors)) or told_owner(evidence.told, _width(row, tensors))
    except ModelError as error:
        return refused(finding, str(error))
    return dataclasses.replace(finding, base=family.add_ons.base, family=family.id)


def _autoencoder(row: KindRow, finding: Finding, tensors: Tensors, evidence: Evidence) -> Finding:
    """Several families have autoencoders of the same shape; then the maker's word and the file's name tell."""
    if row.kind is Kind.VAE and (other := _matching(OTHERS, "vae", tensors)):
        return unsupported(dataclasses.replace(finding, kind=Kind.OTHER), other)
    if row.kind is Kind.VAE:
        fitting = [f for f in FAMILIES if any(not missing(each, tensors.shape_of) for each in f.signs.vae)]
    else:
        channels = _width(row, tensors)
        fitting = [f for f in FAMILIES if f.signs.vae and f.latent.channels == channels]
    bases = list(dict.fromkeys(family.add_ons.base for family in fitting))
    if not bases:
        return refused(finding, "Its latents are of no family that is supported.")
    named = [
        family.add_ons.base
        for family in named_families(evidence.told) or named_families(evidence.title, anywhere=True)
    ]
    if len(bases) == 1:
        return dataclasses.replace(finding, base=bases[0], family=fitting[0].id)
    if chosen := next((base for base in named if base in bases), ""):
        note = f"That it belongs to '{chosen}' is taken from its name."
        family = next(f for f in fitting if f.add_ons.base == chosen)
        return dataclasses.replace(finding, base=chosen, family=family.id, assumed=(note,))
    note = f"Its shapes fit {', '.join(bases)} alike; the file does not say which it is for."
    return dataclasses.replace(finding, base="/".join(bases), assumed=(note,))


def _width(row: KindRow, tensors: Tensors) -> int:
    names, side = row.width
    shape = next((shape for name in names if (shape := tensors.shape_of(name)) is not None), ())
    return shape[side] if len(shape) > side else 0


def _by_width(row: KindRow, tensors: Tensors) -> str:
    return dict(row.fits).get(_width(row, tensors), "") if row.width[0] else ""


def _first_of(base: str) -> Family | None:
    return next((family for family in FAMILIES if family.add_ons.base == base), None)


def _matching(owners: tuple[Other, ...], part: str, tensors: Tensors) -> Other | None:
    def fits(alternatives: tuple[Conditions, ...]) -> bool:
        return any(not missing(each, tensors.shape_of) for each in alternatives)

    return next((owner for owner in owners if fits(getattr(owner.signs, part))), None)


def other_part(parts: dict[str, Tensors]) -> Finding | None:
    """A VAE or a text encoder of a family that is not supported."""
    bare = parts.get("") or parts.get("vae") or Tensors({})
    for part in ("vae", "text"):
        if owner := _matching(OTHERS, part, bare):
            return unsupported(Finding(kind=Kind.OTHER, parts=(part,)), owner)
    return None
