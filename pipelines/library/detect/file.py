"""What one weight file is: by its keys and shapes first, by what its maker says of it second, by its name last."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from pipelines.library.detect import numbers
from pipelines.library.detect.adapters import adapter_finding
from pipelines.library.detect.embedding import embedding_finding
from pipelines.library.detect.finding import Finding
from pipelines.library.detect.kinds import IP_ADAPTER, KINDS
from pipelines.library.detect.lora import is_lora
from pipelines.library.detect.model import Evidence, model_finding
from pipelines.library.detect.part import controlnet_finding, other_part, part_finding
from pipelines.library.detect.refusal import refused
from pipelines.library.detect.tensors import Tensors, split
from pipelines.library.header import Header
from pipelines.spec.families.layers import missing
from pipelines.spec.record import Kind


def detect(
    header: Header,
    name: str,
    told: str = "",
    yaml: str = "",
    whole: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Finding:
    """`name` is the file's without its suffix, `told` the family that its maker names, `yaml` the text beside it.

    `whole` are the shapes of packed weights before they were packed, as far as they are known.
    """
    quantised = numbers.quantisation(header)
    shapes = {**numbers.shapes(header, quantised), **whole}
    evidence = Evidence(name=name, told=told, yaml=yaml, metadata=header.metadata)
    return dataclasses.replace(
        _finding(header, shapes, evidence),
        dtype=numbers.dtype(header, quantised),
        quantisation=quantised,
        parameters=numbers.parameters(header, quantised),
    )


def _finding(header: Header, shapes: dict[str, tuple[int, ...]], evidence: Evidence) -> Finding:
    if is_lora(shapes) and not Tensors(shapes).has(*IP_ADAPTER):  # those for faces bring a LoRA along
        return adapter_finding(shapes, evidence.told)
    parts = split(shapes)
    bare = parts.get("control") or parts.get("", Tensors({}))
    row = next((row for row in KINDS if not missing(row.layers, bare.shape_of)), None)
    if row is not None and row.kind is Kind.CONTROLNET:
        return controlnet_finding(row, bare, evidence.told)
    if model := model_finding(parts, evidence):
        return model
    if row is not None:
        return part_finding(row, bare, evidence)
    if embedding := embedding_finding(shapes, evidence.told):
        return embedding
    return other_part(parts) or _by_architecture(header) or _unknown(parts)


def _by_architecture(header: Header) -> Finding | None:
    """GGUF files say what they are, also where their tensors do not show it."""
    word = header.metadata.get("general.architecture", "")[:60]
    if not word:
        return None
    reason = f"It is a model of the kind '{word}', which is not supported."
    return refused(Finding(kind=Kind.OTHER, base=word), reason)


def _unknown(parts: dict[str, Tensors]) -> Finding:
    if not any(len(tensors) for tensors in parts.values()):
        return refused(Finding(kind=Kind.UNKNOWN), "The file holds no tensors.")
    return refused(Finding(kind=Kind.UNKNOWN), "It is not known what this file is for.")
