"""`Problem`, and what a model predicts: what all checks of a request share."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.spec.families.base import Family, Prediction
from pipelines.spec.record import ModelRecord


@dataclass(frozen=True, slots=True)
class Problem:
    """`field` is a dotted path such as `size.width`; `message` one sentence, `hint` what to do.

    `stops`: whether the request cannot run like this; what `advice` says does not.
    """

    field: str
    message: str
    hint: str = ""
    stops: bool = True

    @property
    def told(self) -> str:
        """Message and hint as one text."""
        return f"{self.message} {self.hint}".strip()


def prediction_of(record: ModelRecord | None, family: Family) -> Prediction:
    """What this model predicts: its own word where it has one, else its family's."""
    own = record.prediction if record else ""
    return Prediction(own) if own in tuple(Prediction) else family.prediction
