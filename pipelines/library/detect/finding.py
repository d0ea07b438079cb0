"""`Finding`: what a file or folder turned out to be."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.spec.record import Kind, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`base` is the family's common word ('sd1', 'flux', 'sd3', 'any', 'sd1/sd2/sdxl' where several fit).

    `family` is the id of the row in FAMILIES, empty when none supports it. `layout` says whose names the tensors have,
    `parts` what is in the file, `needs` what a picture takes beside it, `assumed` what the file itself does not say and
    was taken for granted. `reason` is why it cannot be used, empty when `state` is ready.
    """

    kind: Kind
    base: str = ""
    family: str = ""
    variant: str = ""
    layout: str = ""
    prediction: str = ""
    guidance: str = ""
    dtype: str = ""
    quantisation: str = ""
    parameters: int = 0
    parts: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    state: State = State.READY
    reason: str = ""
