"""What is known of a picture before it is made: whether it fits, how, how long it takes, and what would fit instead."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.spec.request import GenerationRequest, Size
from pipelines.spec.run_time import TimeEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes of one memory: the most that the picture takes there, and what it may have."""

    peak: int
    free: int

    @property
    def fits(self) -> bool:
        return self.peak <= self.free


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What of a request would be another one: the fields that are not None."""

    size: Size | None = None
    bare: bool = False  # without LoRA and ControlNet

    def applied(self, request: GenerationRequest) -> GenerationRequest:
        changes: dict[str, object] = {"size": self.size} if self.size else {}
        changes |= {"loras": (), "controls": (), "ip_adapters": ()} if self.bare else {}
        return _replaced(request, changes)

    def undone(self, request: GenerationRequest, before: GenerationRequest) -> GenerationRequest:
        """`request` with the changed fields as they were in `before`; the others stay as they are now."""
        names = (
            *(("size",) if self.size else ()),
            *(("loras", "controls", "ip_adapters") if self.bare else ()),
        )
        return _replaced(request, {name: getattr(before, name) for name in names})


def _replaced(request: GenerationRequest, changes: dict[str, object]) -> GenerationRequest:
    data = {name: getattr(request, name) for name in request.__dataclass_fields__}
    return GenerationRequest(**{**data, **changes})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheaper:
    """Another way that fits. `words` name what is changed, `plan` how it would lie."""

    words: str
    plan: str
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """`card` is None where all is computed in RAM. `parts`: each part with its size and where it lies.

    `problem` says why nothing can be planned, and then nothing else is known. `advice` names ways that take another
    file of the model.
    """

    fits: bool = True
    words: str = ""
    ram: Need | None = None
    card: Need | None = None
    parts: tuple[str, ...] = ()
    cheaper: tuple[Cheaper, ...] = ()
    advice: str = ""
    time: TimeEstimate | None = None
    problem: str = ""
