"""`Terms`: what one call of the harness was asked for, handed to every area."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.pairs import AB, ABBA


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`device` 'cpu' or 'cuda'; `quick` only shows that the benchmarks run; `model` a diffusers folder."""

    device: str = "cpu"
    quick: bool = False
    model: Path

    def times(self, full: int) -> int:
        """How many pairs or runs: `full`, or one where it is to be quick."""
        return 1 if self.quick else full

    @property
    def order(self) -> str:
        return AB if self.quick else ABBA
