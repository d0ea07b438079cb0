"""What is wrong with the weights that a request asks for."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.spec.errors import shortened
from pipelines.spec.problem import Problem
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest
from pipelines.spec.weights import NAMES, bits_of, weights_of


def weights_problems(request: GenerationRequest, record: ModelRecord | None) -> Iterator[Problem]:
    """Numbers that were packed once have lost what more bits would hold."""
    if not request.weights:
        return
    row = weights_of(request.weights)
    if row is None:
        known = f"Known: {', '.join(NAMES)}, or empty for the weights as they are."
        yield Problem("weights", f"There are no weights '{shortened(request.weights)}'.", known)
    elif record and bits_of(record.dtype) <= row.bits and not row.is_kind(record.dtype):
        text = f"'{record.title}' has its weights in {record.dtype} already: {row.id} would save nothing."
        yield Problem("weights", text, "Leave its weights as they are, or choose fewer bits.")
