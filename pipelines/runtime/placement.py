"""Where the parts of a model lie, and when, so that a picture fits the device: `plan`, a pure function.

Ways to make it fit are tried in the order of what they cost, and the first that fits is taken:
1. everything stays on the card; 2. text encoders leave it once the prompt is read; 3. one stage at a time, the other
parts wait in RAM; 4. a part of the denoiser stays and the rest of it streams (residency.py), up to all of it.
A VAE that does not fit even alone decodes in tiles; text encoders for which RAM is too small are read anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum

from pipelines.runtime.activations import MIB, Activations
from pipelines.runtime.residency import Streaming, least, streaming
from pipelines.spec import events
from pipelines.spec.sizes import Network, Shape, Sizes

TILE = 512  # pixels a side
RESERVE = int(0.9 * 2**30)  # CUDA's own context, and the desktop's windows
# CUDA's allocator takes memory in pieces of 2 to 20 MB, and other programs' windows grow: bytes that are left free.
MARGIN = int(0.3 * 2**30)
# Of what a stage was thought to take, when it ran out of memory: clearly less if there is such a plan, else as little
# as there is. Two hundredths are the least that counts, as what was planned is met within so much (lodging.py).
CLEARLY_LESS = 0.85
_AGAIN = (CLEARLY_LESS, *(hundredths / 100 for hundredths in range(86, 99)))


class Rung(IntEnum):
    """From quick to slow."""

    RESIDENT = 0
    ENCODERS_LEAVE = 1
    STAGES = 2
    PARTIAL = 3
    STREAMED = 4
    NONE = 5  # it does not fit


class Stage(StrEnum):
    """The stages of a job that take memory of their own; a load is made for what denoises."""

    SEE = "see"  # an image encoder is asked, in jobs that have one
    ENCODE = "encode"
    DENOISE = "denoise"
    DECODE = "decode"


class Reading(StrEnum):
    """Where text encoders compute: on the device of the rest, on a card of their own, or on the processor in RAM."""

    HERE = ""
    CARD = "card"
    RAM = "ram"


def stage_of(stage: events.Stage) -> Stage:
    own = {
        events.Stage.ENCODE: Stage.ENCODE,
        events.Stage.DECODE: Stage.DECODE,
        events.Stage.SAVE: Stage.DECODE,
    }
    return own.get(stage, Stage.DENOISE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bytes that are free, `vram` without what must stay so. No `device`: all lies in RAM and `vram` is not looked at.

    `copy_ratio` is the time to copy all of a denoiser to the device over that of one of its steps; measured, or 1.
    `encoders` are bytes of a device that text encoders have for themselves, 0 for the processor; None: they have none.
    `limits` are those of single stages, after they ran out of memory.
    """

    vram: int
    ram: int
    device: bool = True
    copy_ratio: float = 1.0
    encoders: int | None = None
    limits: Mapping[Stage, int] = field(default_factory=dict)

    @classmethod
    def of_card(cls, vram: int, ram: int) -> Budget:
        """Of a card of so many bytes with nothing on it but the desktop."""
        return cls(vram=max(0, vram - RESERVE), ram=ram)

    def most(self, stage: Stage) -> int:
        free = self.vram if self.device else self.ram
        return min(free, self.limits.get(stage, free))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Of one part. `always` on the device, or only for its `stage`; of `size_bytes` so many `stay` there in its stage.

    The rest streams through an `arena` of `slots` of its largest block. `streamed` are those blocks' places among all.
    """

    name: str
    model: str
    stage: Stage
    size_bytes: int
    stays: int
    always: bool
    streamed: tuple[int, ...] = ()
    slots: float = 0
    arena: int = 0

    @property
    def on_device(self) -> int:
        return self.stays + self.arena


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """`peaks` in bytes by each stage of the job. `tile` is 0 where the picture is decoded in one piece.

    `from_file`: text encoders do not wait in RAM but are read again for the next prompt. `afresh`: what LoRAs change is
    computed in each step, as there is no room for a second copy of it. `fits` is False on the rung NONE, whose peaks
    are the least there is. `reading` other than HERE: text encoders lie there for good, and take `peak_encoders`.
    """

    rung: Rung
    parts: tuple[Place, ...]
    added: int
    tile: int
    from_file: bool
    afresh: bool
    peaks: Mapping[Stage, int]
    peak_vram: int
    peak_ram: int
    device: bool
    reading: Reading
    peak_encoders: int
    asked: tuple[Sizes, Budget, Shape, Activations] = field(repr=False, compare=False)

    @property
    def fits(self) -> bool:
        return self.rung is not Rung.NONE

    @property
    def streamed_bytes(self) -> int:
        """What crosses the bus in a step of the denoiser that streams most."""
        return max((p.size_bytes - p.stays for p in self.parts if p.stage is Stage.DENOISE), default=0)

    @property
    def pace(self) -> str:
        """What makes a step slower than on a card that has it all, as in `Work.way`; '' for nothing.

        In quarters: the times of plans that differ by a block may stand for each other.
        """
        whole = sum(part.size_bytes for part in self.parts if part.stage is Stage.DENOISE)
        away = sum(part.size_bytes - part.stays for part in self.parts if part.stage is Stage.DENOISE)
        return f"streams={-(-4 * away // whole)}/4" if away else ""

    def cheaper(self, stage: Stage) -> Placement:
        """The next plan down, after `stage` ran out of memory: one that takes less there. May not fit.

        The quickest that takes 85 % of it at the most; where there is none, one of the least, by 2 % or more.
        """
        sizes, budget, shape, activations = self.asked
        if stage is Stage.ENCODE and self.reading is Reading.CARD:
            return plan(sizes, replace(budget, encoders=0), shape, activations)
        found = self
        for share in _AGAIN:
            found = plan(sizes, self._smaller(stage, share), shape, activations)
            if found.fits:
                break
        return found

    def _smaller(self, stage: Stage, share: float) -> Budget:
        """The budget with so much of what `stage` took, in the memory that it took it of."""
        budget = self.asked[1]
        if stage is Stage.ENCODE and self.reading is Reading.RAM:
            return replace(budget, ram=int(share * self.peak_ram))
        return replace(budget, limits={**budget.limits, stage: int(share * self.peaks[stage])})


def plan(sizes: Sizes, budget: Budget, shape: Shape, activations: Activations) -> Placement:
    """The quickest placement that stays within the budget, or one on the rung NONE that says what is needed."""
    asked = (sizes, budget, shape, activations)
    for reading in _readings(budget):
        for way in _ways(budget.device, bool(sizes.merged)):
            if (found := _placed(replace(way, reading=reading), asked)) is not None:
                return found
    return _least(asked)


def _readings(budget: Budget) -> tuple[Reading, ...]:
    if budget.encoders is None or not budget.device:
        return (Reading.HERE,)
    return (*((Reading.CARD,) if budget.encoders else ()), Reading.RAM, Reading.HERE)


@dataclass(frozen=True, slots=True)
class _Way:
    rung: Rung
    tile: int
    from_file: bool
    afresh: bool = False
    reading: Reading = Reading.HERE

    def beside(self, sizes: Sizes, device: bool) -> tuple[int, int]:
        """Bytes beside a denoiser, and those of them that are there in all stages.

        A part with a home in RAM is changed where it lies, without a copy. A processor keeps what it has read.
        """
        if self.rung is Rung.RESIDENT or not device:
            own = sizes.added + (0 if self.afresh else sizes.merged) + (0 if device else sizes.seeing)
            return own, own
        return sizes.added, sizes.kept


def _ways(device: bool, merged: bool) -> Iterator[_Way]:
    """A processor has no second memory to stream from: there parts leave by being forgotten.

    Nor has it one to change weights from: it does without copies of the `merged` first of all, a card last.
    """
    rungs = (Rung.RESIDENT, Rung.ENCODERS_LEAVE, Rung.STAGES, *((Rung.PARTIAL,) if device else ()))
    for from_file in (False, True):
        for tile in (0, TILE):
            for rung in rungs:
                if device or rung is Rung.RESIDENT or from_file:
                    yield _Way(rung, tile, from_file)
                    if merged and not device:
                        yield _Way(rung, tile, from_file, afresh=True)
    if merged and device:
        yield from (_Way(Rung.RESIDENT, tile, False, afresh=True) for tile in (0, TILE))


def _placed(
    way: _Way, asked: tuple[Sizes, Budget, Shape, Activations], most: Mapping[Stage, int] | None = None
) -> Placement | None:
    """None where it does not fit. `most` overrules the budget: how much each stage may take."""
    sizes, budget, shape, activations = asked
    room = most or {stage: budget.most(stage) for stage in Stage}
    needs = _needs(way, shape, activations)
    away = _away(way, sizes)
    here = replace(sizes, encoders=(), merged=sizes.merged - sizes.merged_text) if away else sizes
    parts = tuple(_parts(way, here, {stage: room[stage] - needs[stage] for stage in Stage}, budget))
    beside = way.beside(here, budget.device)
    lying = {stage: _lying(parts, stage, beside, budget.device) for stage in Stage if stage is not Stage.SEE}
    if sizes.seeing:
        lying[Stage.SEE] = _asking(parts, beside[1] + (sizes.seeing if budget.device else 0))
    peaks = {stage: needs[stage] + size for stage, size in lying.items()}
    waiting = _waiting(way, here, parts) if budget.device else 0
    encoders = sum(place.size_bytes for place in away)
    if away:
        own = activations.encode(shape) + (0 if way.afresh else sizes.merged_text)
        encoders += own * (sizes.widened if way.reading is Reading.RAM else 1)
    if way.reading is Reading.RAM:
        waiting = max(waiting, encoders) if way.from_file else waiting + encoders
    if most is None and (
        any(peak > room[stage] for stage, peak in peaks.items())
        or (budget.device and waiting > budget.ram)
        or (way.reading is Reading.CARD and encoders > (budget.encoders or 0))
    ):
        return None
    rung = way.rung
    denoisers = [part for part in parts if part.stage is Stage.DENOISE]
    if rung is Rung.PARTIAL and all(len(p.streamed) == _blocks(sizes, p) for p in denoisers):
        rung = Rung.STREAMED
    peak = max(peaks.values())
    vram, ram = (peak, waiting) if budget.device else (0, peak)
    return Placement(
        rung=rung, parts=(*away, *parts), added=sizes.added, tile=way.tile, from_file=way.from_file, afresh=way.afresh,
        peaks=peaks, peak_vram=vram, peak_ram=ram, device=budget.device, reading=way.reading,
        peak_encoders=encoders, asked=asked,
    )  # fmt: skip


def _away(way: _Way, sizes: Sizes) -> tuple[Place, ...]:
    """The text encoders where they have a device of their own, for good."""
    times = {Reading.HERE: 0, Reading.CARD: 1, Reading.RAM: sizes.widened}[way.reading]
    return tuple(
        Place(
            name=network.name, model=network.model, stage=Stage.ENCODE, size_bytes=times * network.size_bytes,
            stays=times * network.size_bytes, always=True,
        )
        for network in sizes.encoders
        if times
    )  # fmt: skip


def _needs(way: _Way, shape: Shape, activations: Activations) -> dict[Stage, int]:
    return {
        Stage.SEE: activations.encode(shape),
        Stage.ENCODE: 0 if way.reading is not Reading.HERE else activations.encode(shape),
        Stage.DENOISE: activations.denoise(shape),
        Stage.DECODE: activations.decode(shape, way.tile),
    }


def _parts(way: _Way, sizes: Sizes, room: Mapping[Stage, int], budget: Budget) -> Iterator[Place]:
    """`room` is what each stage leaves to weights."""
    for network in sizes.encoders:
        always = way.rung is Rung.RESIDENT
        others = sum(n.size_bytes for n in sizes.encoders if n.model == network.model and n is not network)
        free = room[Stage.ENCODE] - others - sizes.kept if way.rung >= Rung.STAGES and budget.device else None
        yield _place(network, Stage.ENCODE, always, free, 1.0)  # each prompt once: no step's time is known
    for network in sizes.denoisers:
        always = way.rung <= Rung.ENCODERS_LEAVE
        free = room[Stage.DENOISE] - sizes.added if way.rung is Rung.PARTIAL else None
        yield _place(network, Stage.DENOISE, always, free, budget.copy_ratio)
    always = way.rung <= Rung.ENCODERS_LEAVE
    yield Place(
        name="vae", model="", stage=Stage.DECODE, size_bytes=sizes.vae, stays=sizes.vae, always=always
    )


def _place(network: Network, stage: Stage, always: bool, room: int | None, copy_ratio: float) -> Place:
    """Whole, unless there is `room` for a part of it only."""
    size = network.size_bytes
    place = Place(
        name=network.name, model=network.model, stage=stage, size_bytes=size, stays=size, always=always
    )
    if room is None or size <= room:
        return place
    blocks = tuple(block.size_bytes for block in network.blocks)
    found = streaming(blocks, room - network.rest, copy_ratio)
    return place if found is None else _streaming(place, found)


def _streaming(place: Place, found: Streaming) -> Place:
    stays = place.size_bytes - found.streamed_bytes
    return replace(place, stays=stays, streamed=found.streamed, slots=found.slots, arena=found.arena)


def _blocks(sizes: Sizes, place: Place) -> int:
    networks = (n for n in sizes.denoisers if (n.name, n.model) == (place.name, place.model))
    return len(next(networks).blocks)


def _lying(parts: tuple[Place, ...], stage: Stage, beside: tuple[int, int], device: bool) -> int:
    """Bytes of weights on the device in a stage: what is there always, and the stage's own parts, model by model.

    `beside` is what is added to a denoiser, and how much of it does not leave.
    """
    added, kept = beside
    always = sum(part.on_device for part in parts if part.always)
    visits = dict[str, int]()
    for part in parts:
        if part.stage is stage and not part.always:
            visits[part.model] = visits.get(part.model, 0) + part.on_device
    # A processor forgets text encoders between two models, and denoisers only once the picture is to be decoded.
    turns = device or stage is Stage.ENCODE
    own = max(visits.values(), default=0) if turns else sum(visits.values())
    stays_for_all = any(part.always for part in parts if part.stage is Stage.DENOISE)
    if stage is Stage.ENCODE and stays_for_all and own:
        return own + kept  # a new prompt sends the others to RAM for as long as it is read
    return always + own + (added if stage is Stage.DENOISE or stays_for_all else kept)


def _asking(parts: tuple[Place, ...], beside: int) -> int:
    """As `_lying`, while an image encoder is asked, which is in `beside`: what can leave does so."""
    resident = all(part.always for part in parts)
    return (sum(part.on_device for part in parts) if resident else 0) + beside


def _waiting(way: _Way, sizes: Sizes, parts: tuple[Place, ...]) -> int:
    """RAM for the parts that leave the device, or never lie there whole."""
    if way.rung is Rung.RESIDENT:
        return 0
    encoders = 0 if way.from_file else sum(network.size_bytes for network in sizes.encoders)
    others = sum(part.size_bytes for part in parts if part.stage is not Stage.ENCODE)
    return encoders + others + sizes.added - sizes.kept + sizes.seeing + 64 * MIB


def _least(asked: tuple[Sizes, Budget, Shape, Activations]) -> Placement:
    """What takes least of everything, to be told how much that is."""
    sizes, budget, shape, activations = asked
    way = _Way(Rung.PARTIAL if budget.device else Rung.STAGES, TILE, True, bool(sizes.merged))
    way = replace(way, reading=Reading.HERE if Reading.RAM not in _readings(budget) else Reading.RAM)
    needs = _needs(way, shape, activations)
    most = dict(needs)
    encoders = () if way.reading is Reading.RAM else sizes.encoders
    for stage, networks in ((Stage.ENCODE, encoders), (Stage.DENOISE, sizes.denoisers)):
        models = {network.model for network in networks}
        most[stage] += sizes.added if stage is Stage.DENOISE else sizes.kept
        own = max((_least_of([n for n in networks if n.model == m]) for m in models), default=0)
        most[stage] += own
    placed = _placed(way, asked, most)
    assert placed is not None
    return replace(placed, rung=Rung.NONE)


def _least_of(networks: Sequence[Network]) -> int:
    """Of networks that lie there together: the largest streams, the others are whole."""
    whole = sum(network.size_bytes for network in networks)
    return min(whole - max(0, _sum(network) - least(_sizes(network))) for network in networks)


def _sizes(network: Network) -> tuple[int, ...]:
    return tuple(block.size_bytes for block in network.blocks)


def _sum(network: Network) -> int:
    return sum(_sizes(network))
