"""How a finding says that what was found cannot be used."""

from __future__ import annotations

import dataclasses

from pipelines.library.detect.finding import Finding
from pipelines.spec.families.others import Other
from pipelines.spec.record import Kind, State

# A part of an unsupported model is of no use whatever it is.
_PARTS = (Kind.UNET, Kind.TRANSFORMER, Kind.TEXT_ENCODER, Kind.VAE)


def refused(finding: Finding, reason: str) -> Finding:
    return dataclasses.replace(finding, state=State.UNSUPPORTED, reason=reason)


def unsupported(finding: Finding, owner: Other, more: str = "") -> Finding:
    """`more` is what its shapes show, for the sentence."""
    kind = Kind.OTHER if finding.kind in _PARTS else finding.kind
    reason = f"It belongs to {owner.name}{more}, which is not supported."
    return refused(dataclasses.replace(finding, kind=kind, base=owner.id), reason)
