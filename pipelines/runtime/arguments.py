"""What of a request the pipeline call takes as it is, by what the family can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.spec.families.base import Family, Feature
from pipelines.spec.request import GenerationRequest, Size


def by_feature(request: GenerationRequest, family: Family) -> dict[str, Any]:
    """Keyword arguments of the family's pipelines, whatever the task."""
    arguments: dict[str, Any] = {}
    for feature, told in _TOLD.items():
        if feature in family.supports:
            arguments |= told(request)
    return arguments


def _size_conditioning(request: GenerationRequest) -> dict[str, Any]:
    told = request.size_conditioning
    return {
        "original_size": _height_first(told.original or request.size),
        "target_size": _height_first(told.target or request.size),
        "crops_coords_top_left": (told.crop_top, told.crop_left),
    }


def _height_first(size: Size) -> tuple[int, int]:
    return size.height, size.width


def _aesthetic_score(request: GenerationRequest) -> dict[str, Any]:
    told = request.refiner
    if told is None:
        return {}
    return {
        "aesthetic_score": told.aesthetic_score,
        "negative_aesthetic_score": told.negative_aesthetic_score,
    }


_TOLD: Mapping[Feature, Callable[[GenerationRequest], dict[str, Any]]] = {
    Feature.SIZE_CONDITIONING: _size_conditioning,
    Feature.AESTHETIC_SCORE: _aesthetic_score,
    Feature.TRUE_CFG: lambda request: {"true_cfg_scale": request.true_cfg_scale},
}
