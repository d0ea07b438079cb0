"""What a diffusers folder is, by its model_index.json and the configs of its parts. Whether it is whole: elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from pipelines.library.detect.configs import layers_of
from pipelines.library.detect.finding import Finding
from pipelines.library.detect.model import Evidence, owner_of, varied
from pipelines.library.detect.refusal import refused, unsupported
from pipelines.library.detect.tensors import Tensors
from pipelines.spec.errors import ModelError
from pipelines.spec.families import detected
from pipelines.spec.families.base import Family, FolderFacts
from pipelines.spec.families.others import OTHERS, Other
from pipelines.spec.record import Kind


def folder_finding(facts: FolderFacts, index: dict[str, Any], evidence: Evidence) -> Finding:
    """`evidence.name` is the folder's. Never raises: what is of no use has its reason."""
    finding = Finding(kind=Kind.CHECKPOINT, layout="diffusers", parts=tuple(sorted(facts.parts)))
    if other := _other(facts, index):
        return _named(unsupported(finding, other), other, facts)
    try:
        family = detected(facts, evidence.told)
    except ModelError as error:
        family = _by_layers(facts)
        if family is None:
            return refused(finding, str(error))
        problem = str(error)
    else:
        problem = ""
    config = facts.configs.get("scheduler", {})
    finding = varied(
        dataclasses.replace(finding, guidance=family.signs.guidance),
        family,
        layers_of(facts.configs.get(family.denoiser, {})),
        Tensors({}),
        dataclasses.replace(
            evidence, pipeline=facts.class_name, scheduler=str(config.get("_class_name", ""))
        ),
    )
    if told := config.get("prediction_type"):
        finding = dataclasses.replace(finding, prediction=str(told)[:40], assumed=())
    return refused(finding, problem) if problem and not finding.reason else finding


def _other(facts: FolderFacts, index: dict[str, Any]) -> Other | None:
    """The family that is not supported, by any class that only its folders name."""
    names = {facts.class_name, *_classes(index)}
    names |= {str(config.get("_class_name")) for config in facts.configs.values()}
    return next((owner for owner in OTHERS if names & owner.signs.classes), None)


def _classes(index: dict[str, Any]) -> Iterator[str]:
    for value in index.values():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[1], str):
            yield value[1]


def _named(finding: Finding, other: Other, facts: FolderFacts) -> Finding:
    if facts.class_name not in other.signs.classes:
        return finding
    reason = f"Models of the kind '{facts.class_name[:60]}' are not supported: this one is {other.name}."
    return dataclasses.replace(finding, reason=reason)


def _by_layers(facts: FolderFacts) -> Family | None:
    """By its denoiser alone: a variant that has a class of its own, or other parts than it should have."""
    owner = owner_of(layers_of(facts.configs.get("unet") or facts.configs.get("transformer") or {}), "")
    return owner if isinstance(owner, Family) and _knows(owner, facts.class_name) else None


def _knows(family: Family, class_name: str) -> bool:
    return class_name in family.classes or any(class_name in v.classes for v in family.signs.variants)
