"""What is known of a picture before it is made: whether it fits, how, how long it takes, and what would fit instead."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.spec.request import GenerationRequest, Size
from pipelines.spec.run_time import TimeEstimate
from pipelines.spec.weights import weights_of


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
    """What of a request would be another one: the fields that are not None.

    `bare`: without LoRA and ControlNet; `weights` as in `GenerationRequest`.
    """

    size: Size | None = None
    bare: bool = False
    weights: str | None = None

    @property
    def words(self) -> str:
        """What is changed, without a full stop."""
        row = weights_of(self.weights or "")
        texts = [f"{row.id} weights"] if row else []
        texts += [f"{self.size.width} × {self.size.height} pixels"] if self.size else []
        texts += ["no ControlNet and no LoRA"] if self.bare else []
        return ", ".join(texts)

    def applied(self, request: GenerationRequest) -> GenerationRequest:
        changes: dict[str, object] = {"size": self.size} if self.size else {}
        changes |= {"loras": (), "controls": (), "ip_adapters": ()} if self.bare else {}
        changes |= {"weights": self.weights} if self.weights is not None else {}
        return _replaced(request, changes)

    def undone(self, request: GenerationRequest, before: GenerationRequest) -> GenerationRequest:
        """`request` with the changed fields as they were in `before`; the others stay as they are now."""
        names = (
            *(("size",) if self.size else ()),
            *(("loras", "controls", "ip_adapters") if self.bare else ()),
            *(("weights",) if self.weights is not None else ()),
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

    `problem` says why nothing can be planned, and then nothing else is known.
    """

    fits: bool = True
    words: str = ""
    ram: Need | None = None
    card: Need | None = None
    parts: tuple[str, ...] = ()
    cheaper: tuple[Cheaper, ...] = ()
    time: TimeEstimate | None = None
    problem: str = ""
