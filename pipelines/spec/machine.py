"""What the engine found on this computer that a person can choose from."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.spec.measured import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """`why` says why it cannot be used here, as the rest of a sentence; empty where it can."""

    id: str
    title: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`devices` that answer, by their ids in `EngineOptions.device`; all kernels of attention. Empty: nobody looked.

    `problems` are sentences on what is off and does not keep pictures from being made.
    `rates` of the device that draws, None for one that computes in RAM.
    """

    devices: tuple[Option, ...] = ()
    attention: tuple[Option, ...] = ()
    rates: Rates | None = None
    problems: tuple[str, ...] = ()
