"""What a person adds to a model, and what is looked up when it is shown. None of it is in the model's file."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.spec.request import Sampling, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefaults:
    """What a request begins with when the model is chosen; the seed in `sampling` counts for nothing."""

    sampling: Sampling
    size: Size


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNote:
    """`used` is when the model was last chosen to draw, in seconds since 1970, 0 for never."""

    text: str = ""
    favourite: bool = False
    used: float = 0.0
    defaults: ModelDefaults | None = None


NO_NOTE = ModelNote()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPart:
    """One part of a model folder: `what` builds it, `files` hold its weights, `size_bytes` is their sum."""

    name: str
    what: str = ""
    files: tuple[str, ...] = ()
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """`sha256` in hex of a file, '' while it is not known; `autov2` and `autov3` are the names that sites give it.

    `report` says by name and text what fewer bits saved and cost, none where nobody measured it.
    """

    sha256: str = ""
    autov2: str = ""
    autov3: str = ""
    parts: tuple[ModelPart, ...] = ()
    report: tuple[tuple[str, str], ...] = ()
