"""`CONDITIONERS`: what a request can add to its model, in the order in which it is applied."""

from __future__ import annotations

from pathlib import Path

from pipelines.runtime.conditioning import control, embedding, ip_adapter, lora
from pipelines.runtime.conditioning.base import Conditioner
from pipelines.spec.job import Job
from pipelines.spec.request import GenerationRequest

CONDITIONERS: tuple[Conditioner, ...] = (lora, embedding, control, ip_adapter)


def changes_parts(request: GenerationRequest) -> bool:
    """Whether something is added to parts of the model; LoRAs are put in again whenever one is to compute."""
    return any(each.wanted(request) for each in CONDITIONERS if each is not lora)


def networks_beside(job: Job) -> tuple[tuple[Path, str], ...]:
    """Where the networks lie that the request adds, and for which family they are; each once."""
    return tuple(dict.fromkeys((*control.networks(job), *ip_adapter.networks(job))))
