"""`Usage`: what computing really takes on this device, stage by stage, for the plans of later pictures."""

from __future__ import annotations

import logging
from pathlib import Path

from pipelines.library.measured import keep, measured_on
from pipelines.runtime import device as devices
from pipelines.runtime.card import Card
from pipelines.runtime.fitted import Fitted, units_of, with_new
from pipelines.runtime.placement import Stage
from pipelines.runtime.stages import Stages
from pipelines.spec.errors import EngineError
from pipelines.spec.measured import Measured

_SHORT = 1.25  # of what there was, when that was too little: a guess, so that the next plan leaves more

log = logging.getLogger(__name__)


class Usage:
    """`file` keeps what is seen for the next start; empty: nothing is kept. One that is damaged costs no picture."""

    def __init__(self, card: Card, file: str) -> None:
        self._card = card
        self._file = Path(file) if file else None
        self._device = devices.name_of(card.device)
        self.seen = self._kept()

    def taken(self, stage: Stage, stages: Stages, short: bool = False) -> None:
        """A stage of a job is over that began with `card.mark()`; `short`: it wanted more than there was.

        What a job adds to its model takes memory of its own, so that only plain ones teach anything.
        """
        size = self._card.taken()
        _, _, shape, activations = stages.placement.asked
        if short and size is not None:
            size = int(_SHORT * size)
        if size is None or stages.changed or not isinstance(activations, Fitted):
            return
        tile = stages.placement.tile
        units = units_of(activations.base, stage.value, shape, tile)
        expected = activations.of(stage.value, shape, tile)
        new = Measured(family=stages.family, stage=stage.value, units=units, size_bytes=size)
        if new in self.seen:
            return
        log.info("%s of %s took %d bytes, and %d were expected", stage.value, new.family, size, expected)
        self.seen = with_new(self.seen, new)
        self._keep(new)

    def _keep(self, new: Measured) -> None:
        if self._file is None:
            return
        try:
            keep(self._file, self._device, new)
        except EngineError as error:
            log.warning("%s", error)

    def _kept(self) -> tuple[Measured, ...]:
        if self._file is None:
            return ()
        try:
            return measured_on(self._file, self._device)
        except EngineError as error:
            log.warning("%s", error)
            return ()
