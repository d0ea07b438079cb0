"""`Stages`: has the right parts of a job's models on the device in each of its stages, as its placement says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from pipelines.runtime.adapters import Adapters
from pipelines.runtime.components import ComponentStore
from pipelines.runtime.control_latents import seen, sees_latents
from pipelines.runtime.loader import Model
from pipelines.runtime.lodging import Lodging
from pipelines.runtime.low_rank import NONE, Adapter
from pipelines.runtime.phases import Phase, Source
from pipelines.runtime.placement import Place, Placement, Reading, Rung, Stage


class Stages:
    """`family` is that of the job's own model. `check` raises Cancelled.

    `changed`: the job adds something to its models, which a part that is read anew would lack.
    """

    def __init__(
        self,
        placement: Placement,
        lodging: Lodging,
        adapters: Adapters,
        store: ComponentStore,
        *,
        family: str,
        changed: bool,
        check: Callable[[], None],
    ) -> None:
        self.placement = placement
        self.family = family
        self._lodging = lodging
        self._adapters = adapters
        self._store = store
        self.changed = changed
        self._check = check
        self.sees = False  # whether an image encoder is asked now, or failed to be

    @property
    def waits_in_ram(self) -> bool:
        """Whether parts have a home in RAM, apart from the device."""
        return self.placement.device and self.placement.rung is not Rung.RESIDENT

    @property
    def at_once(self) -> bool:
        """Whether there is room for all parts at a time, in RAM or on the device."""
        return not self.placement.from_file

    def reading(self, model: Model) -> None:
        """The text encoders of `model` are to read a prompt."""
        places = self._places(Stage.ENCODE, model.record)
        places = [place for place in places if place.name in model.parts]
        if self.placement.reading is Reading.HERE:
            self._bring({model.parts[place.name]: place for place in places})
        self._settle({model.parts[place.name]: model.adapters.get(place.name, NONE) for place in places})

    def read(self, sources: Sequence[Source]) -> None:
        """All prompts of the job are read."""
        if self.placement.from_file and not self.changed:
            for source in sources:
                self._forget(source.model, [p.name for p in self._places(Stage.ENCODE, source.model.record)])

    @contextmanager
    def seeing(self, phase: Phase) -> Iterator[None]:
        """Before `drawing`, and for as long as it draws: the VAE sees what the phase wants latents of."""
        if not sees_latents(phase) or not self._lodging.has(phase.pipe.vae):
            yield
            return
        self._bring_vae(phase)
        with seen(phase):
            yield

    def drawing(self, phase: Phase) -> None:
        """The denoiser of `phase` is to work."""
        places = self._places(Stage.DENOISE, phase.record.id)
        beside = {net: self._whole(net, places) for net in phase.beside if self._lodging.has(net)}
        self._bring({**{getattr(phase.pipe, place.name): place for place in places}, **beside})
        self._settle({phase.denoiser: phase.adapter})

    @contextmanager
    def asking(self, network: nn.Module) -> Iterator[None]:
        """A network beside the model is to be asked, before the prompt is read; it has a home in RAM."""
        self._bring({network: self._whole(network, ())})
        try:
            yield
        finally:
            self._lodging.leave(network)

    def decoding(self, phases: Sequence[Phase], sources: Sequence[Source]) -> None:
        """The VAE of the last phase is to work; the denoisers have done their part of this picture."""
        turns = not self.placement.device and self.placement.rung is Rung.STAGES
        if turns and not self.changed:
            for phase in phases:
                setattr(phase.pipe, phase.family.denoiser, None)
            for source in sources:
                self._forget(source.model, [source.role.family.denoiser])
        self._bring_vae(phases[-1])

    def _bring_vae(self, phase: Phase) -> None:
        (place,) = (place for place in self.placement.parts if place.stage is Stage.DECODE)
        self._bring({phase.pipe.vae: place})

    def _whole(self, network: nn.Module, with_: Sequence[Place]) -> Place:
        """On the device when these are; where there are none, to be asked at once."""
        size, _ = self._lodging.lies(network) or (0, 0)
        stage = with_[0].stage if with_ else Stage.SEE
        always = any(place.always for place in with_)
        return Place(name="beside", model="", stage=stage, size_bytes=size, stays=size, always=always)

    def _settle(self, adapters: Mapping[nn.Module, Adapter]) -> None:
        for part, adapter in adapters.items():
            self._adapters.settle(part, adapter, self.placement.afresh, self._check)

    def _places(self, stage: Stage, record: str) -> list[Place]:
        return [p for p in self.placement.parts if p.stage is stage and p.model == record]

    def _bring(self, places: dict[nn.Module, Place]) -> None:
        places = {part: place for part, place in places.items() if self._lodging.has(part)}
        self._lodging.send(but=places)
        if not self._room_for(list(places.values())):
            self._lodging.send(but=places, always=True)
        for part, place in places.items():
            self._lodging.bring(part, place)

    def _room_for(self, places: list[Place]) -> bool:
        """Beside what is always on the card; a prompt may be read there while all else is in RAM."""
        if not places:
            return True
        stage, always = places[0].stage, sum(p.on_device for p in self.placement.parts if p.always)
        lying = always + sum(p.on_device for p in places if not p.always)
        _, budget, shape, activations = self.placement.asked
        computing = activations.encode(shape)
        return stage not in (Stage.SEE, Stage.ENCODE) or lying + computing <= budget.most(stage)

    def _forget(self, model: Model, names: Sequence[str]) -> None:
        model.parts.let_go(names)
        self._store.drop(model.keys[name] for name in names if name in model.keys)
