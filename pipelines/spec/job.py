"""`Job`: one request on its way through the lane, with its own cancel flag."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.spec.errors import Cancelled
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """`model` is the record of `request.model`, `refiner` of `request.refiner.model`, `parts` the others by their id.

    `tiny_vae` is one that can draw its previews, None where there is none. The flag is the job's own: a late click
    never hits the next.
    """

    id: int
    request: GenerationRequest
    model: ModelRecord
    refiner: ModelRecord | None = None
    parts: Mapping[str, ModelRecord] = field(default_factory=dict)
    tiny_vae: ModelRecord | None = None
    _cancel: threading.Event = field(default_factory=threading.Event, repr=False)

    def cancel(self) -> None:
        """Safe from every thread, at every time, any number of times."""
        self._cancel.set()

    @property
    def cancelled(self) -> bool:
        return self._cancel.is_set()

    def check(self) -> None:
        """Raises Cancelled once `cancel()` was called. Called at every safe point."""
        if self._cancel.is_set():
            raise Cancelled(f"job {self.id}")
