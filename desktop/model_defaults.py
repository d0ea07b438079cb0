"""What a model has an opinion on, and how a request follows the choice of another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipelines.spec import families
from pipelines.spec.errors import EngineError
from pipelines.spec.families.base import Family
from pipelines.spec.model_note import ModelDefaults
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest


def family_of(record: ModelRecord | None) -> Family | None:
    try:
        return families.by_id(record.family) if record is not None and record.family else None
    except EngineError:
        return None


def native_size(record: ModelRecord | None, family: Family) -> int:
    return record.native_size if record is not None and record.native_size else family.sizes.native


def defaults_for(record: ModelRecord) -> dict[str, Any]:
    """The fields of a request that a model has an opinion on."""
    family = family_of(record)
    if family is None:
        return {}
    side = native_size(record, family)
    size = replace(family.size, width=side, height=side)
    return {"sampling": record.sampling or family.sampling, "size": size}


def with_own_defaults(request: GenerationRequest, own: ModelDefaults | None) -> GenerationRequest:
    """What a person set for the model holds whatever was set before; the seed stays."""
    if own is None:
        return request
    return replace(request, size=own.size, sampling=replace(own.sampling, seed=request.sampling.seed))


def with_defaults(
    request: GenerationRequest, before: Mapping[str, Any], after: Mapping[str, Any]
) -> GenerationRequest:
    """`before` and `after`: the defaults of the model that was left and of the one that was chosen."""
    if not after:
        return request
    size = after["size"] if not before or request.size == before["size"] else request.size
    kept = replace(request.sampling, seed=0)
    sampling = request.sampling
    if not before or kept == replace(before["sampling"], seed=0):
        sampling = replace(after["sampling"], seed=request.sampling.seed)
    return replace(request, size=size, sampling=sampling)
