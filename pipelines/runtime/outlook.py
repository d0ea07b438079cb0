"""`outlook`: a job's plan, its time and its cheaper ways as one value for the window. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.library.weights import sizes_of
from pipelines.runtime.copy_ratio import Known
from pipelines.runtime.offers import Offer, offers
from pipelines.runtime.placement import MARGIN, Budget, Placement
from pipelines.runtime.placement_words import gb, part_name, place_words, words
from pipelines.runtime.preflight import SizesOf, preflight
from pipelines.spec.errors import EngineError
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.measured import Measured, Rates
from pipelines.spec.memory import IN_RAM, Memory, Room
from pipelines.spec.outlook import Cheaper, Need, Outlook
from pipelines.spec.run_time import Run, TimeEstimate, estimate, work_of
from pipelines.spec.weights import bits_now


def budget_of(memory: Memory) -> Budget:
    """What a picture may take: what is free, and what the models that are loaded would give back."""
    ram = memory.ram.free + memory.held(on_card=False)
    if memory.card is None:
        return Budget(vram=0, ram=ram, device=False)
    # What torch has taken and not given out is free to us, as in device.py.
    ours = max(memory.card.ours, memory.held(on_card=True))
    return Budget(
        vram=max(0, memory.card.free + ours - MARGIN), ram=ram, encoders=_encoders(memory.encoders, memory)
    )


def _encoders(room: Room | None, memory: Memory) -> int | None:
    """As in `Budget`."""
    if room is None or room == IN_RAM:
        return None if room is None else 0
    return max(0, room.free + max(room.ours, memory.held_beside) - MARGIN)


def outlook(
    job: Job,
    budget: Budget,
    *,
    runs: Iterable[Run] = (),
    device: str = "",
    dtype: str = "auto",
    seen: Iterable[Measured] = (),
    sizes: SizesOf = sizes_of,
    rates: Rates | None = None,
) -> Outlook:
    """`runs` are earlier pictures, `device` the name of the one that will draw. A broken model is a `problem`."""
    known = Known(device=device, rates=rates, runs=tuple(runs))
    try:
        family = by_id(job.model.family)
        found = preflight(job, budget, dtype, seen, sizes, known)
        time = estimate(work_of(job.request, family, found.pace), known.runs, device)
    except EngineError as error:
        return Outlook(fits=False, problem=" ".join(part for part in (error.message, error.hint) if part))
    other = () if found.fits else offers(found, bits_now(job.request, job.model), family.sizes.step)
    return told(found, other, time)


def told(found: Placement, other: Iterable[Offer], time: TimeEstimate | None) -> Outlook:
    _, budget, *_ = found.asked
    return Outlook(
        fits=found.fits,
        words=words(found),
        ram=Need(peak=found.peak_ram, free=budget.ram),
        card=Need(peak=found.peak_vram, free=budget.vram) if found.device else None,
        parts=tuple(
            f"{part_name(place.name)}: {gb(place.size_bytes)}, {place_words(place, found)}"
            for place in found.parts
        ),
        cheaper=tuple(
            Cheaper(words=offer.words, plan=words(offer.placement), change=offer.change) for offer in other
        ),
        time=time,
    )
