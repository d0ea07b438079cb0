"""What makes a model another one for a job. All that is changed is undone when the job ends, is cancelled or fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from pipelines.runtime.components import ComponentStore
from pipelines.runtime.loader import Model
from pipelines.runtime.part_plan import PartPlan
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Work:
    """What a conditioner may need. `family` is the model's; `store` keeps what it has read for the next job.

    `beside` answers a network that the denoiser is asked with, which lies on the device when that does; `asked` one
    that is asked here and now, and lies there while the context lasts.
    """

    job: Job
    family: Family
    store: ComponentStore
    device: torch.device
    dtype: torch.dtype
    beside: Callable[[PartPlan], Any]
    asked: Callable[[PartPlan], AbstractContextManager[Any]]


class Conditioner(Protocol):
    """`applied` gives the model as this job is to use it, and takes everything back at its end.

    The parts of the model are the store's own, and the next job's: they must leave it bit for bit as they came.
    """

    def wanted(self, request: GenerationRequest) -> bool: ...
    def applied(self, work: Work, model: Model) -> AbstractContextManager[Model]: ...


@contextmanager
def conditioned(conditioners: tuple[Conditioner, ...], work: Work, model: Model) -> Iterator[Model]:
    """The model with everything applied that the request wants."""
    with ExitStack() as undo:
        for conditioner in conditioners:
            if conditioner.wanted(work.job.request):
                model = undo.enter_context(conditioner.applied(work, model))
        yield model
