"""`Occupancy`: the parts that are loaded and where they lie, how much a plan may take, and who leaves to make room."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any

import psutil
import torch

from pipelines.runtime.adapters import Adapters
from pipelines.runtime.card import Card
from pipelines.runtime.components import ComponentStore, PartKey
from pipelines.runtime.conditioning.table import networks_beside
from pipelines.runtime.loader import Loader, Model
from pipelines.runtime.lodging import Lodging
from pipelines.runtime.placement import Budget, Placement, Stage
from pipelines.runtime.readers import Readers, card_of
from pipelines.runtime.stages import Stages
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions


class Occupancy:
    """`card` is the device that computes, `readers` that of the text encoders unless the options tell it.

    `models` are those of the job at hand. One thread. Raises EngineError for a device that does not answer.
    """

    def __init__(self, options: EngineOptions, card: Card, readers: Card | None) -> None:
        self.card = card
        self.lodging = Lodging(card.mover)
        self.adapters = Adapters(self.lodging)
        self.store = ComponentStore(self._free, card.release, self._left, self._is_held, self.adapters.settle)
        own = readers or card_of(options.encoders_device, card)
        self.readers = Readers(own, self.store, self.adapters)
        self.loader = Loader(self.store, card.device, options, self.house)
        self.models: Sequence[Model] = ()

    def budget(self) -> Budget:
        """With all that is loaded now, as it can leave."""
        loaded = sum(size for _, size in self._lying())
        if not self.card.apart:
            return Budget(vram=0, ram=self.card.free() + loaded, device=False)
        ram = psutil.virtual_memory().available + self.lodging.at_home + self.readers.ram
        vram = self.card.free() + self.lodging.on_card + loaded
        return Budget(vram=vram, ram=ram, encoders=self.readers.budget)

    def settle(self, stages: Stages) -> None:
        """From now on parts are loaded to where the placement has them; what it does not keep on the card leaves."""
        placement = stages.placement
        self.loader.in_ram = stages.waits_in_ram
        self.loader.readers, self.loader.beside = self.readers.device(placement.reading), False
        self.lodging.keep([place for place in placement.parts if place.always])

    def make_room(self, job: Job, models: Sequence[Model], stages: Stages) -> None:
        """For the job at hand and its models: what others have left leaves, as far as it needs the memory."""
        self.models = models
        own = {key for model in models for key in model.keys.values()}
        self._take_off(job, own, stages.placement)
        foreign = self._foreign(job, own)
        for part in foreign.values():
            self.lodging.leave(part)
        if stages.waits_in_ram:
            self._leave_card(stages.at_once)
        self._drop(foreign, stages.placement)
        self.readers.make_room(own, stages.placement)

    def house(self, part: torch.nn.Module) -> None:
        """A home has the weights as they were loaded."""
        if not self.lodging.has(part):
            self.adapters.settle(part)
            self.lodging.house(part)

    def where(self, item: tuple[PartKey, Any]) -> tuple[PartKey, int, int]:
        """Of a part in the store, its bytes in RAM and on the card."""
        key, part = item
        size = self.store.size_of(key) + self.adapters.size_of(part)
        if key.beside:
            return (key, size, 0) if self.readers.in_ram(key) else (key, 0, size)
        ram, card = self.lodging.lies(part) or ((0, size) if self.card.apart else (size, 0))
        return key, ram, card

    def retreat(self, stage: Stage, placement: Placement) -> None:
        """After memory ran out in `stage` of a card: the models leave where it did."""
        self.lodging.send(always=True)
        self.store.drop(key for key, size in self._lying() if size)
        if stage is Stage.ENCODE:
            self.readers.retreat(placement)

    def leave(self) -> None:
        """The job at hand is over, or begins anew: what is not to stay on the card goes home."""
        self.models = ()
        self.lodging.send()

    def _take_off(self, job: Job, own: Collection[PartKey], placement: Placement) -> None:
        """Changed weights leave that lie beside those of the job's models and that it has no use or no room for."""
        if job.request.loras and not placement.afresh:
            return
        for key, part in self.store.parts():
            if key in own and self.adapters.size_of(part):
                self.adapters.settle(part)

    def _leave_card(self, at_once: bool) -> None:
        """What a job before has loaded to the card gets a home; this one may not even ask for it."""
        for model in self.models:
            for name, key in model.keys.items():
                if (
                    key.beside
                    or key not in self.store
                    or not isinstance(self.store.part(key), torch.nn.Module)
                ):
                    continue
                if at_once or not name.startswith("text_encoder"):
                    self.house(self.store.part(key))
                elif not self.lodging.has(self.store.part(key)):
                    self.store.drop([key])

    def _foreign(self, job: Job, own: Collection[PartKey]) -> dict[PartKey, Any]:
        """Also what is of the same model, but in other weights or of files that were replaced."""
        beside = {record.path for record in job.parts.values()} | {str(p) for p, _ in networks_beside(job)}
        return {key: part for key, part in self.store.parts() if not (key in own or key.folder in beside)}

    def _drop(self, foreign: Collection[PartKey], placement: Placement) -> None:
        """The oldest first, as far as the memory is needed."""
        parts = self._lying()
        mine = sum(size for key, size in parts if key not in foreign)
        others = [key for key, size in parts if size and key in foreign]
        wanted = placement.peak_vram if placement.device else placement.peak_ram
        while others and self.card.free() + mine + self.lodging.on_card < wanted:
            self.store.drop([others.pop(0)])

    def _lying(self) -> list[tuple[PartKey, int]]:
        """What lies where computing needs memory, and has no home elsewhere, with its bytes; the oldest first."""
        return [
            (key, self.store.size_of(key) + self.adapters.size_of(part))
            for key, part in self.store.parts()
            if not self.lodging.has(part) and not key.beside
        ]

    def _free(self) -> int:
        """Where parts are loaded to."""
        if self.loader.beside:  # room was made before
            return sys.maxsize
        return psutil.virtual_memory().available if self.loader.in_ram else self.card.free()

    def _is_held(self, key: PartKey) -> bool:
        """Whether to let go of this part frees nothing where parts are loaded to now.

        The job at hand may have it, or it may be a text encoder on a device of its own.
        """
        if key.beside and not (self.loader.in_ram and self.readers.in_ram(key)):
            return True
        return any(key == model.keys[name] for model in self.models for name in model.parts.got)

    def _left(self, part: Any) -> None:
        self.lodging.forget(part)
        self.adapters.forget(part)
