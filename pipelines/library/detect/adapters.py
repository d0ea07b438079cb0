"""LoRAs and control LoRAs: the family whose layers they change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache

from pipelines.library.detect.finding import Finding
from pipelines.library.detect.lora import Adapter
from pipelines.library.detect.model import owner_of
from pipelines.library.detect.refusal import refused, unsupported
from pipelines.library.detect.tensors import Tensors
from pipelines.library.detect.words import told_owner
from pipelines.spec.errors import ModelError
from pipelines.spec.families import FAMILIES
from pipelines.spec.families.base import Family
from pipelines.spec.families.layers import missing
from pipelines.spec.families.others import OTHERS, Other
from pipelines.spec.families.unet_layers import UNET_LORA
from pipelines.spec.record import Kind

_TEXT_COMES_IN = ("*attn2_to_k", "*attn2_to_v", "*attn2_processor_to_k", "*attn2_processor_to_v")


def adapter_finding(shapes: Mapping[str, tuple[int, ...]], told: str) -> Finding:
    """`told` is the family that its maker names, for one whose layers do not show it."""
    adapter = Adapter(shapes)
    finding = Finding(
        kind=Kind.CONTROL_LORA if adapter.is_control else Kind.LORA,
        variant=adapter.lycoris,
        layout=adapter.layout,
        parts=adapter.parts,
    )
    owner = _owner(adapter, finding.kind)
    if isinstance(owner, Other):
        width = _width(adapter.denoiser)
        return unsupported(finding, owner, f" (it is {width} wide)" if width else "")
    try:
        family = owner or _told(adapter, told)
    except ModelError as error:
        return refused(finding, str(error))
    finding = dataclasses.replace(finding, base=family.add_ons.base, family=family.id)
    if finding.kind is Kind.CONTROL_LORA:
        return refused(finding, "It is a control LoRA, which cannot be used yet; a ControlNet can.")
    if adapter.lycoris:
        return refused(finding, f"It is a {adapter.lycoris}, which cannot be used yet; a plain LoRA can.")
    return finding


def _owner(adapter: Adapter, kind: Kind) -> Family | Other | None:
    if owner := _owner_of_layers(tuple(adapter.denoiser.shapes.items())):
        return owner
    return owner_of(Tensors(adapter.shapes), "") if kind is Kind.CONTROL_LORA else None


@lru_cache(64)  # thousands of LoRAs change the same layers, each with a rank of its own
def _owner_of_layers(layers: tuple[tuple[str, tuple[int, ...]], ...]) -> Family | Other | None:
    shape_of = Tensors(dict(layers)).shape_of
    owners = (*OTHERS, *FAMILIES)
    return next((o for o in owners if any(not missing(each, shape_of) for each in o.signs.lora)), None)


def _told(adapter: Adapter, told: str) -> Family:
    """Raises ModelError when nothing tells."""
    layers = adapter.denoiser
    denoiser = "" if not len(layers) else "unet" if layers.has(*UNET_LORA) else "transformer"
    return told_owner(told, _width(layers), denoiser)


def _width(layers: Tensors) -> int:
    """Of the text that comes in, else of what goes into any layer that shows it; 0 when none does."""
    names = (name for name in _TEXT_COMES_IN if layers.has(name))
    shape = next((layers.shape_of(name) for name in names), None)
    shown = (into for _, into in layers.shapes.values() if into)
    return shape[1] if shape and shape[1] else next(shown, 0)
