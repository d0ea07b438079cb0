"""From a finding, or from an error, to what a record says of it."""

from __future__ import annotations

import dataclasses

from pipelines.library.detect.finding import Finding
from pipelines.spec.errors import BrokenModel, EngineError, IncompleteModel, UnsafeModel
from pipelines.spec.record import Kind, ModelRecord, State

_STATES = {IncompleteModel: State.INCOMPLETE, UnsafeModel: State.UNSAFE, BrokenModel: State.BROKEN}

_FOLDER = "Such a model in one file cannot be loaded yet. Use the diffusers folder of it."
# What is recognised in a single file and has no use in this program so far. A row goes when its use comes.
NOT_YET: dict[Kind, str] = {
    Kind.CHECKPOINT: _FOLDER,
    Kind.UNET: _FOLDER,
    Kind.TRANSFORMER: _FOLDER,
    Kind.CONTROLNET: "Its numbers are of a kind that cannot be read yet. Use one in 16 or 32 bits.",
    Kind.VAE: "Its numbers are of a kind that cannot be read yet. Use one in 16 or 32 bits.",
    Kind.TEXT_ENCODER: "Its numbers are of a kind that cannot be read yet. Use one in 16 or 32 bits.",
    Kind.IMAGE_ENCODER: "Image encoders in one file cannot be loaded yet. An IP-Adapter takes the folder of it.",
    Kind.T2I_ADAPTER: "T2I-Adapters cannot be used yet; a ControlNet can.",
    Kind.UPSCALER: "Upscalers cannot be used yet.",
}


def with_finding(record: ModelRecord, finding: Finding, size_bytes: int | None = None) -> ModelRecord:
    """In one step, as it is done to thousands; without `size_bytes` the record keeps its own."""
    return dataclasses.replace(
        record,
        size_bytes=record.size_bytes if size_bytes is None else size_bytes,
        kind=finding.kind,
        family=finding.family,
        base=finding.base,
        variant=finding.variant,
        layout=finding.layout,
        prediction=finding.prediction,
        dtype=finding.dtype or record.dtype,
        quantisation=finding.quantisation,
        parameters=finding.parameters,
        needs=finding.needs,
        assumed=finding.assumed,
        state=finding.state,
        problem=finding.reason,
    )


def with_error(record: ModelRecord, error: EngineError) -> ModelRecord:
    state = next((state for kind, state in _STATES.items() if isinstance(error, kind)), State.UNSUPPORTED)
    return dataclasses.replace(record, problem=str(error), state=state)


def not_yet(record: ModelRecord) -> ModelRecord:
    """A record of a single file that nothing here uses so far."""
    if record.state is State.READY and record.kind is Kind.TINY_VAE and record.variant == "encoder":
        text = "It reads pictures and draws none; previews take the decoder beside it."
        return dataclasses.replace(record, problem=text, state=State.UNSUPPORTED)
    if record.state is not State.READY or record.kind not in NOT_YET:
        return record
    return dataclasses.replace(record, problem=NOT_YET[record.kind], state=State.UNSUPPORTED)
